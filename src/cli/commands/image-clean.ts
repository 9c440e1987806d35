import { type Command, Option } from 'commander'
import type { CleaningReport } from '../../image/cleaning.ts'
import { describeFailure, usageFailure } from '../failure.ts'
import {
  act,
  type CleanFlags,
  cleanable,
  cleanBody,
  clientCommand,
  type PlaceFlags,
  type ProgramParts,
  placed,
  type WaitFlags,
  waiting,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'
import { follow, type Made } from './image-create.ts'

interface ImageCleanFlags extends SessionFlags, PlaceFlags, WaitFlags, CleanFlags {
  readonly operations?: string
  readonly name?: string
  readonly description?: string
  readonly tag?: string
  readonly dryRun?: boolean
  readonly list?: boolean
}

/** Declares `image clean`: a new image of one that is there, on paper only, or what there is to choose from. */
export function imageCleanCommand(image: Command, parts: ProgramParts): void {
  const command = waiting(
    placed(
      clientCommand(image, 'clean [image]', "a new image without users' private data, of one that is there"),
    ),
    'until it is available',
  )
  cleanable(command)
    .option('--operations <words>', "what goes: 'windows,linux,-logs'; without it everything")
    .option('--name <name>', "the name of the new image; without it the old one's with '-clean'")
    .option('--description <text>', 'what it is')
    .option('--tag <tag>', 'a business group')
    .option('--dry-run', 'only says what would be taken out, and what is in the way')
    .addOption(
      new Option('--list', 'prints the operations there are, without a server').conflicts([
        ...['operations', 'bestEffort', 'refuseSecrets', 'name', 'description', 'tag', 'dryRun', 'wait'],
        ...['timeout', 'endpoint', 'keyFile', 'data', 'region', 'project'],
      ]),
    )
    .action(async (...given: unknown[]) => {
      const [id, flags] = given as [string | undefined, ImageCleanFlags]
      if (flags.list !== true) return act(parts, clean)(...given)
      try {
        await listOperations(parts, flags, id)
      } catch (error) {
        parts.fail(describeFailure(error))
      }
    })
}

async function clean(session: Session, flags: ImageCleanFlags, id: string | undefined): Promise<void> {
  if (id === undefined) {
    throw usageFailure('Name the image to clean. --list prints what can be taken out.')
  }
  const { region, project, name, description, tag, operations, dryRun } = flags
  const path = `/v1/images/${encodeURIComponent(id)}/clean`
  const body = { region, project, clean: cleanBody(operations, flags) }
  if (dryRun === true) return plan(session, flags, `${path}/plan`, { ...body })
  const made = await session.client.call<Made>('POST', path, { body: { ...body, name, description, tag } })
  await follow(session, flags, made)
}

interface Planned {
  readonly cleaning: CleaningReport | null
  readonly blockers: readonly string[]
}

async function plan(session: Session, flags: WaitFlags, path: string, body: object): Promise<void> {
  const { taskId } = await session.client.call<{ taskId: string }>('POST', path, { body })
  const [task] = await session.waitForDone([taskId], { timeoutMs: flags.timeout })
  const [{ formatCleaning }, { describeBlockers, requireUnblocked }] = await Promise.all([
    import('../cleaning-report.ts'),
    import('../capture-report.ts'),
  ])
  const planned = task?.output as unknown as Planned
  session.print(planned, ({ cleaning, blockers }) => {
    const told = cleaning === null ? '' : formatCleaning(session.table, cleaning)
    return `${told}${describeBlockers(blockers)}Nothing was made: this was a dry run.\n`
  })
  requireUnblocked(planned.blockers)
}

async function listOperations(
  { io }: ProgramParts,
  flags: ImageCleanFlags,
  id: string | undefined,
): Promise<void> {
  const [{ createPrinter }, { CLEANING_OPERATIONS }] = await Promise.all([
    import('../session.ts'),
    import('../../image/cleaning.ts'),
  ])
  if (id !== undefined) throw usageFailure('--list takes no image: the operations are the same for all.')
  const printer = createPrinter(io, flags.json === true)
  type Operation = (typeof CLEANING_OPERATIONS)[number]
  printer.print({ operations: CLEANING_OPERATIONS }, ({ operations }) =>
    printer.table<Operation>(
      [
        { head: 'OPERATION', of: (one) => one.name },
        { head: 'GROUP', of: (one) => one.group },
        { head: 'TAKES AWAY', of: (one) => one.title },
      ],
      operations,
      'There are none.',
    ),
  )
}
