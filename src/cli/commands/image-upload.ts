import type { Command } from 'commander'
import type { ShownUpload } from '../../wire/native/show-transfers.ts'
import { act, clientCommand, type PlaceFlags, type ProgramParts, placed } from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

type Flags = SessionFlags & PlaceFlags

interface ListFlags extends Flags {
  readonly all?: boolean
}

/** Declares `image upload`. */
export function imageUploadCommands(image: Command, parts: ProgramParts): void {
  const upload = image
    .command('upload')
    .description('files on their way to the server, sent by `image import`')

  placed(clientCommand(upload, 'list', 'the uploads of a project that are not yet images'))
    .option('--all', 'also those that became images of late')
    .action(act(parts, listUploads))

  placed(clientCommand(upload, 'delete <upload...>', 'drops what came of uploads')).action(
    act(parts, async (session, { region, project }: Flags, ids: readonly string[]) => {
      for (const id of ids) {
        const path = `/v1/uploads/${encodeURIComponent(id)}`
        await session.client.call('DELETE', path, { query: { region, project } })
      }
      session.print({ deleted: ids }, () => ids.map((id) => `Upload ${id} is deleted.\n`).join(''))
    }),
  )
}

async function listUploads(session: Session, { region, project, all = false }: ListFlags): Promise<void> {
  const [{ stateColour }, { formatBytes, formatTime }] = await Promise.all([
    import('../table.ts'),
    import('../format.ts'),
  ])
  const query = { region, project }
  const known = await session.client.call<{ uploads: readonly ShownUpload[] }>('GET', '/v1/uploads', {
    query,
  })
  const uploads = known.uploads.filter(({ state }) => all || state !== 'received')
  session.print({ total: uploads.length, uploads }, () =>
    session.table<ShownUpload>(
      [
        { head: 'UPLOAD', of: (one) => one.uploadId },
        { head: 'NAME', of: (one) => one.name },
        { head: 'STATE', of: (one) => one.state, colour: (one) => stateColour(one.state) },
        { head: 'CAME', align: 'right', of: (one) => formatBytes(one.offsetBytes) },
        {
          head: 'OF',
          align: 'right',
          of: (one) => (one.lengthBytes === null ? 'not said' : formatBytes(one.lengthBytes)),
        },
        { head: 'REGION', of: (one) => one.region },
        { head: 'CREATED (UTC)', of: (one) => formatTime(one.createdAtMs) },
        {
          head: 'EXPIRES (UTC)',
          of: (one) => (one.state === 'received' ? '' : formatTime(one.expiresAtMs)),
        },
        ...(all ? [{ head: 'IMAGE', of: (one: ShownUpload) => one.imageId ?? '' }] : []),
        { head: 'REASON', of: (one) => one.reason ?? '' },
      ],
      uploads,
      'No uploads.',
    ),
  )
}
