import type { Rows } from '../catalog/contract.ts'
import type { MachineConfig } from '../image/config.ts'
import { Fault } from '../image/fault.ts'
import {
  type ImageId,
  newId,
  type ProjectId,
  type RegionId,
  type SnapshotId,
  type SnapshotPolicyId,
  type TaskId,
} from '../image/ids.ts'
import type { Machine, MachineDiskRecord } from '../image/machine.ts'
import { parseDescription, parseImageName } from '../image/names.ts'

export interface NewSnapshot {
  readonly projectId: ProjectId
  /** What a snapshot remembers of its machine, which it may outlive. */
  readonly machine: Pick<Machine, 'id' | 'regionId' | 'name' | 'osType' | 'osName'> & MachineConfig
  readonly disk: Pick<MachineDiskRecord, 'id' | 'index' | 'sizeBytes' | 'bus'>
  readonly name: string
  readonly description?: string | undefined
  /** The name of the user who asks, or who made the policy that does. */
  readonly creator: string
  readonly policyId?: SnapshotPolicyId | undefined
  readonly imageId?: ImageId | undefined
}

/** Fault 'full' 'snapshot' unless the project may have so many more in the region. */
export async function refuseTooManySnapshots(
  rows: Rows,
  { projectId, regionId }: { readonly projectId: ProjectId; readonly regionId: RegionId },
  { snapshotsPerRegionMax }: { readonly snapshotsPerRegionMax: number },
  moreCount: number,
): Promise<void> {
  const held = await rows
    .selectFrom('snapshot')
    .select((q) => q.fn.countAll<number>().as('count'))
    .where('regionId', '=', regionId)
    .where('projectId', '=', projectId)
    .executeTakeFirstOrThrow()
  if (Number(held.count) + moreCount <= snapshotsPerRegionMax) return
  throw new Fault(
    'full',
    `Project ${projectId} may have ${snapshotsPerRegionMax} snapshots in region ${regionId} and has ${held.count}. ` +
      'Delete some, or raise snapshotsPerRegionMax.',
    { subject: 'snapshot' },
  )
}

/**
 * Lists a snapshot that is about to be made, 'creating' and charged nothing yet; `setSnapshotTask` then says by which
 * task. Fault 'full' 'snapshot' if the project has as many in the region as it may; the rules of names as 'invalid'.
 */
export async function insertSnapshot(
  rows: Rows,
  { projectId, machine, disk, ...rest }: NewSnapshot,
  limits: { snapshotsPerRegionMax: number; clock: () => number },
): Promise<SnapshotId> {
  const { regionId, firmware, machineType, cpuCount, memoryBytes } = machine
  await refuseTooManySnapshots(rows, { projectId, regionId }, limits, 1)
  const id = newId('snapshot')
  const nowMs = limits.clock()
  await rows
    .insertInto('snapshot')
    .values({
      ...{ id, projectId, regionId, machineId: machine.id, machineName: machine.name },
      diskId: disk.id,
      disk: JSON.stringify({ index: disk.index, sizeBytes: disk.sizeBytes, bus: disk.bus }),
      config: JSON.stringify({ firmware, machineType, cpuCount, memoryBytes }),
      ...{ osType: machine.osType, osName: machine.osName },
      name: parseImageName(rest.name),
      description: parseDescription(rest.description ?? ''),
      ...{ creator: rest.creator, policyId: rest.policyId ?? null, imageId: rest.imageId ?? null },
      ...{ state: 'creating', taskId: null, digest: null, reason: null, progressPermille: 0 },
      ...{ consistency: null, dataBytes: 0, storedBytes: 0, movedBytes: 0, reservedBytes: 0 },
      ...{ createdAtMs: nowMs, updatedAtMs: nowMs },
    })
    .execute()
  return id
}

/** The task that makes these snapshots: its progress and its end are theirs. In the transaction that adds it. */
export async function setSnapshotTask(rows: Rows, ids: readonly SnapshotId[], taskId: TaskId): Promise<void> {
  if (ids.length > 0) await rows.updateTable('snapshot').set({ taskId }).where('id', 'in', ids).execute()
}
