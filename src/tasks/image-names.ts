import type { Rows } from '../catalog/contract.ts'
import { type Digest, type ImageId, type RegionId, type SnapshotId, spellId } from '../image/ids.ts'

/**
 * How people know what the store calls by its digest: `image img-… 'name', disk 0 at byte 4096` for every image, and
 * likewise every snapshot, of the catalog that has this content; the digest where none has; '' for what is of no image.
 */
export async function namesOfImages(
  rows: Rows,
  regionId: RegionId,
): Promise<
  (
    digest: Digest | undefined,
    where: { diskIndex?: number | undefined; offset?: number | undefined },
  ) => string[]
> {
  const images = await rows
    .selectFrom('image')
    .select(['id', 'name', 'digest'])
    .where('regionId', '=', regionId)
    .where('state', '=', 'available')
    .execute()
  const snapshots = await rows
    .selectFrom('snapshot')
    .select(['id', 'name', 'digest'])
    .where('regionId', '=', regionId)
    .where('state', '=', 'available')
    .execute()
  const held = [
    ...images.map(({ id, name, digest }) => ({
      digest,
      name: `image ${spellId('image', id as ImageId, 'native')} '${name}'`,
    })),
    ...snapshots.map(({ id, name, digest }) => ({
      digest,
      name: `snapshot ${spellId('snapshot', id as SnapshotId, 'native')} '${name}'`,
    })),
  ]
  const byDigest = Map.groupBy(held, (one) => one.digest ?? '')
  return (digest, { diskIndex, offset }) => {
    if (digest === undefined) return ['']
    const where = offset === undefined ? '' : `, disk ${diskIndex ?? 0} at byte ${offset}`
    const named = byDigest.get(digest)
    if (named === undefined) return [`image ${digest}${where}`]
    return named.map(({ name }) => `${name}${where}`)
  }
}
