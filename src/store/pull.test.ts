import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { FillingObjects } from '../objects/failing.fixture.ts'
import type { ObjectName } from '../objects/names.ts'
import { assertHolds, captureDisks, noise, type TestDisk } from './disks.fixture.ts'
import { PUBLIC_DOMAIN } from './names.ts'
import { type PullProgress, planPull, pullImage } from './pull.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import type { ReadOnlyRegion } from './source.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const seeds = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

function diskOf(layout: readonly number[]): TestDisk {
  const bytes = Buffer.alloc(layout.length * CHUNK)
  layout.forEach((seed, i) => {
    if (seed > 0) noise(CHUNK, seed, seed % 2 === 0 ? 64 : 1).copy(bytes, i * CHUNK)
  })
  return { bytes, chunkBytes: CHUNK }
}

async function assertSound({ store }: TestRegion): Promise<void> {
  assert.deepEqual((await verifyRegion({ region: store, deep: true })).problems, [])
}

/** The same region, with `change` over every read of a pack. */
function sourceOf(
  region: TestRegion,
  change: (bytes: Buffer, count: number, name: ObjectName) => Buffer,
): ReadOnlyRegion {
  let count = 0
  const objects: Pick<ObjectStore, 'get' | 'size' | 'traits'> = {
    traits: region.objects.traits,
    size: (name, signal) => region.objects.size(name, signal),
    get: async (name, offset, lengthBytes, signal) => {
      const bytes = await region.objects.get(name, offset, lengthBytes, signal)
      return name.startsWith('packs/') ? change(bytes, count++, name) : bytes
    },
  }
  return {
    objects,
    getImage: (digest, signal) => region.store.getImage(digest, signal),
    getSecrets: (domain, signal) => region.store.getSecrets(domain, signal),
    locate: (ids) => region.store.locate(ids),
  }
}

const capture = (region: TestRegion, sessionId: string, disks: readonly TestDisk[]) =>
  captureDisks({ region: region.store, sessionId, domain: TEST_DOMAIN, disks })

const pull = (source: ReadOnlyRegion, target: TestRegion, digest: Digest, sessionId = 'p') =>
  pullImage({ source, target: target.store, digest, sessionId })

for (const [what, makes] of [
  ['memory to memory', [memoryRegion, memoryRegion]],
  ['directory to directory', [directoryRegion, directoryRegion]],
] as const) {
  test(`${what}: a copy has the same digest and bytes, and moves what is missing`, () =>
    withRegions(makes, async (one, two) => {
      const version1 = [diskOf([...seeds(1, 20), 0, 0, 3]), diskOf([5, 0, 90])]
      const first = await capture(one, 's1', version1)
      const reports: PullProgress[] = []
      const plan = await planPull({
        source: one.store,
        target: two.store,
        digest: first.digest,
      })
      const moved = await pullImage({
        source: one.store,
        target: two.store,
        digest: first.digest,
        sessionId: 'p1',
        onProgress: (progress) => reports.push(progress),
      })
      assert.equal(moved.chunksMoved, 21)
      assert.equal(plan.missingChunkCount, 21)
      assert.equal(moved.bytesReused, 0)
      assert.ok(moved.bytesMoved >= plan.missingBytes + plan.missingPageBytes)
      assert.ok(moved.bytesMoved < plan.missingBytes + plan.missingPageBytes + 2000)
      assert.deepEqual(reports.at(-1), {
        doneBytes: plan.missingBytes + plan.missingPageBytes,
        totalBytes: plan.missingBytes + plan.missingPageBytes,
      })
      reports.reduce((before, now) => {
        assert.ok(now.doneBytes >= before.doneBytes && now.totalBytes === before.totalBytes)
        return now
      })
      await assertHolds(two.store, first.digest, version1)
      // Version 2 changes two chunks; a copy back of the copy moves nothing.
      const version2 = [diskOf([...seeds(1, 18), 70, 71, 0, 0, 3]), diskOf([5, 0, 90])]
      const second = await capture(one, 's2', version2)
      const delta = await pull(one.store, two, second.digest, 'p2')
      assert.equal(delta.chunksMoved, 2)
      assert.ok(delta.bytesReused > 0)
      assert.equal((await pull(two.store, one, second.digest, 'p3')).bytesMoved, 0)
      await assertHolds(two.store, second.digest, version2)
      await assertSound(two)
      assert.deepEqual(two.store.listSessions(), [])
    }))
}

test('a copy of a copy, of any disks, is equal', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 30 }),
      fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 30 }),
      (before, after) =>
        withRegions([memoryRegion, memoryRegion, memoryRegion], async (one, two, three) => {
          await pull(one.store, two, (await capture(one, 's1', [diskOf(before)])).digest)
          const { digest } = await capture(one, 's2', [diskOf(after)])
          await pull(one.store, two, digest)
          await pull(two.store, three, digest)
          await assertHolds(three.store, digest, [diskOf(after)])
          await assertSound(two)
          await assertSound(three)
        }),
    ),
    { numRuns: 25 },
  ))

test('an image with public chunks brings both keys along', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    await captureDisks({
      region: one.store,
      sessionId: 's0',
      domain: PUBLIC_DOMAIN,
      disks: [diskOf([1, 2, 3])],
    })
    const disks = [diskOf([1, 2, 5, 7])]
    const { digest } = await capture(one, 's1', disks)
    await pull(one.store, two, digest)
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
    assert.equal((await capture(two, 's2', [diskOf([2, 5])])).counts.newBytes, 0)
  }))

test('regions that use different keys for one domain do not mix', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    await capture(two, 's0', [diskOf([1])])
    const { digest } = await capture(one, 's1', [diskOf([2])])
    const before = await objectNames(two.objects)
    await assert.rejects(pull(one.store, two, digest), (error) => isFault(error, 'conflict'))
    await two.store.abortSession('p')
    assert.deepEqual(await objectNames(two.objects), before)
  }))

test('a copy killed in the middle goes on with what is missing', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 40).map((seed) => 2 * seed + 1))]
    const { digest } = await capture(one, 's1', disks)
    const dying = sourceOf(one, (bytes, count) => {
      if (count >= 5) throw new Error('killed')
      return bytes
    })
    const limits = { rangeBytesMax: 2 * CHUNK + 100, readsMax: 2 }
    const half = pullImage({ source: dying, target: two.store, digest, sessionId: 'p', limits })
    await assert.rejects(half, /killed/)
    await two.reopen()
    const [session] = two.store.listSessions()
    assert.ok(session !== undefined && session.storedBytes > 2 * CHUNK)
    const plan = await planPull({ source: one.store, target: two.store, digest, sessionId: 'p' })
    assert.ok(plan.resumedBytes > 0 && plan.missingChunkCount < 40)
    const rest = await pull(one.store, two, digest)
    assert.equal(rest.chunksMoved, plan.missingChunkCount)
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
  }))

test('whichever put finds the target full, the undo leaves nothing', async () => {
  let failed = true
  for (let n = 1; failed; n++) {
    await withRegions([memoryRegion, memoryRegion], async (one, two) => {
      const disks = [diskOf(seeds(1, 15))]
      const { digest } = await capture(one, 's1', disks)
      await two.reopen(new FillingObjects(two.objects, n))
      failed = await pull(one.store, two, digest).then(
        () => false,
        (error) => isFault(error, 'full'),
      )
      if (!failed) return assert.ok(n > 3)
      await two.store.abortSession('p')
      assert.deepEqual(await objectNames(two.objects), [])
      await two.reopen(two.objects)
      await pull(one.store, two, digest)
      await assertHolds(two.store, digest, disks)
    })
  }
})

test('a bit that flips on the way is fetched again; one that is wrong at the source is named', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 10))]
    const { digest } = await capture(one, 's1', disks)
    const flip = (bytes: Buffer) => {
      bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] as number) ^ 4
      return bytes
    }
    const bad = sourceOf(one, (bytes) => flip(bytes))
    await assert.rejects(pull(bad, two, digest), (error) => {
      assert.ok(isFault(error, 'corrupt'))
      assert.match(error.message, /Chunk [0-9a-f]{64} at byte \d+ of pack [0-9a-f]{64}/)
      return true
    })
    const shaky = sourceOf(one, (bytes, count) => (count === 0 ? flip(bytes) : bytes))
    await pull(shaky, two, digest)
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
  }))

test('a pack that is gone at the source, an image it never had: both are named', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const { digest } = await capture(one, 's1', [diskOf([1, 3, 5])])
    const missing = 'ab'.repeat(32) as Digest
    await assert.rejects(
      pull(one.store, two, missing),
      (error) => isFault(error, 'absent') && error.subject === 'image',
    )
    for (const name of await objectNames(one.objects)) {
      if (name.startsWith('packs/')) await one.objects.remove(name as ObjectName)
    }
    await assert.rejects(pull(one.store, two, digest), (error) => isFault(error, 'corrupt'))
    await two.store.abortSession('p')
    assert.deepEqual(await objectNames(two.objects), [])
  }))

test('a copy that is cancelled stops and can be undone', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const { digest } = await capture(one, 's1', [diskOf(seeds(1, 30))])
    const abort = new AbortController()
    const source = sourceOf(one, (bytes, count) => {
      if (count === 2) abort.abort()
      return bytes
    })
    const { signal } = abort
    const limits = { rangeBytesMax: CHUNK + 100 }
    await assert.rejects(
      pullImage({ source, target: two.store, digest, sessionId: 'p', signal, limits }),
      (error) => error === signal.reason,
    )
    await two.store.abortSession('p')
    assert.deepEqual(await objectNames(two.objects), [])
  }))
