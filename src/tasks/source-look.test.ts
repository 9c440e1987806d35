import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import type { ObjectsPlace } from '../objects/open.ts'
import { captureDisks, noise } from '../store/disks.fixture.ts'
import { imageName } from '../store/names.ts'
import { directoryRegion, TEST_CHUNK_BYTES, TEST_DOMAIN, withRegions } from '../store/region.fixture.ts'
import { createSourceLook } from './source-look.ts'

const HOME = 'cn-hangzhou' as RegionId
const disks = [{ bytes: noise(4 * TEST_CHUNK_BYTES, 5), chunkBytes: TEST_CHUNK_BYTES }]

async function withImage(
  body: (digest: Digest, place: { folder: string; indexPath: string }) => Promise<void>,
): Promise<void> {
  await withRegions([directoryRegion], async ({ store: region, folder }) => {
    const { digest } = await captureDisks({
      region,
      sessionId: 's',
      domain: TEST_DOMAIN,
      disks,
      holder: 'me',
    })
    await body(digest, { folder, indexPath: join(folder, 'index.sqlite') })
  })
}

const inFolder = (folder: string): ObjectsPlace => ({ kind: 'directory', folder })
const inBucket = (port: number): ObjectsPlace => ({
  ...{
    kind: 's3',
    endpoint: `http://127.0.0.1:${port}`,
    region: 'r',
    bucket: 'b',
    prefix: '',
    isPathStyle: true,
  },
  ...{ accessKeyId: 'id', secretAccessKey: 'secret' },
})

test('a damaged image is refused with what to do about it; one that is whole, and a region of no settings, are not', () =>
  withImage(async (digest, { folder, indexPath }) => {
    const look = createSourceLook([{ regionId: HOME, objects: inFolder(folder), indexPath }])
    await look.refuseDamaged(HOME, digest)
    await look.refuseDamaged('mars' as RegionId, digest)
    await rm(join(folder, imageName(digest)))
    await assert.rejects(look.refuseDamaged(HOME, digest), (error) => {
      assert.ok(error instanceof Fault)
      assert.deepEqual([error.kind, error.subject, error.reason], ['corrupt', 'image', 'damaged'])
      assert.match(error.message, /damaged in region cn-hangzhou.*another region.*calotype store scrub/s)
      return true
    })
  }))

test('of a region that is away, or does not answer in time, nothing is said', () =>
  withImage(async (digest, { folder, indexPath }) => {
    const silent = createServer(() => {})
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as AddressInfo
    const refuse = (objects: ObjectsPlace, index: string, waitMs: number) =>
      createSourceLook([{ regionId: HOME, objects, indexPath: index }], waitMs).refuseDamaged(HOME, digest)
    try {
      await refuse(inFolder(folder), join(folder, 'no-index'), 60_000)
      await refuse(inBucket(port), indexPath, 50)
    } finally {
      silent.close()
    }
    await refuse(inBucket(port), indexPath, 60_000)
  }))
