import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PLAIN_CONFIG } from '../image/config.ts'
import type { Digest } from '../image/ids.ts'
import { type Composition, composeImage } from './compose.ts'
import { assertHolds, captureDisks, noise, type TestDisk } from './disks.fixture.ts'
import { memoryRegion, TEST_CHUNK_BYTES, TEST_DOMAIN, withRegions } from './region.fixture.ts'
import { verifyRegion } from './verify.ts'

const BASE = 'b'.repeat(64) as Digest
const OTHER_BASE = 'c'.repeat(64) as Digest
const FACTS: Omit<Composition, 'disks'> = {
  ...{ domain: TEST_DOMAIN, config: PLAIN_CONFIG, os: { type: 'linux', name: 'Test' }, consistency: 'crash' },
}

const diskOf = (seed: number): TestDisk => ({
  bytes: noise(3 * TEST_CHUNK_BYTES, seed),
  chunkBytes: TEST_CHUNK_BYTES,
})

test('a composed image has the parent of the image that its system disk is of', () =>
  withRegions([memoryRegion], async ({ store }) => {
    const capture = (name: string, disk: TestDisk, parent?: Digest) =>
      captureDisks({
        ...{ region: store, sessionId: name, domain: TEST_DOMAIN, disks: [disk], holder: name },
        ...(parent === undefined ? {} : { parent }),
      })
    const [first, second] = [diskOf(1), diskOf(2)]
    const system = await capture('system', first, BASE)
    const data = await capture('data', second, OTHER_BASE)
    const alone = await capture('alone', second)
    const compose = (name: string, ...sources: Digest[]) => {
      const disks = sources.map((digest) => ({ digest, diskIndex: 0, bus: 'virtio-blk' as const }))
      const composition: Composition = { ...FACTS, disks }
      return composeImage(store, `compose-${name}`, composition, { holder: name, label: {} })
    }
    const both = await compose('both', system.digest, data.digest)
    assert.equal(both.content.parent, BASE)
    assert.equal((await store.getImage(both.digest)).parent, BASE)
    await assertHolds(store, both.digest, [first, second])
    assert.equal((await compose('turned', data.digest, system.digest)).content.parent, OTHER_BASE)
    assert.equal((await compose('without', alone.digest, system.digest)).content.parent, null)
    // With the same facts nothing tells the two apart.
    assert.equal((await compose('same', system.digest)).digest, system.digest)
    assert.deepEqual((await verifyRegion({ region: store, deep: true })).problems, [])
  }))
