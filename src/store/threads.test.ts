import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { newClaims } from './claims.ts'
import { noise } from './disks.fixture.ts'
import { LocalWrapper } from './keys.ts'
import { MapDisk } from './reader.ts'
import { directoryRegion, TEST_DOMAIN, withRegions } from './region.fixture.ts'
import { captureFile } from './threads.fixture.ts'
import { verifyRegion } from './verify.ts'

const MIB = 1024 * 1024
const regionKey = new Uint8Array(32).fill(200)
const keyedRegion = () => directoryRegion({ store: { wrapper: new LocalWrapper(regionKey) } })

test('two threads capture a sparse file together and store no chunk twice', () =>
  withRegions([keyedRegion], async (region) => {
    const filePath = join(region.folder, 'disk')
    const file = await open(filePath, 'w+')
    await file.truncate(600 * MIB + 512)
    const extents = []
    // The same 5 MiB over and over, so that both threads meet the same chunks at the same time.
    const data = noise(5 * MIB, 9, 3)
    for (let i = 0; i < 12; i++) {
      const offset = i * 48 * MIB
      await file.write(data, 0, data.length, offset)
      extents.push({ offset, lengthBytes: data.length })
    }
    await file.write(data, 0, 512, 600 * MIB)
    extents.push({ offset: 600 * MIB, lengthBytes: 512 })
    await file.close()
    const { digest, content, counts } = await captureFile({
      folder: region.folder,
      indexPath: join(region.folder, 'index.sqlite'),
      regionKey,
      sessionId: 's1',
      domain: TEST_DOMAIN,
      filePath,
      sizeBytes: 600 * MIB + 512,
      extents,
    })
    assert.equal(counts.fedBytes, 60 * MIB + 512)
    assert.equal(counts.newBytes, 5 * MIB + 512)
    assert.equal(counts.dedupBytes, 55 * MIB)
    assert.ok(region.store.hasImage(digest))
    const disk = new MapDisk(region.store, content.disks[0] as (typeof content.disks)[number])
    for (let i = 0; i < 12; i++) assert.ok((await disk.read(i * 48 * MIB, data.length)).equals(data))
    assert.ok((await disk.read(600 * MIB, 512)).equals(data.subarray(0, 512)))
    assert.deepEqual(
      (await disk.extents(0, disk.sizeBytes)).slice(0, 2).map((extent) => extent.lengthBytes),
      [5 * MIB, 43 * MIB],
    )
    assert.deepEqual((await verifyRegion({ region: region.store, deep: true })).problems, [])
  }))

test('a chunk is claimed by exactly one of several threads', async () => {
  const claims = newClaims(5000)
  const claimed = await Promise.all(
    Array.from(
      { length: 3 },
      () =>
        new Promise<number>((resolve, reject) => {
          const worker = new Worker(new URL('./claims-worker.fixture.ts', import.meta.url), {
            workerData: claims,
          })
          worker.once('message', resolve)
          worker.once('error', reject)
        }),
    ),
  )
  assert.equal(
    claimed.reduce((sum, count) => sum + count, 0),
    5000,
  )
})
