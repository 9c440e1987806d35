import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Digest, PageId } from '../image/ids.ts'
import { parseObjectName } from '../objects/names.ts'
import { assertHolds, captureDisks, noise, type TestDisk, writeDisks } from './disks.fixture.ts'
import { collectGarbage, type GcItem, type GcOptions } from './gc.ts'
import { pageName } from './names.ts'
import { pullImage } from './pull.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import { rewritePacks } from './rewrite.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const domain = TEST_DOMAIN

/** A disk of one chunk for each seed. */
const diskOf = (seeds: readonly number[]): TestDisk[] => [
  { bytes: Buffer.concat(seeds.map((seed) => noise(CHUNK, seed))), chunkBytes: CHUNK },
]

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

function collect(region: TestRegion, options: Partial<GcOptions> = {}) {
  return collectGarbage({ region: region.store, graceMs: 0, isDryRun: false, deadSessions: [], ...options })
}

function capture(region: TestRegion, holder: string, seeds: readonly number[]) {
  return captureDisks({
    region: region.store,
    sessionId: `s-${holder}`,
    domain,
    disks: diskOf(seeds),
    holder,
  })
}

async function assertSound(region: TestRegion, images: readonly [Digest, readonly number[]][]) {
  for (const [digest, seeds] of images) await assertHolds(region.store, digest, diskOf(seeds))
  assert.deepEqual((await verifyRegion({ region: region.store, deep: true })).problems, [])
}

for (const [what, make] of [
  ['memory', memoryRegion],
  ['directory', directoryRegion],
] as const) {
  test(`${what}: an image goes when nobody refers to it, and with it all that only it needed`, () =>
    withRegions([make], async (region) => {
      const kept = await capture(region, 'kept', range(1, 12))
      const names = await objectNames(region.objects)
      await capture(region, 'gone', range(100, 12))
      assert.equal((await collect(region)).removedCount, 0)
      await region.store.dropRef('gone')
      const dry = await collect(region, { isDryRun: true })
      const report = await collect(region)
      const sorted = (items: readonly GcItem[]) => items.map((item) => JSON.stringify(item)).sort()
      assert.deepEqual(sorted(dry.items), sorted(report.items))
      assert.deepEqual([dry.removedBytes, dry.removedCount], [report.removedBytes, report.removedCount])
      assert.ok(report.removedBytes > 12 * CHUNK)
      assert.deepEqual(await objectNames(region.objects), names)
      await assertSound(region, [[kept.digest, range(1, 12)]])
      assert.equal((await collect(region)).itemCount, 0)
    }))

  test(`${what}: packs of which little is needed are repacked, and readers do not notice`, () =>
    withRegions([make], async (region) => {
      await capture(region, 'gone', range(1, 16))
      const few = [2, 7, 12, 50]
      const kept = await capture(region, 'kept', few)
      assert.equal(kept.counts.dedupBytes, 3 * CHUNK)
      await region.store.dropRef('gone')
      const dry = await collect(region, { isDryRun: true })
      assert.ok(dry.items.some((item) => item.step === 'condemn' && item.what === 'image'))
      const report = await collect(region)
      assert.ok(report.repackedBytes > 12 * CHUNK && report.rewrittenBytes < 4 * CHUNK)
      const packs = await Array.fromAsync(region.objects.list('packs/'))
      assert.equal(packs.length, 2)
      await assertSound(region, [[kept.digest, few]])
      await region.store.dropRef('kept')
      await collect(region)
      assert.deepEqual(await objectNames(region.objects), [])
    }))
}

test('what was condemned waits for its grace, and comes back when it is written again', () =>
  withRegions([memoryRegion], async (region) => {
    let nowMs = 1_000_000
    await region.reopen(region.objects, { clock: () => nowMs })
    await capture(region, 'one', range(1, 8))
    const names = await objectNames(region.objects)
    await region.store.dropRef('one')
    const first = await collect(region, { graceMs: 1000 })
    assert.ok(first.condemnedBytes > 8 * CHUNK && first.removedCount === 0)
    assert.equal(first.waitingBytes, first.condemnedBytes)
    assert.deepEqual(region.store.listImages(), [])
    // Nobody finds condemned chunks: they are stored anew, and the page, which has its old name, is taken back.
    const again = await capture(region, 'two', range(1, 8))
    assert.equal(again.counts.newBytes, 8 * CHUNK)
    nowMs += 1001
    const second = await collect(region, { graceMs: 1000 })
    assert.ok(second.removedBytes > 8 * CHUNK)
    assert.equal((await objectNames(region.objects)).length, names.length)
    await assertSound(region, [[again.digest, range(1, 8)]])
  }))

test('what a session relies on stays until the session ends', () =>
  withRegions([memoryRegion], async (region) => {
    await capture(region, 'one', range(1, 8))
    const { image, counts } = await writeDisks({
      region: region.store,
      sessionId: 'slow',
      domain,
      disks: diskOf([3, 60]),
    })
    assert.equal(counts.dedupBytes, CHUNK)
    await region.store.dropRef('one')
    await collect(region)
    const { commitImage } = await import('./capture.ts')
    const made = await commitImage(region.store, 'slow', image, { ref: { holder: 'slow', label: {} } })
    await collect(region)
    await collect(region)
    await assertSound(region, [[made.digest, [3, 60]]])
  }))

test('a session that died is ended, and wakes to a refusal', () =>
  withRegions([memoryRegion], async (region) => {
    const { image } = await writeDisks({
      region: region.store,
      sessionId: 'dead',
      domain,
      disks: diskOf([1, 2]),
    })
    const report = await collect(region, { deadSessions: ['dead'] })
    assert.equal(report.items[0]?.step, 'end')
    assert.deepEqual(await objectNames(region.objects), [])
    const { commitImage } = await import('./capture.ts')
    await assert.rejects(commitImage(region.store, 'dead', image), /Session dead is not open/)
  }))

test('objects that the index does not know go after the grace', () =>
  withRegions([memoryRegion], async (region) => {
    let nowMs = 0
    await region.reopen(region.objects, { clock: () => nowMs })
    await region.objects.put(parseObjectName(`packs/ab/${'ab'.repeat(32)}`), Buffer.alloc(500, 1))
    assert.equal((await collect(region, { graceMs: 10 })).condemnedBytes, 500)
    nowMs = 11
    assert.equal((await collect(region, { graceMs: 10 })).removedBytes, 500)
    assert.deepEqual(await objectNames(region.objects), [])
  }))

test('a rebuilt index keeps what refs name, and a ref that cannot be read keeps everything', () =>
  withRegions([directoryRegion], async (region) => {
    const one = await capture(region, 'one', range(1, 5))
    await capture(region, 'two', range(20, 5))
    await region.store.dropRef('two')
    await region.store.rebuildIndex()
    await collect(region)
    await assertSound(region, [[one.digest, range(1, 5)]])
    assert.equal(region.store.listImages().length, 1)

    const [ref] = (await objectNames(region.objects)).filter((name) => name.startsWith('refs/'))
    await writeFile(join(region.folder, String(ref)), 'damaged')
    region.store.database.prepare('DELETE FROM ref').run()
    const report = await collect(region)
    assert.deepEqual([report.removedCount, report.items[0]?.step], [0, 'wait'])
    await assertSound(region, [[one.digest, range(1, 5)]])
  }))

test('a pack is not moved away from under an image that came to need it meanwhile', () =>
  withRegions([memoryRegion], async (region) => {
    await capture(region, 'all', range(1, 4))
    await capture(region, 'one', [2, 3])
    await region.store.dropRef('all')
    await collect(region, { repackBelow: 0 })
    const packs = region.store.journal.listCommitted('packs/').map(({ name }) => name.slice(-64) as never)
    const inner = region.objects
    let late: Awaited<ReturnType<typeof capture>> | undefined
    const put = inner.put.bind(inner)
    inner.put = async (name, bytes, signal) => {
      const answer = await put(name, bytes, signal)
      // While the new pack is on its way.
      if (name.startsWith('packs/') && late === undefined) {
        inner.put = put
        late = await capture(region, 'late', [1, 3])
      }
      return answer
    }
    const report = await rewritePacks({ region: region.store, packs, sessionId: 'gc-test' })
    assert.deepEqual(report.movedPacks, [])
    assert.match(report.skipped[0]?.why ?? '', /other images need it/)
    await region.store.dropRef('one')
    await collect(region)
    await assertSound(region, [[late?.digest as Digest, [1, 3]]])
  }))

test('two broken copies of one image leave none that lacks something', () =>
  withRegions([memoryRegion, memoryRegion], async (source, target) => {
    const { digest } = await capture(source, 'one', range(1, 8))
    const name = `images/${digest}`
    const put = target.objects.put.bind(target.objects)
    const reached = Promise.withResolvers<void>()
    const gate = Promise.withResolvers<void>()
    let isFirst = true
    // The first copy comes to the image object first, and the second one writes it.
    target.objects.put = async (one, bytes, signal) => {
      if (one === name && isFirst) {
        isFirst = false
        reached.resolve()
        await gate.promise
      }
      return put(one, bytes, signal)
    }
    const putRef = target.store.putRef.bind(target.store)
    target.store.putRef = async () => {
      throw new Error('broken off')
    }
    const copy = (sessionId: string) =>
      pullImage({
        source: source.store,
        target: target.store,
        digest,
        sessionId,
        ref: { holder: sessionId, label: {} },
      })
    const first = copy('c1')
    await reached.promise
    await assert.rejects(copy('c2'), /broken off/)
    gate.resolve()
    await assert.rejects(first, /broken off/)
    await target.store.abortSession('c1')
    await target.store.abortSession('c2')
    target.store.putRef = putRef
    await copy('c3')
    await assertSound(target, [[digest, range(1, 8)]])
    await target.store.dropRef('c3')
    await collect(target)
    assert.deepEqual(await objectNames(target.objects), [])
  }))

test('a session that is about to write what another commits may rely on it', () =>
  withRegions([memoryRegion], async (region) => {
    const { content } = await capture(region, 'one', [1])
    const page = pageName(content.disks[0]?.pages[0] as PageId)
    await region.store.openSession('late', domain)
    const { journal } = region.store
    assert.equal(journal.intend('late', page, null)?.isNew, false)
    assert.equal(region.store.holdsOf('late').findObject(page), journal.findObject(page, 'late')?.number)
  }))

test('a damaged ref that is newer than what the index has keeps the images, and stays', () =>
  withRegions([directoryRegion], async (region) => {
    const one = await capture(region, 'one', range(1, 3))
    const two = await capture(region, 'two', range(20, 3))
    await region.store.setRef({ holder: 'vm', digests: [one.digest], label: {} })
    await region.store.setRef({ holder: 'vm', digests: [two.digest], label: {} })
    await region.store.dropRef('two')
    const refs = (await objectNames(region.objects)).filter((name) => name.startsWith('refs/vm/'))
    assert.equal(refs.length, 2)
    await writeFile(join(region.folder, String(refs[1])), 'damaged')
    await region.store.rebuildIndex()
    region.store.database.prepare('DELETE FROM ref WHERE holder = ?').run('vm')
    await region.store.rebuildIndex()
    region.store.database.setMeta('incomplete', undefined)
    for (let i = 0; i < 3; i++) await collect(region)
    await assertHolds(region.store, two.digest, diskOf(range(20, 3)))
  }))
