import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { PLAIN_CONFIG } from '../image/config.ts'
import { isFault } from '../image/fault.ts'
import { BlobSink, blobDataBytes, commitBlob } from './blob.ts'
import type { DiskMap } from './map.ts'
import { MapDisk, openImageDisk } from './reader.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  withRegions,
} from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import { verifyRegion } from './verify.ts'

const open = (region: RegionStore, map?: DiskMap, sessionId = 'blob') =>
  BlobSink.open({ region, sessionId, domain: TEST_DOMAIN, chunkBytes: TEST_CHUNK_BYTES, map })

const FACTS = {
  domain: TEST_DOMAIN,
  config: PLAIN_CONFIG,
  os: { type: 'linux', name: '' },
  parent: null,
  consistency: 'crash',
  bus: 'virtio-blk',
} as const

/** Data with runs of zeroes and equal chunks in it. */
function content(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  for (let at = 0; at < lengthBytes; at += TEST_CHUNK_BYTES / 2) {
    if (Math.random() < 0.6) randomBytes(Math.min(TEST_CHUNK_BYTES / 3, lengthBytes - at)).copy(bytes, at)
  }
  bytes.copy(bytes, TEST_CHUNK_BYTES * 3, 0, TEST_CHUNK_BYTES)
  return bytes
}

test('bytes in any pieces, over restarts, become a disk', async () => {
  await withRegions([directoryRegion], async (region) => {
    const bytes = content(5 * 1024 * 1024 + 512)
    let map: DiskMap | undefined
    let sink = await open(region.store)
    for (let at = 0; at < bytes.length; ) {
      const piece = Math.min(1 + Math.floor(Math.random() * 400_000), bytes.length - at)
      await sink.write(bytes.subarray(at, at + piece))
      at += piece
      if (Math.random() < 0.5) map = await sink.checkpoint()
      if (Math.random() < 0.3) {
        // What was written behind the checkpoint is lost with the process.
        await sink.abandon()
        await region.reopen()
        at = map?.sizeBytes ?? 0
        sink = await open(region.store, map)
        assert.equal(sink.sizeBytes, at)
      }
    }
    map = await sink.checkpoint()
    assert.equal(map.sizeBytes, bytes.length)
    const before = new MapDisk(region.store, map, 'blob')
    assert((await before.read(0, bytes.length)).equals(bytes))
    const ref = { holder: 'a'.repeat(17), label: {} }
    const { digest } = await commitBlob(region.store, 'blob', map, FACTS, ref)
    const disk = await openImageDisk(region.store, digest, 0)
    assert((await disk.read(0, bytes.length)).equals(bytes))
    const again = await commitBlob(region.store, 'blob', map, FACTS, ref)
    assert.equal(again.digest, digest)
    let dataBytes = 0
    for (let at = 0; at < bytes.length; at += TEST_CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + TEST_CHUNK_BYTES)
      if (chunk.some((byte) => byte !== 0)) dataBytes += chunk.length
    }
    assert.equal(await blobDataBytes(region.store, map), dataBytes)
    assert.deepEqual((await verifyRegion({ region: region.store, deep: true })).problems, [])
  })
})

test('a blob of several pages of the map goes on in the middle of a page', async () => {
  await withRegions([memoryRegion], async (region) => {
    // 2 048 chunks of 64 KiB are a page.
    const pageBytes = 2048 * TEST_CHUNK_BYTES
    const zeroes = Buffer.alloc(1024 * 1024)
    const marks = [3, pageBytes - 5, pageBytes + 70_000]
    const sizeBytes = 2 * pageBytes + 3 * TEST_CHUNK_BYTES + 7
    const bytesAt = (offset: number, lengthBytes: number) => {
      const piece = Buffer.from(zeroes.subarray(0, lengthBytes))
      for (const mark of marks) if (mark >= offset && mark < offset + lengthBytes) piece[mark - offset] = 9
      return piece
    }
    let map: DiskMap | undefined
    for (const end of [100, pageBytes - 1, pageBytes, pageBytes + 1, 2 * pageBytes, sizeBytes]) {
      const sink = await open(region.store, map)
      for (let at = sink.sizeBytes; at < end; ) {
        const lengthBytes = Math.min(zeroes.length, end - at)
        await sink.write(bytesAt(at, lengthBytes))
        at += lengthBytes
      }
      map = await sink.checkpoint()
      assert.deepEqual([map.sizeBytes, map.pages.length], [end, Math.ceil(end / pageBytes)])
    }
    assert(map !== undefined)
    const disk = new MapDisk(region.store, map, 'blob')
    for (const mark of marks) assert.equal((await disk.read(mark - 1, 3))[1], 9)
  })
})

test('an abandoned blob leaves nothing', async () => {
  await withRegions([directoryRegion], async (region) => {
    const sink = await open(region.store)
    await sink.write(randomBytes(1_500_000))
    const map = await sink.checkpoint()
    await sink.write(randomBytes(700_000))
    await sink.abandon()
    await region.store.abortSession('blob')
    assert.deepEqual(await objectNames(region.objects), [])
    await assert.rejects(open(region.store, map), (error) => isFault(error, 'corrupt'))
  })
})
