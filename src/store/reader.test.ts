import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest, PageId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { ChunkCache } from './cache.ts'
import { ChunkReader } from './chunk-reader.ts'
import { captureDisks, noise } from './disks.fixture.ts'
import { ID_BYTES } from './hashes.ts'
import { readPage } from './map.ts'
import { type MapPiece, openImageDisk } from './reader.ts'
import {
  memoryRegion,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'

const CHUNK = TEST_CHUNK_BYTES
/** 40 chunks that differ, two of them zero, and a short one at the end. */
const bytes = Buffer.concat([
  noise(10 * CHUNK, 1, 4),
  Buffer.alloc(2 * CHUNK),
  noise(28 * CHUNK, 2, 8),
  noise(512, 3),
])

/** The region's objects, with what is read of them going through `pass`. */
function readThrough(
  { objects: inner }: TestRegion,
  pass: (name: string, bytes: Buffer) => Buffer,
): ObjectStore {
  return {
    traits: inner.traits,
    put: inner.put.bind(inner),
    size: inner.size.bind(inner),
    list: inner.list.bind(inner),
    remove: inner.remove.bind(inner),
    get: async (name, offset, lengthBytes, signal) =>
      pass(name, await inner.get(name, offset, lengthBytes, signal)),
  }
}

/** The region with the disk in it; `onGet` hears of every read. */
async function capture(region: TestRegion, onGet: (name: string) => void = () => {}) {
  const { digest } = await captureDisks({
    region: region.store,
    sessionId: 's',
    domain: TEST_DOMAIN,
    disks: [{ bytes, chunkBytes: CHUNK }],
  })
  const heard = (name: string, got: Buffer) => {
    onGet(name)
    return got
  }
  const store = await region.reopen(readThrough(region, heard))
  return { digest, store }
}

const joined = (pieces: readonly MapPiece[]) =>
  Buffer.concat(pieces.map((piece) => Buffer.from(piece.bytes ?? new Uint8Array(piece.lengthBytes))))

test('pieces are the bytes of the disk: by a promise at first, then at once and without a copy', () =>
  withRegions([memoryRegion], async (region) => {
    const { store, digest } = await capture(region)
    const disk = await openImageDisk(store, digest, 0)
    for (const [from, to] of [
      [0, CHUNK],
      [9 * CHUNK - 7, 13 * CHUNK + 9],
      [10 * CHUNK, 12 * CHUNK],
      [39 * CHUNK, bytes.length],
      [5, 5],
    ] as const) {
      const wanted = bytes.subarray(from, to)
      assert.ok(joined(await disk.pieces(from, to - from)).equals(wanted))
      const [first, second] = [disk.pieces(from, to - from), disk.pieces(from, to - from)]
      assert.ok(!(first instanceof Promise) && !(second instanceof Promise))
      assert.ok(joined(first).equals(wanted))
      for (const [i, piece] of first.entries()) assert.equal(piece.bytes?.buffer, second[i]?.bytes?.buffer)
      assert.ok((await disk.read(from, to - from)).equals(wanted))
    }
    const zeroes = await disk.pieces(10 * CHUNK, 2 * CHUNK)
    assert.ok(zeroes.every((piece) => piece.bytes === undefined))
  }))

test('who reads in order finds the next chunks on their way, several with one read', () =>
  withRegions([memoryRegion], async (region) => {
    let getCount = 0
    const { store, digest } = await capture(region, (name) => {
      if (name.startsWith('packs/')) getCount++
    })
    const disk = await openImageDisk(store, digest, 0)
    for (let at = 0; at < bytes.length; at += 10_000) {
      const lengthBytes = Math.min(10_000, bytes.length - at)
      assert.ok((await disk.read(at, lengthBytes)).equals(bytes.subarray(at, at + lengthBytes)))
    }
    assert.ok(getCount < 25, `${getCount} reads for 39 chunks`)
    await disk.close()
  }))

test('many readers of one chunk cause one read; a cache is shared by those who are given it', () =>
  withRegions([memoryRegion], async (region) => {
    const names: string[] = []
    const { store, digest } = await capture(region, (name) => names.push(name))
    const cache = new ChunkCache(64 * CHUNK)
    const open = () => openImageDisk(store, digest, 0, { chunks: new ChunkReader(store, '', cache) })
    const [first, second] = [await open(), await open()]
    await Promise.all([first.read(0, 10), first.read(100, 10), second.read(0, 10), second.read(CHUNK - 1, 1)])
    assert.equal(names.filter((name) => name.startsWith('packs/')).length, 1)
    await second.read(0, CHUNK)
    assert.equal(names.filter((name) => name.startsWith('packs/')).length, 1)
    assert.ok(store.cache.find(Buffer.from(await idOf(region, digest, 0)).toString('hex')) === undefined)
  }))

test('a damaged pack fails those who ask for its chunks, and nobody else', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, store } = await capture(region)
    const bad = store.places.find(await idOf(region, digest, 20))[0]?.pack ?? ''
    const objects = readThrough(region, (name, got) => (name.includes(bad) ? Buffer.alloc(got.length) : got))
    const disk = await openImageDisk(await region.reopen(objects), digest, 0)
    const failed: number[] = []
    for (let index = 0; index < 41; index++) {
      const lengthBytes = Math.min(CHUNK, bytes.length - index * CHUNK)
      try {
        const got = await disk.read(index * CHUNK, lengthBytes)
        assert.ok(got.equals(bytes.subarray(index * CHUNK, index * CHUNK + lengthBytes)))
      } catch (error) {
        assert.ok(isFault(error, 'corrupt'))
        failed.push(index)
      }
    }
    assert.ok(failed.includes(20) && failed.length < 39)
    for (const index of failed) {
      await assert.rejects(disk.read(index * CHUNK + 5, 7), (error) => isFault(error, 'corrupt'))
    }
  }))

async function idOf(region: TestRegion, digest: Digest, index: number): Promise<Uint8Array> {
  const image = await region.store.getImage(digest)
  const page = await readPage(region.objects, image.disks[0]?.pages[0] as PageId)
  return page.subarray(index * ID_BYTES, (index + 1) * ID_BYTES)
}
