import type { Selectable } from 'kysely'
import type { Catalog, Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { MachineId, ProjectId, RegionId, SnapshotPolicyId, TaskId } from '../image/ids.ts'
import type { OsType } from '../image/image.ts'
import { EXCLUSIVE_KINDS } from '../image/task.ts'
import type { CaptureInput } from './capture-image.ts'
import { machineConfigOf, machineDisksOf } from './columns.ts'
import { lastDueMs, stampOf } from './cron.ts'
import { insertSnapshot, type NewSnapshot, setSnapshotTask } from './new-snapshot.ts'
import { noteFailure, noteOutcomes } from './policy-outcomes.ts'
import type { Runner } from './runner.ts'
import { thinSnapshots } from './thin-snapshots.ts'

export interface SnapshotScheduleOptions {
  readonly catalog: Catalog
  readonly runner: Pick<Runner, 'add' | 'kick' | 'cancel' | 'markCancelled'>
  readonly clock: () => number
  readonly snapshotsPerRegionMax: number
  readonly log: (record: Record<string, unknown>) => void
}

export interface SnapshotSchedule {
  /** Asks for what is due, and lets go of what is beyond the number to keep. Called by itself every half minute. */
  look(): Promise<void>
  close(): Promise<void>
}

type PolicyRow = Selectable<Schema['snapshotPolicy']>

const LOOK_MS = 30_000
const idsOf = (json: string) => JSON.parse(json) as MachineId[]

/**
 * Snapshots by the clock. When a policy's time has come, its machines are put on its waiting list in one commit, and each
 * leaves the list in the commit that adds its task: whenever the server ends, no time is acted on twice and none is
 * forgotten. Times that passed while it was off count as one.
 */
export function createSnapshotSchedule(options: SnapshotScheduleOptions): SnapshotSchedule {
  const { catalog, runner, clock, log } = options
  let isClosed = false

  const findEnabled = (rows: Rows, id: string) =>
    rows
      .selectFrom('snapshotPolicy')
      .selectAll()
      .where('id', '=', id)
      .where('isEnabled', '=', 1)
      .executeTakeFirst()

  const leaveList = (rows: Rows, { id, waitingMachineIds }: PolicyRow, machineId: MachineId) =>
    rows
      .updateTable('snapshotPolicy')
      .set({ waitingMachineIds: JSON.stringify(idsOf(waitingMachineIds).filter((one) => one !== machineId)) })
      .where('id', '=', id)
      .execute()

  const note = (level: 'info' | 'warn', message: string, policy: PolicyRow, rest: object) =>
    log({ level, message, policy: policy.id, name: policy.name, ...rest })

  /** Puts the policy's machines on its waiting list if a time of its cron has passed since the last. */
  const fallDue = (policyId: string): Promise<PolicyRow | undefined> =>
    catalog.transaction(async (rows) => {
      const policy = await findEnabled(rows, policyId)
      if (policy === undefined) return undefined
      const dueMs = lastDueMs(policy, clock())
      if (dueMs === undefined || dueMs <= (policy.lastDueAtMs ?? policy.createdAtMs)) return policy
      const left = idsOf(policy.waitingMachineIds)
      if (left.length > 0) {
        const atMs = policy.lastDueAtMs
        note('warn', 'left out of a snapshot policy: busy until its next time', policy, {
          machines: left,
          atMs,
        })
        await noteFailure(rows, policy.id, {
          machineIds: left,
          reason: 'It was busy, or neither running nor stopped, until the next time of the policy.',
          atMs: clock(),
        })
      }
      const due = { lastDueAtMs: dueMs, waitingMachineIds: policy.machineIds }
      await rows.updateTable('snapshotPolicy').set(due).where('id', '=', policy.id).execute()
      return { ...policy, ...due }
    })

  const isExcluded = async (rows: Rows, machineId: MachineId) =>
    (await rows
      .selectFrom('task')
      .select('id')
      .where('machineId', '=', machineId)
      .where('endedAtMs', 'is', null)
      .where('kind', 'in', EXCLUSIVE_KINDS)
      .executeTakeFirst()) !== undefined

  /** Its snapshots and their task; undefined for a machine that is gone, 'busy' for one that has to be asked again. */
  async function addTask(
    rows: Rows,
    policy: PolicyRow,
    machineId: MachineId,
  ): Promise<TaskId | 'busy' | undefined> {
    const machine = await rows
      .selectFrom('machine')
      .selectAll()
      .where('id', '=', machineId)
      .where('projectId', '=', policy.projectId)
      .where('regionId', '=', policy.regionId)
      .executeTakeFirst()
    if (machine === undefined || machine.state === 'deleting') return undefined
    if (machine.state === 'failed') {
      throw new Fault('invalid', 'It has failed. Delete it, or take it off the policy.', {
        subject: 'machine',
      })
    }
    if (machine.state !== 'running' && machine.state !== 'stopped') return 'busy'
    if (await isExcluded(rows, machineId)) return 'busy'
    const projectId = policy.projectId as ProjectId
    const regionId = policy.regionId as RegionId
    const source: NewSnapshot['machine'] = {
      ...{ id: machineId, regionId, name: machine.name, osName: machine.osName },
      osType: machine.osType as OsType,
      ...machineConfigOf(machine),
    }
    const disks = machineDisksOf(machine.disks).filter(({ index }) => policy.disks === 'all' || index === 0)
    const outputs: CaptureInput['outputs'][number][] = []
    for (const disk of disks) {
      const snapshot = {
        ...{ projectId, machine: source, creator: policy.creator, policyId: policy.id as SnapshotPolicyId },
        disk,
        name: `auto-${policy.name}-${stampOf(policy.timeZone, clock())}`,
      }
      outputs.push({
        is: 'snapshot',
        id: await insertSnapshot(rows, snapshot, options),
        diskIds: [disk.id],
      })
    }
    const input: CaptureInput = { machineId, wanted: 'best', outputs }
    const ids = outputs.flatMap((output) => (output.is === 'snapshot' ? [output.id] : []))
    const taskId = await runner.add(rows, {
      ...{ kind: 'create-snapshot', projectId, regionId, machineId, input },
      ...(ids[0] === undefined ? {} : { snapshotId: ids[0] }),
      totalBytes: disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    })
    await setSnapshotTask(rows, ids, taskId)
    return taskId
  }

  /** One machine's turn. It leaves the waiting list unless it is busy. */
  async function serve(policyId: string, machineId: MachineId): Promise<void> {
    const added = await catalog.transaction(async (rows) => {
      const policy = await findEnabled(rows, policyId)
      if (policy === undefined || !idsOf(policy.waitingMachineIds).includes(machineId)) return undefined
      const task = await addTask(rows, policy, machineId)
      if (task !== 'busy') await leaveList(rows, policy, machineId)
      return task
    })
    if (added !== undefined && added !== 'busy') runner.kick(added)
  }

  /** As `serve`; what is refused is logged, kept on the policy's row, and not asked for again until the policy's next time. */
  async function serveOrLeave(policyId: string, machineId: MachineId): Promise<void> {
    try {
      await serve(policyId, machineId)
    } catch (error) {
      if (!isFault(error, 'full') && !isFault(error, 'invalid')) throw error
      await catalog.transaction(async (rows) => {
        const policy = await findEnabled(rows, policyId)
        if (policy === undefined) return
        note('warn', 'a snapshot policy could not be followed', policy, { machine: machineId, error })
        const failure = { machineIds: [machineId], reason: error.message, atMs: clock() }
        await noteFailure(rows, policyId, failure)
        await leaveList(rows, policy, machineId)
      })
    }
  }

  async function follow(policyId: string): Promise<void> {
    const policy = await fallDue(policyId)
    for (const machineId of idsOf(policy?.waitingMachineIds ?? '[]')) {
      if (isClosed) return
      await serveOrLeave(policyId, machineId)
    }
  }

  /** What fails for one policy is no reason to leave out another. */
  const alone = (work: Promise<void>, what: object) =>
    work.catch((error) => log({ level: 'error', message: 'a snapshot policy failed', ...what, error }))

  async function look(): Promise<void> {
    const policies = await catalog.rows
      .selectFrom('snapshotPolicy')
      .select('id')
      .where('isEnabled', '=', 1)
      .orderBy('createdAtMs')
      .execute()
    for (const { id } of policies) if (!isClosed) await alone(follow(id), { policy: id })
    if (!isClosed) await alone(noteOutcomes(catalog), {})
    if (!isClosed) await alone(thinSnapshots(options), {})
  }

  let working: Promise<void> = Promise.resolve()
  const inTurn = (): Promise<void> => {
    working = working.then(look).catch((error) => {
      log({ level: 'error', message: 'the snapshot policies could not be looked at', error })
    })
    return working
  }
  const timer = setInterval(() => void inTurn(), LOOK_MS)
  timer.unref()
  return {
    look: inTurn,
    async close() {
      isClosed = true
      clearInterval(timer)
      await working
    },
  }
}
