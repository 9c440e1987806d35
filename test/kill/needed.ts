import assert from 'node:assert/strict'
import type { Digest, PackId } from '../../src/image/ids.ts'
import type { ObjectStore } from '../../src/objects/contract.ts'
import type { ObjectName } from '../../src/objects/names.ts'
import { ID_BYTES, isZeroId } from '../../src/store/hashes.ts'
import { readImage } from '../../src/store/image.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from '../../src/store/map.ts'
import { hashOfName, imageName, pageName, signatureName } from '../../src/store/names.ts'
import { readPackContent } from '../../src/store/pack.ts'
import { readRefs } from '../../src/store/refs.ts'

/** Objects of a region that no image of `digests` and no newest ref needs, found without the index. */
export async function findOrphans(objects: ObjectStore, digests: Iterable<Digest>): Promise<ObjectName[]> {
  const needed = new Set<string>()
  const chunks = new Set<string>()
  for (const digest of digests) {
    needed.add(imageName(digest)).add(signatureName(digest))
    for (const disk of (await readImage(objects, digest)).disks) {
      for (const id of disk.pages) {
        if (id === ZERO_PAGE) continue
        needed.add(pageName(id))
        const page = await readPage(objects, id)
        for (let at = 0; at < PAGE_IDS * ID_BYTES; at += ID_BYTES) {
          if (!isZeroId(page, at)) chunks.add(page.toString('latin1', at, at + ID_BYTES))
        }
      }
    }
  }
  for await (const read of readRefs(objects)) {
    assert('ref' in read, 'every ref can be read')
    needed.add(read.name)
  }
  const orphans: ObjectName[] = []
  for await (const name of objects.list('')) {
    if (name.startsWith('keys/') || needed.has(name)) continue
    if (name.startsWith('packs/')) {
      const { entries } = await readPackContent(objects, hashOfName(name) as PackId)
      if (entries.some(({ id }) => chunks.has(id.toString('latin1')))) continue
    }
    orphans.push(name)
  }
  return orphans
}
