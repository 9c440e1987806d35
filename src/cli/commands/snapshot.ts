import { type Command, Option } from 'commander'
import type { ShownSnapshot } from '../../wire/native/show.ts'
import {
  act,
  clientCommand,
  consistent,
  type PlaceFlags,
  type ProgramParts,
  parseCount,
  placed,
  timed,
  type WaitFlags,
  waiting,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'
import { snapshotPolicyCommands } from './snapshot-policy.ts'

type Flags = SessionFlags & PlaceFlags & WaitFlags

interface ListFlags extends Flags {
  readonly machine?: readonly string[]
  readonly name?: string
  readonly creator?: string
  readonly disk?: string
  readonly madeBy?: string
  readonly state?: string
  readonly limit?: number
}

interface CreateFlags extends Flags {
  readonly machine: string
  readonly disk: string
  readonly name: string
  readonly description?: string
  readonly consistency?: string
}

/** Declares `snapshot`. */
export function snapshotCommands(program: Command, parts: ProgramParts): void {
  const snapshot = program.command('snapshot').description('single disks as they were at one moment')

  placed(clientCommand(snapshot, 'list', 'the snapshots of a region, newest first'))
    .option('--machine <id...>', 'only of these machines')
    .addOption(new Option('--disk <disk>', 'only of such disks').choices(['system', 'data']))
    .addOption(new Option('--made-by <whom>', 'only those that such asked for').choices(['user', 'policy']))
    .addOption(new Option('--state <state>', 'only these').choices(['creating', 'available', 'failed']))
    .option('--name <name>', 'only those of this name')
    .option('--creator <user>', 'only those of this user')
    .option('--limit <count>', 'the newest so many', parseCount)
    .action(act(parts, listSnapshots))

  placed(clientCommand(snapshot, 'show <snapshot>', 'one snapshot, with its disk and digest')).action(
    act(parts, async (session, flags: Flags, id: string) => {
      await showSnapshot(session, await getSnapshot(session, flags, id))
    }),
  )

  consistent(
    waiting(
      placed(clientCommand(snapshot, 'create', 'of one disk of a machine, running or stopped')),
      'until it is available',
    ),
  )
    .requiredOption('--machine <id>', 'the machine')
    .requiredOption('--name <name>', 'the name of the snapshot')
    .option('--disk <disk>', "'system', 'data' where there is one, or a disk's id", 'system')
    .option('--description <text>', 'what it is')
    .action(act(parts, createSnapshot))

  placed(clientCommand(snapshot, 'delete <snapshot...>', 'takes snapshots off the lists')).action(
    act(parts, async (session, { region, project }: Flags, ids: readonly string[]) => {
      const gone: string[] = []
      for (const id of ids) {
        const query = { region, project }
        gone.push((await session.client.call<{ id: string }>('DELETE', pathOf(id), { query })).id)
      }
      session.print({ deleted: gone }, () => gone.map((id) => `Snapshot ${id} is deleted.\n`).join(''))
    }),
  )

  waiting(
    placed(
      clientCommand(
        snapshot,
        'reset <snapshot>',
        'gives its disk this content again; what the disk held since is lost',
      ),
    ),
    'until it is so',
  )
    .option('--stop', 'stops the machine first, if it runs')
    .action(act(parts, resetSnapshot))

  timed(placed(clientCommand(snapshot, 'wait <snapshot>', 'until a snapshot is available'))).action(
    act(parts, async (session, flags: Flags, id: string) => {
      const before = await getSnapshot(session, flags, id)
      if (before.taskId !== null) await session.waitForDone([before.taskId], { timeoutMs: flags.timeout })
      const after = before.taskId === null ? before : await getSnapshot(session, flags, id)
      if (after.state !== 'available') {
        const { CommandFailure, EXIT } = await import('../failure.ts')
        throw new CommandFailure(EXIT.fault, `Snapshot ${after.id} is ${after.state}: ${after.reason ?? ''}`)
      }
      session.print(after, () => `Snapshot ${after.id} is available.\n`)
    }),
  )

  snapshotPolicyCommands(snapshot, parts)
}

const pathOf = (id: string) => `/v1/snapshots/${encodeURIComponent(id)}`

function getSnapshot(session: Session, { region, project }: PlaceFlags, id: string): Promise<ShownSnapshot> {
  return session.client.call('GET', pathOf(id), { query: { region, project } })
}

async function createSnapshot(session: Session, flags: CreateFlags): Promise<void> {
  const { region, project, machine: machineId, disk, name, description, consistency } = flags
  const body = { region, project, machineId, disk, name, description, consistency }
  type Made = { readonly snapshotId: string; readonly taskId: string }
  const made = await session.client.call<Made>('POST', '/v1/snapshots', { body })
  if (flags.wait !== true) {
    const text = `Snapshot ${made.snapshotId} is being made. Follow it: calotype task wait ${made.taskId}\n`
    return session.print(made, () => text)
  }
  const tasks = await session.waitForDone([made.taskId], { timeoutMs: flags.timeout })
  const { describeCapture } = await import('../capture-report.ts')
  session.print(
    { ...made, tasks },
    () => `Snapshot ${made.snapshotId} is available.\n${describeCapture(tasks[0])}`,
  )
}

async function resetSnapshot(
  session: Session,
  flags: Flags & { readonly stop?: boolean },
  id: string,
): Promise<void> {
  const { region, project, stop: stopFirst } = flags
  const body = { region, project, stopFirst }
  const made = await session.client.call<{ taskId: string }>('POST', `${pathOf(id)}/reset`, { body })
  if (flags.wait !== true) {
    const text = `The disk of snapshot ${id} is being reset. Follow it: calotype task wait ${made.taskId}\n`
    return session.print(made, () => text)
  }
  const tasks = await session.waitForDone([made.taskId], { timeoutMs: flags.timeout })
  const { machineId, diskId } = await getSnapshot(session, flags, id)
  const text = `Disk ${diskId} of machine ${machineId} is as it was. Start the machine when you like.\n`
  session.print({ ...made, tasks }, () => text)
}

async function listSnapshots(session: Session, flags: ListFlags): Promise<void> {
  const [{ stateColour }, { formatBytes, formatTime }] = await Promise.all([
    import('../table.ts'),
    import('../format.ts'),
  ])
  const { region, project, machine: machineIds, name, creator, disk, madeBy, state: states } = flags
  const query = { region, project, machineIds, name, creator, disk, madeBy, states }
  const snapshots = await session.listAll<ShownSnapshot>('/v1/snapshots', 'snapshots', query, flags.limit)
  session.print({ total: snapshots.length, snapshots }, () =>
    session.table<ShownSnapshot>(
      [
        { head: 'SNAPSHOT', of: (one) => one.id },
        { head: 'NAME', of: (one) => one.name },
        {
          head: 'STATE',
          of: (one) =>
            one.state === 'creating' ? `creating ${Math.floor(one.progressPermille / 10)} %` : one.state,
          colour: (one) => stateColour(one.state),
        },
        { head: 'MACHINE', of: (one) => one.machineName || one.machineId },
        { head: 'DISK', align: 'right', of: (one) => String(one.disk.index) },
        { head: 'SIZE', align: 'right', of: (one) => formatBytes(one.disk.sizeBytes) },
        { head: 'DATA', align: 'right', of: (one) => formatBytes(one.dataBytes) },
        { head: 'STORED', align: 'right', of: (one) => formatBytes(one.storedBytes) },
        { head: 'CONSISTENCY', of: (one) => one.consistency ?? '' },
        { head: 'BY', of: (one) => one.policyId ?? one.creator },
        { head: 'CREATED (UTC)', of: (one) => formatTime(one.createdAtMs) },
        { head: 'REASON', of: (one) => one.reason ?? '' },
      ],
      snapshots,
      'No snapshots.',
    ),
  )
}

async function showSnapshot(session: Session, snapshot: ShownSnapshot): Promise<void> {
  const [{ formatBytes, formatTime }, { formatFacts }] = await Promise.all([
    import('../format.ts'),
    import('../facts.ts'),
  ])
  const { disk, state, reason } = snapshot
  session.print(snapshot, () =>
    formatFacts([
      ['snapshot', snapshot.id],
      ['name', snapshot.name],
      ['description', snapshot.description],
      ['state', reason === null ? state : `${state}: ${reason}`],
      ['task', snapshot.taskId],
      ['progress', `${snapshot.progressPermille / 10} %`],
      ['digest', snapshot.digest],
      ['machine', `${snapshot.machineId} ${snapshot.machineName}`],
      [`disk ${disk.index}`, `${snapshot.diskId} ${formatBytes(disk.sizeBytes)} ${disk.bus}`],
      ['system', `${snapshot.osType} ${snapshot.osName}`],
      ['consistency', snapshot.consistency],
      ['region', snapshot.region],
      ['project', snapshot.project],
      ['belongs to', snapshot.imageId],
      ['by', snapshot.policyId === null ? snapshot.creator : `${snapshot.policyId} of ${snapshot.creator}`],
      ['data', formatBytes(snapshot.dataBytes)],
      ['stored', formatBytes(snapshot.storedBytes)],
      ['moved', formatBytes(snapshot.movedBytes)],
      ['created', formatTime(snapshot.createdAtMs)],
    ]),
  )
}
