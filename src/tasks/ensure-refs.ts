import assert from 'node:assert/strict'
import { isFault } from '../image/fault.ts'
import type { Digest, ImageId, MachineId, RegionId, SnapshotId } from '../image/ids.ts'
import type { TaskParts } from './parts.ts'
import { basesOf, imageRef, machineRef, snapshotRef } from './refs.ts'
import type { RefInput } from './store-jobs.ts'

type Need = RefInput & { readonly digests: readonly Digest[] }

/**
 * Every available image and snapshot, and every machine with disks on one, has a ref to it in the region's store: at the
 * start of a server, and before each collection. Refs only grow: a catalog that was restored from yesterday knows less than
 * the store, and other things, and that is no reason to let anything go. So a ref to something else than the row says is
 * made one to both. Answers how many were new or grew. What is not there to be referred to is logged, and `verify` names
 * it. Fault 'unavailable' if the store cannot be asked.
 */
export async function ensureRefs(
  { catalog, host, jobs }: Pick<TaskParts, 'catalog' | 'host' | 'jobs'>,
  regionId: RegionId,
  log: (record: Record<string, unknown>) => void,
): Promise<number> {
  const { rows } = catalog
  const [images, snapshots] = await Promise.all(
    (['image', 'snapshot'] as const).map((noun) =>
      rows
        .selectFrom(noun)
        .select(['id', 'digest'])
        .where('regionId', '=', regionId)
        .where('state', '=', 'available')
        .execute(),
    ),
  )
  assert(images !== undefined && snapshots !== undefined)
  const machines = await rows
    .selectFrom('machine')
    .select(['id', 'disks', 'state'])
    .where('regionId', '=', regionId)
    // One that is being made refers by itself.
    .where('state', '!=', 'creating')
    .execute()
  const standing = machines.filter(({ disks }) => basesOf(disks).length > 0)
  // A region that nobody has used yet is not opened for this.
  if (images.length + snapshots.length + standing.length === 0) return 0
  const listHeld = async () =>
    new Map((await jobs.refs(regionId)).map(({ holder, digests }) => [holder, digests]))
  const held = await listHeld()
  const isHeld = (id: string, needs: readonly Digest[]) =>
    needs.every((digest) => held.get(id)?.includes(digest) === true)
  let newCount = 0
  const refer = async (need: Need): Promise<readonly Digest[]> => {
    // Asked again: a reset of a disk may have added to it since.
    const kept = held.has(need.holder) ? ((await listHeld()).get(need.holder) ?? []) : []
    const digests = [...new Set([...kept, ...need.digests])]
    await jobs.refer(regionId, { ...need, digests })
    return digests
  }
  const add = async (noun: 'image' | 'snapshot' | 'machine', id: string, work: () => Promise<void>) => {
    try {
      await work()
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
    const digests = [digest as Digest]
    if (isHeld(id, digests)) continue
    await add('image', id, async () => {
      await refer({ ...(await imageRef(rows, id as ImageId, null)), digests })
    })
  }
  for (const { id, digest } of snapshots) {
    const digests = [digest as Digest]
    if (isHeld(id, digests)) continue
    await add('snapshot', id, async () => {
      await refer({ ...(await snapshotRef(rows, id as SnapshotId, null)), digests })
    })
  }
  for (const { id, state, disks } of standing) {
    if (isHeld(id, basesOf(disks))) continue
    // Of a failed one there may be nothing left, and then it needs nothing.
    if (state === 'failed' && (await host.power(id as MachineId)) === 'absent') continue
    await add('machine', id, async () => {
      // Until it is what the row says: a reset that ended meanwhile may have been overwritten.
      for (let referred: readonly Digest[] = []; ; ) {
        const ref = await machineRef(rows, id as MachineId)
        if (ref === undefined || ref.digests.every((digest) => referred.includes(digest))) return
        referred = await refer(ref)
      }
    })
  }
  return newCount
}
