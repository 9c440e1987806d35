import { isFault } from '../image/fault.ts'
import type { Digest, PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { guard } from './database.ts'
import { imageName, packName, signatureName } from './names.ts'
import { readRef } from './refs.ts'
import type { RegionStore } from './region.ts'

/** The packs that a page's chunks lie in: of each list, any one will do. */
export interface PageNeeds {
  readonly packs: readonly (readonly PackId[])[]
}

/** What an image binds: nothing of it is collected as long as the image is there. */
export function boundBy(region: RegionStore, digest: Digest): ReadonlySet<ObjectName> {
  const sql = `SELECT o.name FROM imageObject b JOIN object o ON o.number = b.object
    WHERE b.image = (SELECT number FROM object WHERE name = ?) AND o.state = 1`
  const rows = guard(() => region.database.prepare(sql).all(imageName(digest)))
  return new Set(rows.map((row) => row.name as ObjectName))
}

/** What the image needs and does not bind (I1), told once for each object. `pages` are those that could be read. */
export function* bindProblems(
  image: Digest,
  bound: ReadonlySet<ObjectName>,
  pages: ReadonlyMap<ObjectName, PageNeeds>,
): Generator<{ readonly image: Digest; readonly message: string; readonly pack?: PackId }> {
  const unbound = (name: ObjectName) =>
    `I1: image ${image} needs ${name} and does not bind it. Rebuild the index.`
  for (const name of [signatureName(image), ...pages.keys()]) {
    if (!bound.has(name)) yield { image, message: unbound(name) }
  }
  const told = new Set<PackId>()
  for (const { packs } of pages.values()) {
    for (const choice of packs) {
      const [pack] = choice
      if (pack === undefined || told.has(pack) || choice.some((one) => bound.has(packName(one)))) continue
      told.add(pack)
      yield { image, message: unbound(packName(pack)), pack }
    }
  }
}

/** What is wrong with refs: an image that is not there (I2), or, by its name, an object that does not say what is listed. */
export async function* refProblems(
  region: RegionStore,
  signal?: AbortSignal,
): AsyncGenerator<{ readonly message: string; readonly name?: ObjectName }> {
  for (const { holder, digests, name } of region.listRefs()) {
    for (const digest of digests) {
      if (region.hasImage(digest)) continue
      // Both in one look, unless it was dropped in between.
      if (!region.listRefs().some((ref) => ref.name === name)) continue
      yield { message: `I2: ${holder} refers to image ${digest}, which the region does not hold.` }
    }
    try {
      const ref = await readRef(region.objects, name, signal)
      if (ref.digests.length === digests.length && digests.every((digest) => ref.digests.includes(digest)))
        continue
      yield { message: `I2: the ref ${name} names other images than the index. Rebuild it.` }
    } catch (error) {
      if (!isFault(error, 'corrupt') && !isFault(error, 'absent')) throw error
      yield { name, message: error.message }
    }
  }
}
