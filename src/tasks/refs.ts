import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, MachineId } from '../image/ids.ts'
import { type LabelProject, parseLabel, writeLabel } from '../image/label.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import type { RefInput } from './store-jobs.ts'

async function projectOf(rows: Rows, id: string): Promise<LabelProject> {
  const row = await rows
    .selectFrom('project')
    .select(['id', 'name', 'isDefault'])
    .where('id', '=', id)
    .executeTakeFirst()
  return { id: id as LabelProject['id'], name: row?.name ?? id, isDefault: row?.isDefault ?? 0 }
}

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
  const { sourceMachineId, sourceImageId, createdAtMs } = row
  const known = row.state === 'available' ? row.dataBytes : dataBytes
  const label = {
    ...{ is: 'image', id, project: await projectOf(rows, projectId), regionId, kind, origin },
    ...{ name, description, tag, osType, osName, disks: JSON.parse(row.disks) },
    ...{ sourceMachineId, sourceImageId, dataBytes: known, createdAtMs },
  }
  return { holder: id, label: writeLabel(parseLabel(label)) }
}

/** The images that a machine's disks stand on. */
export function basesOf(disks: string): Digest[] {
  const records = JSON.parse(disks) as MachineDiskRecord[]
  return [...new Set(records.flatMap(({ base }) => (base === undefined ? [] : [base.digest as Digest])))]
}

/** The ref of a machine that stands on images; undefined where it stands on none. Fault 'absent' if it is gone. */
export async function machineRef(
  rows: Rows,
  id: MachineId,
): Promise<(RefInput & { readonly digests: readonly Digest[] }) | undefined> {
  const row = await rows.selectFrom('machine').selectAll().where('id', '=', id).executeTakeFirst()
  if (row === undefined) {
    throw new Fault('absent', 'The machine was deleted meanwhile.', { subject: 'machine' })
  }
  const digests = basesOf(row.disks)
  if (digests.length === 0) return undefined
  const { projectId, state: _state, reason: _reason, ...kept } = row
  const label = {
    ...kept,
    is: 'machine',
    project: await projectOf(rows, projectId),
    disks: JSON.parse(row.disks),
  }
  return { holder: id, digests, label: writeLabel(parseLabel(label)) }
}
