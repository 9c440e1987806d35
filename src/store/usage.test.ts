import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Digest } from '../image/ids.ts'
import { type CapturedImage, captureDisks, noise } from './disks.fixture.ts'
import { hashPlain } from './hashes.ts'
import {
  memoryRegion,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import { usageOf } from './usage.ts'
import { SEVERAL, UsageTable } from './usage-table.ts'

const CHUNK = TEST_CHUNK_BYTES
/** Chunk contents to choose from: 0 is zero, the others compress differently. */
const POOL = [
  Buffer.alloc(CHUNK),
  ...Array.from({ length: 12 }, (_, n) => noise(CHUNK, n + 1, 1 + (n % 5) * 7)),
]

/** Disks as lists of pool numbers; a tail of half a chunk where `isCut`. */
interface PoolDisk {
  readonly chunks: readonly number[]
  readonly isCut: boolean
}

function bytesOf({ chunks, isCut }: PoolDisk): Buffer {
  const bytes = Buffer.concat(chunks.map((n) => POOL[n] as Buffer))
  return isCut ? bytes.subarray(0, bytes.length - CHUNK / 2) : bytes
}

async function capture(region: TestRegion, name: string, disks: readonly PoolDisk[]): Promise<CapturedImage> {
  return captureDisks({
    region: region.store,
    sessionId: name,
    domain: TEST_DOMAIN,
    osName: name,
    disks: disks.map((disk) => ({ bytes: bytesOf(disk), chunkBytes: CHUNK })),
  })
}

/** The distinct chunks of an image, by plain hash, with their stored lengths. */
async function storedOf(region: TestRegion, disks: readonly PoolDisk[]): Promise<Map<string, number>> {
  const domain = await region.store.getDomain(TEST_DOMAIN)
  const found = new Map<string, number>()
  for (const disk of disks) {
    const bytes = bytesOf(disk)
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const plain = bytes.subarray(at, at + CHUNK)
      if (plain.every((byte) => byte === 0)) continue
      const id = domain.hasher.idOf(hashPlain(plain))
      found.set(id.toString('hex'), region.store.places.find(id)[0]?.storedBytes as number)
    }
  }
  return found
}

const sum = (numbers: Iterable<number>) => [...numbers].reduce((total, one) => total + one, 0)

test('an empty region uses nothing', () =>
  withRegions([memoryRegion], async (region) => {
    const none = { packBytes: 0, liveBytes: 0, reclaimableBytes: 0, condemnedBytes: 0, images: [] }
    assert.deepEqual(await usageOf(region.store), none)
  }))

test('unique, shared and live bytes are what a count by hand says', async () => {
  const poolDisk = fc.record({
    chunks: fc.array(fc.nat(POOL.length - 1), { minLength: 1, maxLength: 8 }),
    isCut: fc.boolean(),
  })
  const images = fc.array(fc.array(poolDisk, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(images, (model) =>
      withRegions([memoryRegion], async (region) => {
        const byDigest = new Map<Digest, readonly PoolDisk[]>()
        for (const [n, disks] of model.entries()) {
          byDigest.set((await capture(region, `image-${n}`, disks)).digest, disks)
        }
        const usage = await usageOf(region.store)
        assert.equal(usage.images.length, byDigest.size)
        const stored = new Map<Digest, Map<string, number>>()
        for (const [digest, disks] of byDigest) stored.set(digest, await storedOf(region, disks))
        for (const one of usage.images) {
          const disks = byDigest.get(one.digest) as readonly PoolDisk[]
          const own = stored.get(one.digest) as Map<string, number>
          const others = [...stored].filter(([digest]) => digest !== one.digest).map(([, chunks]) => chunks)
          const unique = [...own].filter(([id]) => !others.some((chunks) => chunks.has(id)))
          assert.equal(one.logicalBytes, sum(disks.map((disk) => bytesOf(disk).length)))
          const data = disks.map(({ chunks, isCut }) => {
            const count = chunks.filter((n) => n !== 0).length
            return count * CHUNK - (isCut && chunks.at(-1) !== 0 ? CHUNK / 2 : 0)
          })
          assert.equal(one.dataBytes, sum(data))
          assert.equal(one.storedBytes, sum(own.values()))
          assert.equal(one.uniqueBytes, sum(unique.map(([, bytes]) => bytes)))
          assert.equal(one.uniqueBytes + one.sharedBytes, one.storedBytes)
        }
        const all = new Map([...stored.values()].flatMap((chunks) => [...chunks]))
        assert.equal(usage.liveBytes, sum(all.values()) + 48 * all.size)
        assert.equal(usage.reclaimableBytes, 0, 'every chunk is named, and no chunk is stored twice')
      }),
    ),
    { numRuns: 40, verbose: 1 },
  )
})

test('a chunk in two pages of one image counts once, in two images as shared', () =>
  withRegions([memoryRegion], async (region) => {
    // More than one page (2 048 chunks) each; the same chunk in both pages, and one of its own per image.
    const long = (own: number) => {
      const chunks = new Array<number>(2050).fill(0)
      chunks[1] = 1
      chunks[2048] = 1
      chunks[5] = own
      return [{ chunks, isCut: false }]
    }
    const first = await capture(region, 'first', long(2))
    const second = await capture(region, 'second', long(3))
    const usage = await usageOf(region.store)
    for (const { digest } of [first, second]) {
      const disks = digest === first.digest ? long(2) : long(3)
      const one = usage.images.find((image) => image.digest === digest)
      const stored = await storedOf(region, disks)
      assert.equal(one?.storedBytes, sum(stored.values()))
      assert.ok((one?.sharedBytes ?? 0) > 0 && (one?.uniqueBytes ?? 0) > 0)
      assert.equal(one?.dataBytes, 3 * CHUNK)
    }
  }))

test('second copies and chunks of no image are reclaimable', () =>
  withRegions([memoryRegion], async (region) => {
    await capture(region, 'image', [{ chunks: [1, 2, 3], isCut: false }])
    const before = await usageOf(region.store)
    // The index is told of one more copy, in a pack as large as the copy makes it.
    const { database } = region.store
    database.prepare("INSERT INTO object (name, sizeBytes, state) VALUES ('packs/aa/aa', 1136, 1)").run()
    database
      .prepare(
        "INSERT INTO chunk SELECT id, (SELECT number FROM object WHERE name = 'packs/aa/aa'), 64, 1000, plainBytes, 0 FROM chunk LIMIT 1",
      )
      .run()
    const after = await usageOf(region.store)
    assert.equal(after.liveBytes, before.liveBytes)
    assert.equal(after.reclaimableBytes, 1000 + 48)
    assert.deepEqual(after.images, before.images)
  }))

test('the table tells chunks apart up to its last slot, and others keep out', () => {
  const count = 5000
  const ids = Buffer.concat(Array.from({ length: count }, (_, n) => noise(32, n + 1)))
  const table = new UsageTable(count)
  for (let n = 0; n < count; n++) assert.equal(table.add(ids, n * 32, 1 + (n % 2), 1), undefined)
  for (let n = 0; n < count; n += 10) assert.equal(table.add(ids, n * 32, 2, 2), 1)
  for (let n = 0; n < count; n++) table.setStored(ids.subarray(n * 32, n * 32 + 32), n + 1)
  table.setStored(noise(32, 99_999), 7)
  let total = 0
  let several = 0
  let inPages = 0
  table.each(0, table.slotCount, (owner, bytes, page) => {
    total += bytes
    if (owner === SEVERAL) several++
    if (page === 0) inPages++
  })
  assert.equal(total, (count * (count + 1)) / 2)
  assert.equal(several, count / 10)
  assert.equal(inPages, count / 10)
})
