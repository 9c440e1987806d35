import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, MachineId, RegionId, SnapshotId } from '../image/ids.ts'
import { type LabelProject, parseLabel, writeLabel } from '../image/label.ts'
import { imageDisksOf, machineDisksOf } from './columns.ts'
import type { TaskParts } from './parts.ts'
import type { RefInput } from './store-jobs.ts'

async function projectOf(rows: Rows, id: string): Promise<LabelProject> {
  const row = await rows
    .selectFrom('project')
    .select(['id', 'name', 'isDefault'])
    .where('id', '=', id)
    .executeTakeFirst()
  return { id: id as LabelProject['id'], name: row?.name ?? id, isDefault: row?.isDefault ?? 0 }
}

const configIn = (config: string | null) => (config === null ? null : JSON.parse(config))

/**
 * The ref that an image of the catalog has in its region's store. `dataBytes` where it is known before the image is
 * made. Fault 'conflict' if the image was deleted meanwhile.
 */
export async function imageRef(rows: Rows, id: ImageId, dataBytes: number | null): Promise<RefInput> {
  const row = await rows.selectFrom('image').selectAll().where('id', '=', id).executeTakeFirst()
  if (row === undefined) {
    throw new Fault('conflict', 'The image was deleted while it was being made.', { subject: 'image' })
  }
  const { projectId, regionId, kind, origin, name, description, tag, osType, osName } = row
  const { sourceMachineId, sourceImageId, consistency, parent, labels, imported, createdAtMs } = row
  const known = row.state === 'available' ? row.dataBytes : dataBytes
  const label = {
    ...{ is: 'image', id, project: await projectOf(rows, projectId), regionId, kind, origin },
    ...{ name, description, tag, osType, osName, disks: imageDisksOf(row.disks) },
    ...{ config: configIn(row.config), consistency, parent, labels, imported },
    ...{ sourceMachineId, sourceImageId, dataBytes: known, createdAtMs },
  }
  return { holder: id, label: writeLabel(parseLabel(label)) }
}

/** As `imageRef`, of a snapshot. */
export async function snapshotRef(rows: Rows, id: SnapshotId, dataBytes: number | null): Promise<RefInput> {
  const row = await rows.selectFrom('snapshot').selectAll().where('id', '=', id).executeTakeFirst()
  if (row === undefined) {
    throw new Fault('conflict', 'The snapshot was deleted while it was being made.', { subject: 'snapshot' })
  }
  const { projectId, regionId, machineId, machineName, diskId, osType, osName, name, description } = row
  const { creator, policyId, imageId, consistency, createdAtMs } = row
  const label = {
    ...{ is: 'snapshot', id, project: await projectOf(rows, projectId), regionId, machineId, machineName },
    ...{
      diskId,
      disk: JSON.parse(row.disk),
      config: configIn(row.config),
      osType,
      osName,
      name,
      description,
    },
    ...{ creator, policyId, imageId, consistency, createdAtMs },
    dataBytes: row.state === 'available' ? row.dataBytes : dataBytes,
  }
  return { holder: id, label: writeLabel(parseLabel(label)) }
}

/** The contents that a machine's disks stand on: of images and of snapshots. */
export function basesOf(disks: string): Digest[] {
  return [
    ...new Set(
      machineDisksOf(disks).flatMap(({ base }) => (base === undefined ? [] : [base.digest as Digest])),
    ),
  ]
}

/**
 * The ref of a machine that stands on images or snapshots, or is about to (`more`); undefined where it stands on none.
 * Fault 'absent' if it is gone.
 */
export async function machineRef(
  rows: Rows,
  id: MachineId,
  more: readonly Digest[] = [],
): Promise<(RefInput & { readonly digests: readonly Digest[] }) | undefined> {
  const row = await rows.selectFrom('machine').selectAll().where('id', '=', id).executeTakeFirst()
  if (row === undefined) {
    throw new Fault('absent', 'The machine was deleted meanwhile.', { subject: 'machine' })
  }
  const digests = [...new Set([...basesOf(row.disks), ...more])]
  if (digests.length === 0) return undefined
  const { projectId, state: _state, reason: _reason, firmware, machineType, ...kept } = row
  const label = {
    ...kept,
    ...(firmware === null ? {} : { firmware }),
    ...(machineType === null ? {} : { machineType }),
    is: 'machine',
    project: await projectOf(rows, projectId),
    disks: machineDisksOf(row.disks),
  }
  return { holder: id, digests, label: writeLabel(parseLabel(label)) }
}

/**
 * Makes the machine's ref what it stands on, and `more`. Nothing stays behind of one that is deleted meanwhile: that is
 * Fault 'absent'.
 */
export async function referMachine(
  { catalog, jobs }: Pick<TaskParts, 'catalog' | 'jobs'>,
  regionId: RegionId,
  id: MachineId,
  more: readonly Digest[] = [],
): Promise<void> {
  const ref = await machineRef(catalog.rows, id, more)
  if (ref === undefined) return
  await jobs.refer(regionId, ref)
  const row = await catalog.rows.selectFrom('machine').select('id').where('id', '=', id).executeTakeFirst()
  if (row !== undefined) return
  await jobs.release(regionId, id)
  throw new Fault('absent', 'The machine was deleted meanwhile.', { subject: 'machine' })
}
