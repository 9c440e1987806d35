import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PLAIN_CONFIG } from '../image/config.ts'
import type { DomainId } from '../image/ids.ts'
import { MemoryObjects } from '../objects/memory.ts'
import { commitImage } from './capture.ts'
import { collectGarbage } from './gc.ts'
import { LocalWrapper } from './keys.ts'
import { newDiskIds } from './map.ts'
import { imageName, signatureName } from './names.ts'
import { nextRef } from './refs.ts'
import { openRegionStore } from './region.ts'

const DOMAIN = 'org-a' as DomainId
const wrapper = new LocalWrapper(new Uint8Array(32))

/** A store with an empty image of one disk, whose objects are there and whose index is lost. */
async function newObjects(holder: string) {
  const objects = new MemoryObjects()
  const region = await openRegionStore({ objects, indexPath: ':memory:', wrapper })
  await region.openSession('s', DOMAIN)
  const disk = { sizeBytes: 1024 ** 2, chunkBytes: 256 * 1024 }
  const { digest } = await commitImage(
    region,
    's',
    {
      ...{ domain: DOMAIN, config: PLAIN_CONFIG, parent: null, consistency: 'crash' },
      disks: [{ index: 0, bus: 'virtio-blk', ...disk, ids: newDiskIds(disk.sizeBytes, disk.chunkBytes) }],
      os: { type: 'linux', name: '' },
    },
    { ref: { holder, label: {} } },
  )
  region.close()
  return { objects, digest }
}

test('a ref to an image of which nothing is there is garbage; one whose image is damaged is kept', async () => {
  for (const [isSigned, holders] of [
    [false, []],
    [true, ['h']],
  ] as const) {
    const { objects, digest } = await newObjects('h')
    await objects.remove(imageName(digest))
    if (!isSigned) await objects.remove(signatureName(digest))
    const region = await openRegionStore({ objects, indexPath: ':memory:', wrapper })
    assert.deepEqual(
      region.listRefs().map(({ holder }) => holder),
      holders,
    )
    await collectGarbage({ region, graceMs: 0, isDryRun: false, deadSessions: [] })
    const name = nextRef({ holder: 'h', label: {}, digests: [digest] }, undefined).name
    assert.equal((await objects.size(name)) !== undefined, isSigned)
    region.close()
  }
})
