import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { FaultyObjects, type Plan, type Trouble } from '../objects/failing.fixture.ts'
import type { ObjectName } from '../objects/names.ts'
import {
  assertClean,
  bytesOf,
  cutTo,
  flipAt,
  type Harm,
  harmObject,
  namesOf,
  replaceObject,
  takeAway,
  withCopies,
} from './damage.fixture.ts'
import { assertHolds, noise } from './disks.fixture.ts'
import { collectGarbage } from './gc.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { readPage } from './map.ts'
import { packName } from './names.ts'
import { findChunkIn } from './peer-chunk.ts'
import { MapDisk } from './reader.ts'
import { memoryRegion, TEST_CHUNK_BYTES, type TestRegion } from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import { repair } from './repair.ts'
import { scrub } from './scrub.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const disks = [
  { bytes: noise(12 * CHUNK, 5), chunkBytes: CHUNK },
  { bytes: noise(3 * CHUNK + 512, 6, 40), chunkBytes: CHUNK },
]
disks[0]?.bytes.fill(0, CHUNK, 2 * CHUNK)

const rescueFrom = (peer: RegionStore, region: () => RegionStore) => ({
  rescue: async (id: Uint8Array) =>
    (await findChunkIn(peer, id, (domain) => region().findDomain(domain)))?.plain,
})

/** Reads the image by inline rescue, repairs, and checks that all is as it was. */
async function assertMended(
  near: TestRegion,
  far: TestRegion,
  image: { digest: Parameters<typeof assertHolds>[1] },
  name: ObjectName,
  before: Buffer,
): Promise<void> {
  const region = await near.reopen()
  // What a scrub without keys cannot see a deep check finds, and lists.
  const scrubbed = await scrub({ region })
  const verified = await verifyRegion({ region, deep: true })
  assert.ok(scrubbed.damagedCount > 0 || verified.problems.length > 0, 'the damage is found')
  if (name.startsWith('packs/')) {
    const again = await near.reopen(
      near.objects,
      rescueFrom(far.store, () => near.store),
    )
    await assertHolds(again, image.digest, disks)
  }
  const report = await repair({ region: near.store, peers: [far.store] })
  assert.deepEqual(report.lost, [])
  assert.ok(report.mendedCount > 0, JSON.stringify(report))
  const whole = await near.reopen()
  await assertClean(whole)
  await assertHolds(whole, image.digest, disks)
  if (/^(pages|images|signatures)/.test(name)) {
    assert.deepEqual(await bytesOf(near.objects, name), before, 'byte for byte')
  }
  const garbage = await collectGarbage({ region: whole, graceMs: 0, isDryRun: false, deadSessions: [] })
  assert.equal(garbage.waitingBytes, 0)
  await assertClean(whole)
  await assertHolds(whole, image.digest, disks)
  const second = await repair({ region: whole, peers: [far.store] })
  assert.equal(second.mendedCount + second.lostCount, 0, 'there is nothing left to do')
}

const HARMS: readonly [string, Harm][] = [
  ['a flipped bit at its start', flipAt(0)],
  ['a flipped bit in its head', flipAt(20)],
  ['a flipped bit in its body', flipAt(70)],
  ['a flipped bit in its middle', flipAt(100_001)],
  ['a flipped bit in its tail', flipAt(-40)],
  ['a flipped bit near its end', flipAt(-10)],
  ['a flipped bit at its end', flipAt(-1)],
  ['half of it', cutTo(0.5)],
  ['nothing of it', cutTo(0)],
  ['gone', takeAway],
]

for (const prefix of ['packs/', 'pages/', 'images/', 'signatures/', 'keys/']) {
  test(`damaged ${prefix} are found and mended from a peer`, async () => {
    for (const [how, harm] of HARMS) {
      await withCopies(disks, async (near, far, image) => {
        const [name] = await namesOf(near.objects, prefix)
        assert(name !== undefined)
        try {
          const before = await harmObject(near.objects, name, harm)
          await assertMended(near, far, image, name, before)
        } catch (error) {
          throw new Error(`${prefix} ${how}`, { cause: error })
        }
      })
    }
  })
}

test('a damaged ref keeps what it needs, and its holder is told that the label is gone', async () => {
  for (const [, harm] of HARMS) {
    await withCopies(disks, async (near, _far, { digest }) => {
      const [name] = await namesOf(near.objects, 'refs/')
      assert(name !== undefined)
      await harmObject(near.objects, name, harm)
      const region = await near.reopen()
      assert.equal((await scrub({ region })).damagedCount, 1)
      const report = await repair({ region, peers: [] })
      assert.deepEqual(report.unlabelledHolders, ['near'])
      assert.deepEqual(
        region.listRefs().map((ref) => [ref.holder, ref.digests]),
        [['near', [digest]]],
      )
      await collectGarbage({ region, graceMs: 0, isDryRun: false, deadSessions: [] })
      await assertClean(region)
      await assertHolds(region, digest, disks)
    })
  }
})

test('a chunk that fits its checksum and not its id is found by a deep check alone, and mended', () =>
  withCopies(disks, async (near, far, image) => {
    // As if it had been written wrong: bytes, checksum and name fit each other.
    const region = near.store
    const row = region.database.prepare('SELECT c.id, c.object FROM chunk c LIMIT 1').get()
    const [place] = region.places.find(row?.id as Uint8Array)
    assert(place !== undefined)
    const wrong = noise(place.storedBytes, 99)
    const { crc32 } = await import('node:zlib')
    region.database
      .prepare('UPDATE chunk SET crc32 = ? WHERE id = ? AND object = ?')
      .run(crc32(wrong), row?.id as Uint8Array, row?.object as number)
    const name = packName(place.pack)
    const before = await harmObject(near.objects, name, (bytes) => {
      wrong.copy(bytes, place.offset)
      // The footer's entry has the checksum last; the trailer has that of the footer, and its own.
      const entry = bytes.lastIndexOf(row?.id as Uint8Array)
      bytes.writeUInt32LE(crc32(wrong), entry + ID_BYTES + 12)
      const footerBytes = bytes.readUInt32LE(bytes.length - 20)
      const footer = bytes.subarray(bytes.length - 24 - footerBytes, bytes.length - 24)
      bytes.writeUInt32LE(crc32(footer), bytes.length - 16)
      bytes.writeUInt32LE(crc32(bytes.subarray(bytes.length - 24, bytes.length - 12)), bytes.length - 12)
      return bytes
    })
    await assertMended(near, far, image, name, before)
  }))

test('what no peer has is named by image, disk and offset, and found again when a peer has it', () =>
  withCopies(disks, async (near, far, { digest, content }) => {
    const region = near.store
    const disk = content.disks[0]
    assert(disk !== undefined)
    const page = await readPage(near.objects, disk.pages[0] as NonNullable<(typeof disk.pages)[0]>)
    const lost = page.subarray(3 * ID_BYTES, 4 * ID_BYTES)
    const other = page.subarray(4 * ID_BYTES, 5 * ID_BYTES)
    const harmChunk = async (one: TestRegion, id: Buffer) => {
      const [place] = one.store.places.find(id)
      assert(place !== undefined)
      await harmObject(one.objects, packName(place.pack), flipAt(place.offset + 50))
    }
    await harmChunk(near, lost)
    await harmChunk(near, other)
    const farPack = packName(far.store.places.find(lost)[0]?.pack as never)
    const farBytes = (await bytesOf(far.objects, farPack)) as Buffer
    await harmChunk(far, lost)
    await scrub({ region })
    for (let run = 0; run < 2; run++) {
      const report = await repair({ region, peers: [far.store] })
      assert.deepEqual(
        report.lost.map(({ image, diskIndex, offset, chunk }) => ({ image, diskIndex, offset, chunk })),
        [{ image: digest, diskIndex: 0, offset: 3 * CHUNK, chunk: lost.toString('hex') }],
      )
      const { problems } = await verifyRegion({ region, deep: true })
      const named = problems.filter((problem) => problem.image !== undefined)
      assert.deepEqual(
        named.map(({ image, diskIndex, offset }) => ({ image, diskIndex, offset })),
        [{ image: digest, diskIndex: 0, offset: 3 * CHUNK }],
      )
      await scrub({ region })
    }
    // Everything else is there, the chunk that the peer had included.
    const reader = new MapDisk(region, disk)
    await assert.rejects(reader.read(3 * CHUNK, 10), (error) => isFault(error, 'corrupt'))
    assert.deepEqual(await reader.read(4 * CHUNK, CHUNK), disks[0]?.bytes.subarray(4 * CHUNK, 5 * CHUNK))
    await replaceObject(far.objects, farPack, farBytes)
    const report = await repair({ region, peers: [far.store] })
    assert.equal(report.lostCount, 0)
    await assertClean(region)
    await assertHolds(region, digest, disks)
  }))

test('a signature is not made anew for an image that nobody signed', () =>
  withCopies(disks, async (near, far, { digest }) => {
    const [name] = await namesOf(near.objects, 'signatures/')
    assert(name !== undefined)
    await harmObject(near.objects, name, takeAway)
    await harmObject(far.objects, name, flipAt(40))
    await scrub({ region: near.store })
    const report = await repair({ region: near.store, peers: [far.store] })
    assert.deepEqual(
      report.lost.map(({ image }) => image),
      [digest],
    )
    assert.equal(await bytesOf(near.objects, name), undefined)
  }))

test('keys of a peer that open nothing here are not taken over', () =>
  withCopies(disks, async (near, far) => {
    const other = await memoryRegion()
    try {
      const domain = 'org-test' as never
      await other.store.ensureDomain(domain)
      const [name] = await namesOf(near.objects, 'keys/')
      assert(name !== undefined)
      const before = await harmObject(near.objects, name, flipAt(-8))
      const region = await near.reopen()
      const first = await repair({ region, peers: [other.store] })
      assert.equal(first.lostCount, 1)
      assert.notDeepEqual(await bytesOf(near.objects, name), undefined)
      assert.notDeepEqual(await bytesOf(near.objects, name), before)
      assert.equal((await repair({ region, peers: [other.store, far.store] })).mendedCount, 1)
      await assertClean(await near.reopen())
    } finally {
      await other.dispose()
    }
  }))

test('an index made anew of damaged objects is completed from a peer, and collections run again', async () => {
  for (const prefix of ['packs/', 'pages/', 'signatures/']) {
    for (const harm of [flipAt(-10), flipAt(20), takeAway]) {
      await withCopies(disks, async (near, far, { digest }) => {
        for (const name of (await namesOf(near.objects, prefix)).slice(0, 2)) {
          await harmObject(near.objects, name, harm)
        }
        near.store.database.prepare('DELETE FROM object').run()
        for (const table of ['imageObject', 'ref', 'chunk'])
          near.store.database.prepare(`DELETE FROM ${table}`).run()
        const region = near.store
        await region.rebuildIndex()
        await scrub({ region })
        const report = await repair({ region, peers: [far.store] })
        assert.equal(report.lostCount, 0)
        await collectGarbage({ region, graceMs: 0, isDryRun: false, deadSessions: [] })
        await assertClean(region)
        await assertHolds(region, digest, disks)
      })
    }
  }
})

test('a repair that is killed at any call has made nothing worse, and the next one ends it', async () => {
  for (let nth = 0, isThrough = false; !isThrough; nth += 2) {
    await withCopies(
      disks,
      async (near, far, { digest, content }) => {
        for (const [prefix, harm] of [
          ['packs/', flipAt(1000)],
          ['pages/', takeAway],
          ['images/', flipAt(9)],
          ['signatures/', takeAway],
          ['keys/', flipAt(-8)],
        ] as const) {
          await harmObject(near.objects, (await namesOf(near.objects, prefix))[0] as ObjectName, harm)
        }
        await scrub({ region: near.store })
        // The call at which it dies is done or not, every other time.
        const last: Trouble = nth % 4 === 0 ? 'lost' : 'unavailable'
        const plan: Plan = ({ number }) => (number < nth ? undefined : number === nth ? last : 'unavailable')
        const dying = new FaultyObjects(near.objects, plan)
        try {
          await repair({ region: await near.reopen(dying), peers: [far.store] })
          isThrough = true
        } catch (error) {
          assert.ok(isFault(error, 'unavailable'))
        }
        const region = await near.reopen()
        for (const { id } of region.listSessions()) await region.abortSession(id)
        // Whatever was whole in one of the two regions still is.
        const keys = far.store
        for (const { pages } of content.disks) {
          const ids = await readPage(far.objects, pages[0] as NonNullable<(typeof pages)[0]>)
          for (let at = 0; at < ids.length; at += ID_BYTES) {
            if (isZeroId(ids, at)) continue
            const id = ids.subarray(at, at + ID_BYTES)
            assert.ok(region.places.find(id).length > 0)
            const here = await findChunkIn(region, id, (domain) => keys.getDomain(domain))
            assert.ok(here ?? (await findChunkIn(far.store, id, (domain) => keys.getDomain(domain))))
          }
        }
        assert.equal((await repair({ region, peers: [far.store] })).lostCount, 0)
        await collectGarbage({ region, graceMs: 0, isDryRun: false, deadSessions: [] })
        await assertClean(await near.reopen())
        await assertHolds(near.store, digest, disks)
      },
      memoryRegion,
    )
    assert.ok(nth < 500, 'it comes to an end')
  }
})
