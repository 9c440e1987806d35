import { isFault } from '../image/fault.ts'
import type { Digest, ImageId, MachineId, RegionId } from '../image/ids.ts'
import type { TaskParts } from './parts.ts'
import { basesOf, imageRef, machineRef } from './refs.ts'

/**
 * Every available image and every machine with disks on an image has its ref in the region's store: at the start of a
 * server, and before each collection. Refs are only added: a catalog that was restored from yesterday knows less than
 * the store, and that is no reason to let anything go. Answers how many were new. What is not there to be referred to is
 * logged, and `verify` names it. Fault 'unavailable' if the store cannot be asked.
 */
export async function ensureRefs(
  { catalog, host, jobs }: Pick<TaskParts, 'catalog' | 'host' | 'jobs'>,
  regionId: RegionId,
  log: (record: Record<string, unknown>) => void,
): Promise<number> {
  const { rows } = catalog
  const images = await rows
    .selectFrom('image')
    .select(['id', 'digest'])
    .where('regionId', '=', regionId)
    .where('state', '=', 'available')
    .execute()
  const machines = await rows
    .selectFrom('machine')
    .select(['id', 'disks', 'state'])
    .where('regionId', '=', regionId)
    // One that is being made refers by itself.
    .where('state', '!=', 'creating')
    .execute()
  const standing = machines.filter(({ disks }) => basesOf(disks).length > 0)
  // A region that nobody has used yet is not opened for this.
  if (images.length + standing.length === 0) return 0
  const held = new Set((await jobs.refs(regionId)).map(({ holder }) => holder))
  let newCount = 0
  const add = async (noun: 'image' | 'machine', id: string, refer: () => Promise<void>) => {
    try {
      await refer()
      newCount++
    } catch (error) {
      if (!isFault(error, 'absent') && !isFault(error, 'corrupt') && !isFault(error, 'conflict')) throw error
      log({ level: 'error', message: 'a ref could not be made', region: regionId, holder: id, error })
    }
    // It may have been deleted, and released, between the two looks.
    const row = await rows.selectFrom(noun).select('id').where('id', '=', id).executeTakeFirst()
    if (row === undefined) await jobs.release(regionId, id)
  }
  for (const { id, digest } of images) {
    if (held.has(id)) continue
    await add('image', id, async () => {
      const ref = await imageRef(rows, id as ImageId, null)
      await jobs.refer(regionId, { ...ref, digests: [digest as Digest] })
    })
  }
  for (const { id, state } of standing) {
    if (held.has(id)) continue
    // Of a failed one there may be nothing left, and then it needs nothing.
    if (state === 'failed' && (await host.power(id as MachineId)) === 'absent') continue
    await add('machine', id, async () => {
      const ref = await machineRef(rows, id as MachineId)
      if (ref !== undefined) await jobs.refer(regionId, ref)
    })
  }
  return newCount
}
