import { sql } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { ProjectId, RegionId, SnapshotId } from '../image/ids.ts'
import type { Machine, MachineDiskRecord } from '../image/machine.ts'
import type { CaptureInput } from '../tasks/capture-image.ts'
import { insertSnapshot, setSnapshotTask } from '../tasks/new-snapshot.ts'
import { refuseWhenUsedUp } from '../tasks/quota.ts'
import { removeRows, seeTo } from '../tasks/release-image.ts'
import type { ResetInput } from '../tasks/reset-disk.ts'
import { refuseCapture, refuseConsistency } from './captures.ts'
import type { App, SnapshotFilter } from './contract.ts'
import { findAvailableSnapshot, findMachine, refuseWhileCaptured } from './find.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'
import { refreshMachine } from './refresh.ts'
import { snapshotOf } from './rows.ts'

type NewInput = Parameters<App['snapshots']['create']>[1]

/** The disk that is meant. Faults as of `snapshots.create`. */
function chooseDisk({ disks }: Machine, disk: NewInput['disk']): MachineDiskRecord {
  const meant = disks.filter(({ id, index }) => {
    if (typeof disk === 'object') return id === disk.id
    return disk === 'system' ? index === 0 : index !== 0
  })
  const [first, second] = meant
  if (second !== undefined) {
    throw new Fault(
      'invalid',
      `The machine has ${meant.length} data disks. Name the one that is meant by its id.`,
      { subject: 'disk', reason: 'several-disks' },
    )
  }
  if (first !== undefined) return first
  const message = disk === 'data' ? 'The machine has no data disk.' : 'The machine has no such disk.'
  throw new Fault('absent', `${message} Look at the machine's disks.`, { subject: 'disk' })
}

/** The machine of a snapshot, which it may have outlived. Faults as of `findMachine`. */
async function findSource(rows: Rows, where: Parameters<typeof findMachine>[1]): Promise<Machine> {
  try {
    return await findMachine(rows, where)
  } catch (error) {
    if (!isFault(error, 'absent')) throw error
    throw new Fault(
      'absent',
      'The machine of this snapshot is gone; make an image of the snapshot instead, or a data disk of another machine.',
      { subject: 'machine' },
    )
  }
}

/** Snapshots of single disks, and the way back to them. */
export function createSnapshots(parts: Parts, guard: Guard): App['snapshots'] {
  const { catalog, runner } = parts

  const target = (
    input: { regionId: RegionId; projectId?: ProjectId | undefined },
    resource: string | readonly string[],
  ) => ({ regionId: input.regionId, projectId: input.projectId, resource })
  const named = (ids: readonly SnapshotId[] | undefined) =>
    ids === undefined || ids.length === 0 ? 'snapshot/*' : [...new Set(ids)].map((id) => `snapshot/${id}`)

  const query = (filter: SnapshotFilter, projectId: ProjectId) => {
    let q = catalog.rows
      .selectFrom('snapshot')
      .where('regionId', '=', filter.regionId)
      .where('projectId', '=', projectId)
    if (filter.ids !== undefined) q = q.where('id', 'in', filter.ids)
    if (filter.machineIds !== undefined) q = q.where('machineId', 'in', filter.machineIds)
    if (filter.states !== undefined) q = q.where('state', 'in', filter.states)
    if (filter.machineName !== undefined) q = q.where('machineName', '=', filter.machineName)
    if (filter.name !== undefined) q = q.where('name', '=', filter.name)
    if (filter.creator !== undefined) q = q.where('creator', '=', filter.creator)
    if (filter.osType !== undefined) q = q.where('osType', '=', filter.osType)
    if (filter.fromMs !== undefined) q = q.where('createdAtMs', '>=', filter.fromMs)
    if (filter.untilMs !== undefined) q = q.where('createdAtMs', '<', filter.untilMs)
    if (filter.madeBy !== undefined) q = q.where('policyId', filter.madeBy === 'user' ? 'is' : 'is not', null)
    if (filter.disk !== undefined) {
      // The disk is JSON of our own making, its index first.
      const isSystem = sql<number>`instr(disk, '{"index":0,')`
      q = filter.disk === 'system' ? q.where(isSystem, '>', 0) : q.where(isSystem, '=', 0)
    }
    return q
  }

  /** Those that belong to an image go with it; one whose image is gone belongs to none. */
  async function refuseLinked(rows: Rows, snapshots: readonly { name: string; imageId: string | null }[]) {
    const imageIds = snapshots.flatMap(({ imageId }) => (imageId === null ? [] : [imageId]))
    if (imageIds.length === 0) return
    const images = await rows.selectFrom('image').select(['id', 'name']).where('id', 'in', imageIds).execute()
    for (const { name, imageId } of snapshots) {
      const image = images.find(({ id }) => id === imageId)
      if (image === undefined) continue
      throw new Fault(
        'conflict',
        `Snapshot '${name}' belongs to image '${image.name}' and goes with it. Delete that image.`,
        { subject: 'snapshot', reason: 'linked' },
      )
    }
  }

  return {
    create(caller, input) {
      const { consistency: wanted = 'best' } = input
      return guard.change(
        caller,
        'snapshots.create',
        target(input, `machine/${input.machineId}`),
        async (projectId) => {
          await refuseConsistency(parts, await findMachine(catalog.rows, { ...input, projectId }), wanted)
          const made = await catalog.transaction(async (rows) => {
            const machine = await findMachine(rows, { ...input, projectId })
            await refuseCapture(rows, machine)
            const disk = chooseDisk(machine, input.disk)
            await refuseWhenUsedUp(rows, projectId)
            const { name, description } = input
            const snapshot = { projectId, machine, disk, name, description, creator: caller.userName }
            const snapshotId = await insertSnapshot(rows, snapshot, parts)
            const task: CaptureInput = {
              machineId: machine.id,
              wanted,
              outputs: [{ is: 'snapshot', id: snapshotId, diskIds: [disk.id] }],
            }
            const taskId = await runner.add(rows, {
              kind: 'create-snapshot',
              projectId,
              regionId: input.regionId,
              snapshotId,
              machineId: machine.id,
              input: task,
              totalBytes: disk.sizeBytes,
            })
            await setSnapshotTask(rows, [snapshotId], taskId)
            return { snapshotId, taskId }
          })
          runner.kick(made.taskId)
          return made
        },
      )
    },

    async list(caller, filter, paging) {
      const projectId = await guard.admit(caller, 'snapshots.list', target(filter, named(filter.ids)))
      const lists = [filter.ids, filter.machineIds, filter.states]
      if (lists.some((list) => list?.length === 0)) return { total: 0, items: [] }
      const count = await query(filter, projectId)
        .select((q) => q.fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      const rows = await query(filter, projectId)
        .selectAll()
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .limit(paging.limit)
        .offset(paging.offset)
        .execute()
      return { total: Number(count.count), items: rows.map(snapshotOf) }
    },

    remove(caller, input) {
      const ids = [...new Set(input.snapshotIds)]
      return guard.change(caller, 'snapshots.remove', target(input, named(ids)), async (projectId) => {
        if (ids.length === 0) return
        const removal = await catalog.transaction(async (rows) => {
          const held = await rows
            .selectFrom('snapshot')
            .selectAll()
            .where('id', 'in', ids)
            .where('regionId', '=', input.regionId)
            .where('projectId', '=', projectId)
            .execute()
          if (held.length < ids.length && input.ignoreUnknown !== true) {
            throw new Fault(
              'absent',
              `There is no such snapshot in region ${input.regionId}. List the snapshots there.`,
              { subject: 'snapshot' },
            )
          }
          await refuseLinked(rows, held)
          return removeRows(rows, runner, { snapshot: held })
        })
        await seeTo(runner, removal)
      })
    },

    reset(caller, input) {
      const { regionId, snapshotId } = input
      return guard.change(
        caller,
        'snapshots.reset',
        target(input, named([snapshotId])),
        async (projectId) => {
          const { machineId } = await findAvailableSnapshot(catalog.rows, { ...input, projectId })
          const ofMachine = target(input, `machine/${machineId}`)
          await guard.admit(caller, 'snapshots.reset', ofMachine)
          const found = await findSource(catalog.rows, { regionId, projectId, machineId })
          const before = await refreshMachine(parts, found)
          const mayStop = before.state === 'running' && input.stopFirst
          if (mayStop) await guard.admit(caller, 'machines.stop', ofMachine)
          const taskId = await catalog.transaction(async (rows) => {
            const snapshot = await findAvailableSnapshot(rows, { ...input, projectId })
            const machine = await findSource(rows, { regionId, projectId, machineId })
            await refuseWhileCaptured(rows, machineId)
            // One that was started since then is not stopped: whether the caller may has not been asked.
            const stops = machine.state === 'running' && mayStop
            if (machine.state !== 'stopped' && !stops) {
              throw new Fault(
                'conflict',
                `The machine is ${machine.state}; a disk of it can be reset once it is stopped.`,
                { subject: 'machine', reason: 'reset' },
              )
            }
            if (stops) {
              await rows
                .updateTable('machine')
                .set({ state: 'stopping' })
                .where('id', '=', machineId)
                .execute()
            }
            const { diskId } = snapshot
            const task: ResetInput = { snapshotId, machineId, diskId, digest: snapshot.state.digest, stops }
            return runner.add(rows, {
              kind: 'reset-disk',
              projectId,
              regionId,
              snapshotId,
              machineId,
              input: task,
            })
          })
          runner.kick(taskId)
          return { taskId }
        },
      )
    },
  }
}
