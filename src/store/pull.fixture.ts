import assert from 'node:assert/strict'
import type { Digest } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { captureDisks, type TestDisk } from './disks.fixture.ts'
import { packName } from './names.ts'
import { parsePackContent } from './pack.ts'
import { pullImage } from './pull.ts'
import { TEST_CHUNK_BYTES, TEST_DOMAIN, type TestRegion } from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import type { PackRef, ReadOnlyRegion } from './source.ts'
import { verifyRegion } from './verify.ts'

export const CHUNK = TEST_CHUNK_BYTES
export async function assertSound({ store }: TestRegion): Promise<void> {
  assert.deepEqual((await verifyRegion({ region: store, deep: true })).problems, [])
}

/** The same region, with `change` over every read of a pack. */
export function sourceOf(
  region: TestRegion,
  change: (bytes: Buffer, count: number, name: ObjectName) => Buffer,
): ReadOnlyRegion {
  let count = 0
  const objects: Pick<ObjectStore, 'get' | 'size' | 'traits'> = {
    traits: region.objects.traits,
    size: (name, signal) => region.objects.size(name, signal),
    get: async (name, offset, lengthBytes, signal) => {
      const bytes = await region.objects.get(name, offset, lengthBytes, signal)
      return name.startsWith('packs/') ? change(bytes, count++, name) : bytes
    },
  }
  return {
    objects,
    getImage: (digest, signal) => region.store.getImage(digest, signal),
    getSecrets: (domain, signal) => region.store.getSecrets(domain, signal),
    locate: (ids) => region.store.locate(ids),
  }
}

export const capture = (region: TestRegion, sessionId: string, disks: readonly TestDisk[]) =>
  captureDisks({ region: region.store, sessionId, domain: TEST_DOMAIN, disks })

export const pull = (source: ReadOnlyRegion, target: TestRegion, digest: Digest, sessionId = 'p') =>
  pullImage({ source, target: target.store, digest, sessionId })

/** What is in these packs of `from`, packed anew by another writer. */
export async function bringPacks(
  from: Pick<TestRegion, 'objects'>,
  to: RegionStore,
  packs: readonly PackRef[],
): Promise<void> {
  await to.openSession('o', TEST_DOMAIN)
  for (const { id, domain } of packs) {
    const sizeBytes = (await from.objects.size(packName(id))) ?? 0
    const bytes = await from.objects.get(packName(id), 0, sizeBytes)
    await to.putPack('o', domain, bytes, parsePackContent(id, bytes).entries)
  }
  to.commitSession('o')
}
