import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import type { DomainId } from '../image/ids.ts'
import { FillingObjects } from '../objects/failing.fixture.ts'
import { commitImage, cutStripes, loadDiskIds } from './capture.ts'
import { ChunkWriter } from './chunk-writer.ts'
import { newClaims } from './claims.ts'
import { assertHolds, captureDisks, noise, type TestDisk, writeDisks } from './disks.fixture.ts'
import { isZeroId } from './hashes.ts'
import { newDiskIds } from './map.ts'
import { PUBLIC_DOMAIN } from './names.ts'
import { MapDisk } from './reader.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES

/** A disk of `layout.length` chunks: 0 is a zero chunk, other numbers seed its content; the last one is cut short. */
function diskOf(layout: readonly number[], cutBytes = 0): TestDisk {
  const bytes = Buffer.alloc(layout.length * CHUNK - cutBytes)
  layout.forEach((seed, i) => {
    if (seed > 0) noise(CHUNK, seed, seed % 2 === 0 ? 64 : 1).copy(bytes, i * CHUNK)
  })
  return { bytes, chunkBytes: CHUNK }
}

async function assertSound({ store }: TestRegion): Promise<void> {
  const report = await verifyRegion({ region: store, deep: true })
  assert.deepEqual(report.problems, [])
}

const capture = (region: TestRegion, sessionId: string, disks: readonly TestDisk[], osName = 'Test') =>
  captureDisks({ region: region.store, sessionId, domain: TEST_DOMAIN, disks, osName })

for (const make of [memoryRegion, directoryRegion]) {
  const what = make === memoryRegion ? 'memory' : 'directory'

  test(`${what}: any sparse disks are read back as they were, with their extents`, () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 20 }), fc.nat(127)),
          {
            minLength: 1,
            maxLength: 3,
          },
        ),
        (layouts) =>
          withRegions([make], async (region) => {
            const disks = layouts.map(([layout, cut]) => diskOf(layout, cut * 512))
            const { digest, content } = await capture(region, 's1', disks)
            await assertHolds(region.store, digest, disks)
            for (const [i, { bytes }] of disks.entries()) {
              const disk = new MapDisk(region.store, content.disks[i] as (typeof content.disks)[number])
              let end = 0
              let before = ''
              for (const extent of await disk.extents(0, bytes.length)) {
                const part = bytes.subarray(extent.offset, extent.offset + extent.lengthBytes)
                assert.equal(extent.offset, end)
                assert.notEqual(extent.holds, before)
                if (extent.holds === 'zero') assert.ok(part.every((byte) => byte === 0))
                end += extent.lengthBytes
                before = extent.holds
              }
              assert.equal(end, bytes.length)
            }
            await assertSound(region)
          }),
      ),
      { numRuns: what === 'memory' ? 40 : 10 },
    ))

  test(`${what}: a second capture stores only the chunks that changed`, () =>
    withRegions([make], async (region) => {
      const before = diskOf([1, 2, 3, 0, 5, 6, 7, 8, 9, 10])
      const first = await capture(region, 's1', [before])
      assert.equal(first.counts.newBytes, 9 * CHUNK)
      const packs = (await objectNames(region.objects)).filter((name) => name.startsWith('packs/'))
      const after = diskOf([1, 2, 11, 0, 5, 6, 7, 0, 9, 1])
      const second = await capture(region, 's2', [after])
      assert.deepEqual(
        { ...second.counts, storedBytes: 0 },
        {
          fedBytes: 10 * CHUNK,
          zeroBytes: 2 * CHUNK,
          dedupBytes: 7 * CHUNK,
          resumedBytes: 0,
          newBytes: CHUNK,
          storedBytes: 0,
        },
      )
      assert.ok(second.counts.storedBytes > CHUNK && second.counts.storedBytes < CHUNK + 500)
      const all = (await objectNames(region.objects)).filter((name) => name.startsWith('packs/'))
      assert.equal(all.length, packs.length + 1)
      await assertHolds(region.store, first.digest, [before])
      await assertHolds(region.store, second.digest, [after])
      await assertSound(region)
    }))

  test(`${what}: a capture that starts from the parent's map reads changed chunks only`, () =>
    withRegions([make], async (region) => {
      const before = diskOf([1, 2, 3, 0, 5])
      const first = await capture(region, 's1', [before])
      const after = diskOf([1, 0, 3, 4, 5])
      const map = first.content.disks[0]
      assert(map !== undefined)
      const ids = newDiskIds(map.sizeBytes, map.chunkBytes)
      await loadDiskIds(region.store, map, ids)
      const sessionId = 's2'
      await region.store.openSession(sessionId, TEST_DOMAIN)
      const options = {
        region: region.store,
        sessionId,
        domain: TEST_DOMAIN,
        chunkBytes: CHUNK,
        claims: newClaims(2),
      }
      const writer = await ChunkWriter.open(options)
      for (const index of [1, 3])
        await writer.feed(ids, index, after.bytes.subarray(index * CHUNK, (index + 1) * CHUNK))
      await writer.finish()
      const disks = [
        { index: 0, bus: 'virtio-blk' as const, sizeBytes: map.sizeBytes, chunkBytes: CHUNK, ids },
      ]
      const { report: _none, ...content } = first.content
      const image = { ...content, parent: first.digest, disks }
      const second = await commitImage(region.store, sessionId, image)
      await assertHolds(region.store, second.digest, [after])
      assert.equal(second.content.parent, first.digest)
    }))

  test(`${what}: an abandoned capture is undone whole, and takes nothing that others hold`, () =>
    withRegions([() => make({ store: { fillRandom: (bytes) => bytes.fill(7) } })], async (region) => {
      const kept = diskOf([1, 2, 3, 4, 5, 6])
      await capture(region, 's1', [kept])
      const before = await objectNames(region.objects)
      const domain = TEST_DOMAIN
      // The same bytes and the same nonces twice: both sessions write the very same packs.
      const fresh = [diskOf([11, 13, 15, 17, 19, 21, 1])]
      const other = await writeDisks({ region: region.store, sessionId: 's2', domain, disks: fresh })
      await writeDisks({ region: region.store, sessionId: 's3', domain, disks: fresh })
      assert.ok((await objectNames(region.objects)).length > before.length)
      await region.store.abortSession('s3')
      const { digest } = await commitImage(region.store, 's2', other.image)
      await assertHolds(region.store, digest, fresh)
      await writeDisks({
        region: region.store,
        sessionId: 's4',
        domain,
        disks: [diskOf([31, 33, 35, 37, 39])],
      })
      const committed = await objectNames(region.objects)
      await region.store.abortSession('s4')
      await region.store.abortSession('s4')
      await region.store.abortSession('never-was')
      const after = await objectNames(region.objects)
      assert.ok(after.length < committed.length)
      assert.deepEqual(region.store.listSessions(), [])
      assert.equal(
        after.filter((name) => !before.includes(name)).length,
        2 + 1 + 2,
        'packs, page, signature, image of s2',
      )
      await assertSound(region)
    }))

  test(`${what}: a session's chunks are its own until the commit, also after a crash`, () =>
    withRegions([make], async (region) => {
      const domain = TEST_DOMAIN
      const disks = [diskOf([11, 13, 15, 17, 19, 21, 23, 25, 27])]
      const first = await writeDisks({ region: region.store, sessionId: 's1', domain, disks })
      assert.equal(first.counts.newBytes, 9 * CHUNK)
      await region.reopen()
      const [session] = region.store.listSessions()
      assert.equal(session?.id, 's1')
      assert.equal(session?.storedBytes, first.counts.storedBytes)
      const stranger = await writeDisks({
        region: region.store,
        sessionId: 's2',
        domain,
        disks: [diskOf([11, 13])],
      })
      assert.equal(stranger.counts.newBytes, 2 * CHUNK)
      const again = await writeDisks({ region: region.store, sessionId: 's1', domain, disks })
      assert.equal(again.counts.resumedBytes, 9 * CHUNK)
      assert.equal(again.counts.storedBytes, 0)
      const { digest } = await commitImage(region.store, 's1', again.image)
      await region.store.abortSession('s2')
      await assertHolds(region.store, digest, disks)
      await assertSound(region)
    }))

  test(`${what}: a commit may run twice`, () =>
    withRegions([make], async (region) => {
      const disks = [diskOf([1, 2, 0, 4])]
      const first = await capture(region, 's1', disks)
      const names = await objectNames(region.objects)
      const second = await capture(region, 's1', disks)
      assert.equal(second.digest, first.digest)
      assert.deepEqual(await objectNames(region.objects), names)
      assert.deepEqual(region.store.listSessions(), [])
    }))
}

test('whichever put finds the disk full, the undo leaves nothing and the store is sound', async () => {
  const kept = [diskOf([1, 2, 3, 4])]
  const fresh = [diskOf([1, 11, 13, 0, 15, 17, 19, 21, 23]), diskOf([25, 0, 2], 512)]
  let failed = true
  for (let n = 0; failed; n++) {
    await withRegions([memoryRegion], async (region) => {
      const first = await capture(region, 's1', kept)
      const before = await objectNames(region.objects)
      const filling = new FillingObjects(region.objects, n)
      await region.reopen(filling)
      failed = await capture(region, 's2', fresh).then(
        () => false,
        (error) => {
          assert.ok(isFault(error, 'full'), String(error))
          return true
        },
      )
      if (!failed) {
        assert.ok(n > 4, 'packs, pages and image object all had their turn')
        return
      }
      // As after a crash: whoever starts next finds the session and undoes it.
      await region.reopen(region.objects)
      for (const { id } of region.store.listSessions()) await region.store.abortSession(id)
      assert.deepEqual(await objectNames(region.objects), before)
      await assertHolds(region.store, first.digest, kept)
      await assertSound(region)
      const { digest } = await capture(region, 's2', fresh)
      await assertHolds(region.store, digest, fresh)
    })
  }
})

test('a pack that became durable just before the crash is found again, or forgotten if it did not', () =>
  withRegions([memoryRegion], async (region) => {
    const domain = TEST_DOMAIN
    const disks = [diskOf([11, 13, 15, 17, 19, 21, 23])]
    const { image } = await writeDisks({ region: region.store, sessionId: 's1', domain, disks })
    // What a kill between put and settle leaves: the intent alone.
    region.store.database.prepare('UPDATE sessionObject SET state = 0').run()
    region.store.database.prepare('DELETE FROM chunk').run()
    const names = await objectNames(region.objects)
    await region.objects.remove(names[0] as never)
    await region.reopen()
    await assert.rejects(
      commitImage(region.store, 's1', image),
      (error) => isFault(error, 'corrupt'),
      'chunks nobody has are not committed',
    )
    const again = await writeDisks({ region: region.store, sessionId: 's1', domain, disks })
    assert.ok(again.counts.resumedBytes > 0 && again.counts.newBytes > 0)
    const { digest } = await commitImage(region.store, 's1', again.image)
    await assertHolds(region.store, digest, disks)
    await assertSound(region)
  }))

test('an object that is being removed is waited for, never found', () =>
  withRegions([memoryRegion], async (region) => {
    const domain = TEST_DOMAIN
    const disks = [diskOf([11, 13])]
    await writeDisks({ region: region.store, sessionId: 's1', domain, disks })
    const [removing] = region.store.journal.beginAbort('s1')
    assert(removing !== undefined)
    const writing = captureDisks({ region: region.store, sessionId: 's2', domain, disks })
    await region.store.abortSession('s1')
    const { digest } = await writing
    await assertHolds(region.store, digest, disks)
    await assertSound(region)
  }))

test('a project finds what is public, and not what is another project’s', () =>
  withRegions([memoryRegion], async (region) => {
    const { store } = region
    await captureDisks({ region: store, sessionId: 's1', domain: PUBLIC_DOMAIN, disks: [diskOf([1, 2, 3])] })
    const other = 'org-other' as DomainId
    const mine = await capture(region, 's2', [diskOf([1, 2, 5, 7])])
    assert.equal(mine.counts.dedupBytes, 2 * CHUNK)
    const theirs = await captureDisks({
      region: store,
      sessionId: 's3',
      domain: other,
      disks: [diskOf([1, 5, 7])],
    })
    assert.equal(theirs.counts.dedupBytes, CHUNK)
    assert.equal(theirs.counts.newBytes, 2 * CHUNK)
    await assertHolds(store, mine.digest, [diskOf([1, 2, 5, 7])])
    await assertHolds(store, theirs.digest, [diskOf([1, 5, 7])])
    await assertSound(region)
  }))

test('the same content has the same digest in every region with the same domain key', () =>
  withRegions([memoryRegion, directoryRegion], async (one, two) => {
    await one.store.ensureDomain(TEST_DOMAIN)
    await two.store.adoptDomain(TEST_DOMAIN, one.store)
    const disks = [diskOf([1, 2, 0, 3])]
    assert.equal((await capture(one, 'a', disks)).digest, (await capture(two, 'b', disks)).digest)
  }))

test('stripes cover every touched chunk once, in order, and are of even size', () =>
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(900), fc.nat(900)), { maxLength: 20 }),
      fc.integer({ min: 1, max: 9 }),
      (pairs, stripeChunks) => {
        const sizeBytes = 100_000
        let end = 0
        const extents = []
        const touched = new Set<number>()
        for (const [gap, lengthBytes] of pairs) {
          extents.push({ offset: end + gap, lengthBytes })
          for (let at = end + gap; at < end + gap + lengthBytes; at++) touched.add(Math.floor(at / 256))
          end += gap + lengthBytes
        }
        const stripes = cutStripes(extents, sizeBytes, 256, stripeChunks * 256)
        const indexes = stripes.flatMap(({ runs }) =>
          runs.flatMap((run) => Array.from({ length: run.count }, (_, i) => run.firstIndex + i)),
        )
        assert.deepEqual(indexes, [...touched])
        for (const { runs } of stripes.slice(0, -1)) {
          assert.equal(
            runs.reduce((sum, run) => sum + run.count, 0),
            stripeChunks,
          )
        }
      },
    ),
  ))

test('a zero disk stores no pack and no page', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, content } = await capture(region, 's1', [diskOf([0, 0, 0])])
    assert.deepEqual(await objectNames(region.objects), [`images/${digest}`, `signatures/${digest}`])
    assert.ok(content.disks[0]?.pages.every((page) => isZeroId(Buffer.from(page, 'hex'), 0)))
    await assertHolds(region.store, digest, [diskOf([0, 0, 0])])
  }))
