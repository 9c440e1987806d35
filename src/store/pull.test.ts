import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import type { Digest, PackId } from '../image/ids.ts'
import { FillingObjects } from '../objects/failing.fixture.ts'
import type { ObjectName } from '../objects/names.ts'
import { assertHolds, captureDisks } from './disks.fixture.ts'
import { LocalWrapper } from './keys.ts'
import { PUBLIC_DOMAIN } from './names.ts'
import { assertSound, bringPacks, CHUNK, capture, pull, sourceOf } from './pull.fixture.ts'
import { planPull, pullImage } from './pull.ts'
import { pullDisk as diskOf, pullSuite, pullSeeds as seeds } from './pull-suite.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  testRegionKey,
  withRegions,
} from './region.fixture.ts'
import { openRegionStore } from './region.ts'
import type { ReadOnlyRegion } from './source.ts'

for (const [what, makes, options] of [
  ['memory to memory', [memoryRegion, memoryRegion], {}],
  ['directory to directory', [directoryRegion, directoryRegion], { check: 'seal', takesPacks: true }],
  ['directory to directory, chunk by chunk', [directoryRegion, directoryRegion], { check: 'seal' }],
] as const) {
  pullSuite(what, async () => {
    const [source, target] = [await makes[0](), await makes[1]()]
    return {
      ...{ source, target, options },
      open: async () => source.store,
      async dispose() {
        await source.dispose()
        await target.dispose()
      },
    }
  })
}

test('what another writer brought after the comparison is not brought again', () =>
  withRegions([directoryRegion, directoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 30).map((seed) => 2 * seed + 1))]
    const { digest } = await capture(one, 's1', disks)
    const other = await openRegionStore({
      objects: two.objects,
      indexPath: join(two.folder, 'index.sqlite'),
      wrapper: new LocalWrapper(testRegionKey(0)),
    })
    let isBrought = false
    const real = sourceOf(one, (bytes) => bytes)
    const source: ReadOnlyRegion = {
      ...real,
      async locate(ids) {
        const table = await real.locate(ids)
        if (isBrought) return table
        isBrought = true
        await bringPacks(one, other, table.packs)
        return table
      },
    }
    try {
      const moved = await pullImage({ source, target: two.store, digest, sessionId: 'p', check: 'seal' })
      assert.equal(moved.chunksMoved, 0)
      assert.ok(moved.bytesReused > 30 * CHUNK)
      await assertHolds(two.store, digest, disks)
    } finally {
      other.close()
    }
  }))

test('a sealed chunk is checked by its seal: whatever bit flips is found', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const { digest } = await capture(one, 's1', [diskOf([3])])
    const storedBytes = TEST_CHUNK_BYTES + 32
    for (const at of [0, 1, 2, 3, 4, 15, 16, 1000, storedBytes - 17, storedBytes - 1]) {
      const source = sourceOf(one, (bytes) => {
        const copy = Buffer.from(bytes)
        copy[at] = (copy[at] ?? 0) ^ 1
        return copy
      })
      const sessionId = `p${at}`
      await assert.rejects(
        pullImage({ source, target: two.store, digest, sessionId, check: 'seal' }),
        (error) => isFault(error, 'corrupt'),
      )
      await two.store.abortSession(sessionId)
    }
  }))

test('where more is missing than is kept in mind, the source is asked again on the way', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 20)), diskOf(seeds(15, 10))]
    const { digest } = await capture(one, 's1', disks)
    let locatedCount = 0
    const real = sourceOf(one, (bytes) => bytes)
    const source: ReadOnlyRegion = {
      ...real,
      locate: (ids) => {
        locatedCount += ids.length / 32
        return real.locate(ids)
      },
    }
    const options = { source, target: two.store, digest }
    await pullImage({ ...options, sessionId: 'p', limits: { keptChunksMax: 5 } })
    assert.equal(locatedCount, 2 * 24)
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
  }))

test('a chunk that a collection at the source has moved since is found where it is now', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 6))]
    const { digest } = await capture(one, 's1', disks)
    const real = sourceOf(one, (bytes) => bytes)
    const gone = 'cd'.repeat(32) as PackId
    let count = 0
    const source: ReadOnlyRegion = {
      ...real,
      async locate(ids) {
        const table = await real.locate(ids)
        return count++ > 0 ? table : { ...table, packs: table.packs.map((pack) => ({ ...pack, id: gone })) }
      },
    }
    await pullImage({ source, target: two.store, digest, sessionId: 'p' })
    assert.ok(count > 1)
    await assertHolds(two.store, digest, disks)
  }))

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
