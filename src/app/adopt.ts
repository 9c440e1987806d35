import type { Catalog } from '../catalog/contract.ts'
import type { Host } from '../host/contract.ts'
import type { RegionId } from '../image/ids.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { GIB } from '../image/region.ts'

/**
 * Lists the operator's own machines that the catalog does not know yet: stopped, made of no image, in the default
 * project and the place given. Answers how many were new. May run twice.
 */
export async function adoptMachines(
  catalog: Catalog,
  host: Host,
  place: { readonly regionId: RegionId; readonly zone: string },
  nowMs: number,
): Promise<number> {
  let newCount = 0
  const { id: projectId } = await catalog.rows
    .selectFrom('project')
    .select('id')
    .where('isDefault', '=', 1)
    .executeTakeFirstOrThrow()
  for (const { id, name, disks } of await host.found()) {
    const records: MachineDiskRecord[] = disks.map((disk, index) => ({
      ...disk,
      index,
      bus: 'virtio-blk',
      base: undefined,
      category: '',
    }))
    const made = await catalog.rows
      .insertInto('machine')
      .values({
        ...place,
        projectId,
        id,
        name,
        tag: 'Default',
        labels: '[]',
        state: 'stopped',
        reason: '',
        cpuCount: 1,
        memoryBytes: GIB,
        typeName: '',
        imageId: '',
        imageName: '',
        osType: 'Linux',
        osName: '',
        disks: JSON.stringify(records),
        details: '{}',
        createdAtMs: nowMs,
      })
      .onConflict((on) => on.column('id').doNothing())
      .executeTakeFirst()
    newCount += Number(made.numInsertedOrUpdatedRows ?? 0n)
  }
  return newCount
}
