import { type Command, Option } from 'commander'
import type { CaptureReport } from '../../app/contract.ts'
import {
  act,
  type CleanFlags,
  cleanable,
  cleanBody,
  clientCommand,
  collect,
  consistent,
  type PlaceFlags,
  type ProgramParts,
  placed,
  type WaitFlags,
  waiting,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

export interface Made {
  readonly imageId: string
  readonly taskId: string
  readonly snapshotIds?: readonly string[]
}

interface CreateFlags extends SessionFlags, PlaceFlags, WaitFlags, CleanFlags {
  readonly machine?: string
  readonly fromSnapshot?: readonly string[]
  readonly name?: string
  readonly description?: string
  readonly tag?: string
  readonly disks?: string
  readonly consistency?: string
  readonly linkedDisk?: readonly string[]
  readonly clean?: string | true
  readonly dryRun?: boolean
}

/** Declares `image create`: of a machine, on paper only, or of snapshots. */
export function imageCreateCommand(image: Command, parts: ProgramParts): void {
  const command = waiting(
    placed(clientCommand(image, 'create', 'an image of a machine, running or stopped, or of snapshots')),
    'until it is available',
  )
  cleanable(consistent(command))
    .option('--machine <id>', 'the machine')
    .addOption(
      new Option(
        '--from-snapshot <id...>',
        "snapshots of one machine's disks instead; no byte is moved, unless it is cleaned",
      ).conflicts(['dryRun', 'consistency', 'linkedDisk']),
    )
    .option('--name <name>', 'the name of the image')
    .option('--description <text>', 'what it is')
    .option('--tag <tag>', 'a business group')
    .addOption(
      new Option('--disks <disks>', 'the system disk alone, or all (default)').choices(['system', 'all']),
    )
    .option(
      '--linked-disk <id>',
      'a disk to make a snapshot of at the same moment, which goes with the image; may be repeated',
      collect((text) => text),
    )
    .option(
      '--clean [words]',
      "without users' private data: everything that cleaning knows, or 'windows,linux,-logs' (`image clean --list`)",
    )
    .option('--dry-run', 'only says what would be read, what can be had, and what is in the way')
    .action(act(parts, create))
}

async function create(session: Session, flags: CreateFlags): Promise<void> {
  const { region, project, name, description, tag, disks, consistency, machine: machineId } = flags
  const { client } = session
  if (flags.clean === undefined && (flags.bestEffort || flags.refuseSecrets)) {
    const { usageFailure } = await import('../failure.ts')
    throw usageFailure('--best-effort and --refuse-secrets say how to clean: add --clean.')
  }
  const clean = flags.clean === undefined ? undefined : cleanBody(flags.clean, flags)
  if (flags.fromSnapshot !== undefined) {
    const place = { region, project, snapshotIds: flags.fromSnapshot, machineId, disks }
    const body = { ...place, name, description, tag, clean }
    return follow(session, flags, await client.call<Made>('POST', '/v1/images/compose', { body }))
  }
  if (machineId === undefined) {
    const { usageFailure } = await import('../failure.ts')
    throw usageFailure('Name the machine with --machine, or snapshots of it with --from-snapshot.')
  }
  const wish = { region, project, machineId, disks, consistency, linkedDisks: flags.linkedDisk }
  const body = { ...wish, name, description, tag, clean }
  if (flags.dryRun === true) return plan(session, flags, body)
  await follow(session, flags, await client.call<Made>('POST', '/v1/images/capture', { body }))
}

async function plan(session: Session, flags: CreateFlags, body: object): Promise<void> {
  const { taskId } = await session.client.call<{ taskId: string }>('POST', '/v1/images/plan', { body })
  const [task] = await session.waitForDone([taskId], { timeoutMs: flags.timeout })
  const { printReport } = await import('../capture-report.ts')
  printReport(session, task?.output as unknown as CaptureReport)
}

/** Says what was begun, or waits for it and says how it ended. */
export async function follow(session: Session, flags: WaitFlags & PlaceFlags, made: Made): Promise<void> {
  const linked = (made.snapshotIds ?? []).map((id) => `Snapshot ${id} belongs to it.\n`).join('')
  if (flags.wait !== true) {
    const text = `Image ${made.imageId} is being made. Follow it: calotype task wait ${made.taskId}\n`
    session.print(made, () => text + linked)
    return
  }
  // Whoever stops waiting has to know what goes on without them.
  session.io.stderr.write(`Image ${made.imageId} is being made by ${made.taskId}.\n`)
  const tasks = await session.waitForDone([made.taskId], { timeoutMs: flags.timeout })
  const { describeCapture } = await import('../capture-report.ts')
  const said = describeCapture(tasks[0])
  const where = (['region', 'project'] as const)
    .map((name) => (flags[name] === undefined ? '' : ` --${name} ${flags[name]}`))
    .join('')
  const report =
    tasks[0]?.output.cleaning === undefined
      ? ''
      : `What went, what was kept, warnings: calotype image report ${made.imageId}${where}\n`
  session.print({ ...made, tasks }, () => `Image ${made.imageId} is available.\n${linked}${said}${report}`)
}
