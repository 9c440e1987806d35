import { type Command, Option } from 'commander'
import type { ShownImage, ShownImageWhole } from '../../wire/native/show.ts'
import {
  act,
  clientCommand,
  type PlaceFlags,
  type ProgramParts,
  parseCount,
  placed,
  timed,
  type WaitFlags,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'
import { imageBundleCommands } from './image-bundle.ts'
import { imageCleanCommand } from './image-clean.ts'
import { imageCopyCommand } from './image-copy.ts'
import { imageCreateCommand } from './image-create.ts'
import { imageExportCommand } from './image-export.ts'
import { imageImportCommand } from './image-import.ts'
import { imageReportCommand } from './image-report.ts'
import { imageUploadCommands } from './image-upload.ts'

type Flags = SessionFlags & PlaceFlags

/** Declares `image`. */
export function imageCommands(program: Command, parts: ProgramParts): void {
  const image = program.command('image').description('custom images')

  placed(clientCommand(image, 'list', 'the images of a region, newest first'))
    .addOption(new Option('--kind <kind>', 'only these').choices(['base', 'custom']))
    .addOption(new Option('--state <state>', 'only these').choices(['creating', 'available', 'failed']))
    .option('--name <name>', 'only those of this name')
    .option('--limit <count>', 'the newest so many', parseCount)
    .action(
      act(
        parts,
        async (session, flags: Flags & { kind?: string; state?: string; name?: string; limit?: number }) => {
          const { region, project, name } = flags
          const query = { region, project, name, kinds: flags.kind, states: flags.state }
          const images = await session.listAll<ShownImage>('/v1/images', 'images', query, flags.limit)
          await printImages(session, images)
        },
      ),
    )

  placed(clientCommand(image, 'show <image>', 'one image, with its digest and disks')).action(
    act(parts, async (session, flags: Flags, id: string) => {
      await showImage(session, await getImage(session, flags, id))
    }),
  )

  imageImportCommand(image, parts)
  imageUploadCommands(image, parts)
  imageExportCommand(image, parts)
  imageBundleCommands(image, parts)
  imageCreateCommand(image, parts)
  imageCleanCommand(image, parts)
  imageReportCommand(image, parts)

  imageCopyCommand(image, parts)

  placed(clientCommand(image, 'delete <image...>', 'takes images off the lists')).action(
    act(parts, async (session, { region, project }: Flags, ids: readonly string[]) => {
      const gone: string[] = []
      for (const id of ids) {
        const path = `/v1/images/${encodeURIComponent(id)}`
        gone.push(
          (await session.client.call<{ id: string }>('DELETE', path, { query: { region, project } })).id,
        )
      }
      session.print({ deleted: gone }, () => gone.map((id) => `Image ${id} is deleted.\n`).join(''))
    }),
  )

  timed(placed(clientCommand(image, 'wait <image>', 'until an image is available'))).action(
    act(parts, async (session, flags: Flags & WaitFlags, id: string) => {
      const before = await getImage(session, flags, id)
      if (before.taskId !== null) await session.waitForDone([before.taskId], { timeoutMs: flags.timeout })
      const after = before.taskId === null ? before : await getImage(session, flags, id)
      if (after.state !== 'available') {
        const { CommandFailure, EXIT } = await import('../failure.ts')
        throw new CommandFailure(EXIT.fault, `Image ${after.id} is ${after.state}: ${after.reason ?? ''}`)
      }
      session.print(after, () => `Image ${after.id} is available.\n`)
    }),
  )
}

function getImage(session: Session, { region, project }: PlaceFlags, id: string): Promise<ShownImageWhole> {
  return session.client.call('GET', `/v1/images/${encodeURIComponent(id)}`, { query: { region, project } })
}

/** Whether an image was cleaned, and how many of its volumes could not be. */
function cleanedWord(cleaning: ShownImage['cleaning']): string {
  if (cleaning === null) return ''
  const word = cleaning.isPartial ? 'partly' : 'yes'
  return cleaning.leftVolumeCount === 0 ? word : `${word}, ${cleaning.leftVolumeCount} left`
}

async function printImages(session: Session, images: readonly ShownImage[]): Promise<void> {
  const [{ stateColour }, { formatBytes, formatTime }] = await Promise.all([
    import('../table.ts'),
    import('../format.ts'),
  ])
  session.print({ total: images.length, images }, () =>
    session.table<ShownImage>(
      [
        { head: 'IMAGE', of: (one) => one.id },
        { head: 'NAME', of: (one) => one.name },
        {
          head: 'STATE',
          of: (one) =>
            one.state === 'creating' ? `creating ${Math.floor(one.progressPermille / 10)} %` : one.state,
          colour: (one) => stateColour(one.state),
        },
        { head: 'KIND', of: (one) => one.kind },
        { head: 'OS', of: (one) => one.osName || one.osType },
        { head: 'SIZE', align: 'right', of: (one) => formatBytes(one.logicalBytes) },
        { head: 'DATA', align: 'right', of: (one) => formatBytes(one.dataBytes) },
        { head: 'STORED', align: 'right', of: (one) => formatBytes(one.storedBytes) },
        { head: 'CLEANED', of: ({ cleaning }) => cleanedWord(cleaning) },
        { head: 'REGION', of: (one) => one.region },
        { head: 'CREATED (UTC)', of: (one) => formatTime(one.createdAtMs) },
      ],
      images,
      'No images.',
    ),
  )
}

async function showImage(session: Session, image: ShownImageWhole): Promise<void> {
  const [{ formatBytes, formatTime }, { formatFacts }, { describeSummary }, { importFacts }] =
    await Promise.all([
      import('../format.ts'),
      import('../facts.ts'),
      import('../cleaning-report.ts'),
      import('../import-report.ts'),
    ])
  const { cpuCount, memoryBytes, firmware, machineType } = image.config
  const built = [
    ...[firmware, machineType],
    ...(cpuCount === null ? [] : [`${cpuCount} CPU`]),
    ...(memoryBytes === null ? [] : [formatBytes(memoryBytes)]),
  ]
  session.print(image, () =>
    formatFacts([
      ['image', image.id],
      ['name', image.name],
      ['description', image.description],
      ['state', image.reason === null ? image.state : `${image.state}: ${image.reason}`],
      ['task', image.taskId],
      ['progress', `${image.progressPermille / 10} %`],
      ['digest', image.digest],
      ['kind', `${image.kind}, by ${image.origin}`],
      ['system', `${image.osType} ${image.osName}`],
      ...importFacts(image),
      ['region', image.region],
      ['project', image.project],
      ['tag', image.tag],
      ['labels', image.labels.map(({ key, value }) => `${key}=${value}`).join(', ')],
      ['from machine', image.sourceMachineId],
      ['from image', image.sourceImageId],
      ['made for', built.join(', ')],
      ...image.disks.map(
        (disk) => [`disk ${disk.index}`, `${formatBytes(disk.sizeBytes)} ${disk.bus}`] as const,
      ),
      ['consistency', image.consistency],
      ['cleaned', image.cleaning === null ? null : describeSummary(image.cleaning)],
      ...image.lineage.map(
        ({ id, name, digest }, i) =>
          [i === 0 ? 'made over' : 'over', [id, name, digest].filter(Boolean).join(' ')] as const,
      ),
      ['snapshots', image.snapshotIds.join(', ')],
      ['data', formatBytes(image.dataBytes)],
      ['stored', formatBytes(image.storedBytes)],
      ['moved', formatBytes(image.movedBytes)],
      ['created', formatTime(image.createdAtMs)],
    ]),
  )
}
