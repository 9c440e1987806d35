import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { ImageId, MachineId, ProjectId, RegionId, SnapshotId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { Machine } from '../image/machine.ts'
import type { Snapshot } from '../image/snapshot.ts'
import { EXCLUSIVE_KINDS, type TaskKind } from '../image/task.ts'
import { imagesOf, machineOf, snapshotOf } from './rows.ts'

/** An image that the project may see in that region: its own, or a base image. Fault 'absent' 'image'. */
export async function findImage(
  rows: Rows,
  where: { regionId: RegionId; projectId: ProjectId; imageId: ImageId },
): Promise<Image> {
  const row = await rows
    .selectFrom('image')
    .selectAll()
    .where('id', '=', where.imageId)
    .where('regionId', '=', where.regionId)
    .where((is) => is.or([is('projectId', '=', where.projectId), is('kind', '=', 'base')]))
    .executeTakeFirst()
  const [image] = await imagesOf(rows, row === undefined ? [] : [row])
  if (image === undefined) {
    throw new Fault('absent', `There is no such image in region ${where.regionId}. List the images there.`, {
      subject: 'image',
    })
  }
  return image
}

/** A snapshot of the project in that region. Fault 'absent' 'snapshot'. */
async function findSnapshot(
  rows: Rows,
  where: { regionId: RegionId; projectId: ProjectId; snapshotId: SnapshotId },
): Promise<Snapshot> {
  const row = await rows
    .selectFrom('snapshot')
    .selectAll()
    .where('id', '=', where.snapshotId)
    .where('regionId', '=', where.regionId)
    .where('projectId', '=', where.projectId)
    .executeTakeFirst()
  if (row === undefined) {
    throw new Fault(
      'absent',
      `There is no such snapshot in region ${where.regionId}. List the snapshots there.`,
      { subject: 'snapshot' },
    )
  }
  return snapshotOf(row)
}

export interface AvailableSnapshot extends Snapshot {
  readonly state: Extract<Snapshot['state'], { at: 'available' }>
}

/** As `findSnapshot`, with its content's digest. Fault 'conflict' 'snapshot' unless it is available. */
export async function findAvailableSnapshot(
  rows: Rows,
  where: { regionId: RegionId; projectId: ProjectId; snapshotId: SnapshotId },
): Promise<AvailableSnapshot> {
  const snapshot = await findSnapshot(rows, where)
  const { state } = snapshot
  if (state.at === 'available') return { ...snapshot, state }
  throw new Fault(
    'conflict',
    `Snapshot '${snapshot.name}' is ${state.at}; it can be used once it is available.`,
    { subject: 'snapshot' },
  )
}

/**
 * A machine of the project in that region. Fault 'absent' 'machine'; 'conflict' 'machine' for one that is being deleted,
 * unless that is no matter.
 */
export async function findMachine(
  rows: Rows,
  where: { regionId: RegionId; projectId: ProjectId; machineId: MachineId },
  which: 'lasting' | 'deleting too' = 'lasting',
): Promise<Machine> {
  const row = await rows
    .selectFrom('machine')
    .selectAll()
    .where('id', '=', where.machineId)
    .where('regionId', '=', where.regionId)
    .where('projectId', '=', where.projectId)
    .executeTakeFirst()
  if (row === undefined) {
    throw new Fault(
      'absent',
      `There is no such machine in region ${where.regionId}. List the machines there.`,
      {
        subject: 'machine',
      },
    )
  }
  if (row.state === 'deleting' && which === 'lasting') {
    throw new Fault('conflict', 'The machine is being deleted; nothing more can be done with it.', {
      subject: 'machine',
    })
  }
  return machineOf(row)
}

const AT_WORK: Readonly<Partial<Record<TaskKind, string>>> = {
  'create-snapshot': 'A snapshot is being made of the machine.',
  'plan-capture': 'The machine is being looked at for a capture.',
  'reset-disk': 'A disk of the machine is being reset.',
}

/**
 * One capture of a machine or reset of a disk of it at a time, and no start under one. Fault 'conflict' 'machine' reason
 * 'capturing'.
 */
export async function refuseWhileCaptured(rows: Rows, machineId: MachineId): Promise<void> {
  const live = await rows
    .selectFrom('task')
    .select('kind')
    .where('machineId', '=', machineId)
    .where('kind', 'in', EXCLUSIVE_KINDS)
    .where('endedAtMs', 'is', null)
    .executeTakeFirst()
  if (live === undefined) return
  throw new Fault(
    'conflict',
    `${AT_WORK[live.kind as TaskKind] ?? 'An image is being made of the machine.'} Wait until that has ended, or cancel it.`,
    {
      subject: 'machine',
      reason: 'capturing',
    },
  )
}
