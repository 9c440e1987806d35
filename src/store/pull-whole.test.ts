import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault, isFault } from '../image/fault.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { assertHolds } from './disks.fixture.ts'
import { sha256 } from './hashes.ts'
import { assertSound, CHUNK, capture, sourceOf } from './pull.fixture.ts'
import { pullImage } from './pull.ts'
import { pullDisk as diskOf, pullSeeds as seeds } from './pull-suite.ts'
import { directoryRegion, objectNames, type TestRegion, withRegions } from './region.fixture.ts'

// Packs that are taken as they are.

test('packs of which all is missing are taken as they are, others by their chunks', () =>
  withRegions([directoryRegion, directoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 12).map((seed) => 2 * seed + 1))]
    const { digest } = await capture(one, 's1', disks)
    const options = { check: 'seal', takesPacks: true } as const
    await pullImage({ source: one.store, target: two.store, digest, sessionId: 'p', ...options })
    const packsOf = async (region: TestRegion) =>
      (await objectNames(region.objects)).filter((name) => name.startsWith('packs/'))
    assert.deepEqual(await packsOf(two), await packsOf(one))
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
  }))

test('packs that another thread hashes are the same, from the first to the last; of a wrong hash none is taken', () =>
  withRegions([directoryRegion, directoryRegion, directoryRegion], async (one, two, three) => {
    const disks = [diskOf(seeds(1, 40).map((seed) => 2 * seed + 1))]
    const { digest } = await capture(one, 's1', disks)
    const options = { source: one.store, digest, sessionId: 'p', check: 'seal', takesPacks: true } as const
    const packsOf = async (region: TestRegion) =>
      (await objectNames(region.objects)).filter((name) => name.startsWith('packs/'))
    let hashedBytes = 0
    let runningCount = 0
    const hashBeside = () => {
      assert.equal(++runningCount, 1)
      const pieces: Uint8Array[] = []
      return {
        update(piece: Uint8Array) {
          assert.ok(piece.buffer instanceof SharedArrayBuffer)
          hashedBytes += piece.length
          pieces.push(piece)
          return undefined
        },
        async digest() {
          runningCount--
          return sha256(Buffer.concat(pieces))
        },
      }
    }
    const { chunksMoved } = await pullImage({ ...options, target: two.store, hashBeside })
    assert.equal(chunksMoved, 40)
    assert.ok(hashedBytes > 40 * CHUNK)
    assert.deepEqual(await packsOf(two), await packsOf(one))
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
    const wrong = () => ({ update: () => undefined, digest: async () => 'ab'.repeat(32) })
    assert.equal(
      (await pullImage({ ...options, target: three.store, hashBeside: wrong })).chunksMoved,
      chunksMoved,
    )
    const taken = new Set(await packsOf(one))
    assert.deepEqual(
      (await packsOf(three)).filter((name) => taken.has(name)),
      [],
    )
    await assertHolds(three.store, digest, disks)
    await assertSound(three)
  }))

test('three whole packs are on their way at once and no more, and a failed one leaves nothing running', () =>
  withRegions([directoryRegion, directoryRegion], async (one, two) => {
    const { digest } = await capture(one, 's1', [diskOf(seeds(1, 40).map((seed) => 2 * seed + 1))])
    const three = Promise.withResolvers<void>()
    let openCount = 0
    let mostCount = 0
    let putCount = 0
    const counted: ObjectStore = {
      traits: two.objects.traits,
      get: (...words) => two.objects.get(...words),
      size: (name, signal) => two.objects.size(name, signal),
      list: (prefix, signal) => two.objects.list(prefix, signal),
      remove: (name, signal) => two.objects.remove(name, signal),
      async put(name, bytes, signal) {
        if (!name.startsWith('packs/')) return two.objects.put(name, bytes, signal)
        mostCount = Math.max(mostCount, ++openCount)
        if (openCount === 3) three.resolve()
        try {
          const count = ++putCount
          await three.promise
          if (count === 5) throw new Fault('full', 'no space', { subject: 'store' })
          return await two.objects.put(name, bytes, signal)
        } finally {
          openCount--
        }
      },
    }
    await two.reopen(counted)
    const options = { source: one.store, digest, check: 'seal', takesPacks: true } as const
    const limits = { rangeBytesMax: 1000 }
    const pull = (sessionId: string) => pullImage({ ...options, target: two.store, sessionId, limits })
    await assert.rejects(pull('p'), (error) => isFault(error, 'full'))
    assert.equal(openCount, 0)
    await two.store.abortSession('p')
    assert.deepEqual(await objectNames(two.objects), [])
    await pull('q')
    assert.equal(mostCount, 3)
  }))

test('a whole pack with a flipped bit is looked at chunk by chunk, and what is wrong is named', () =>
  withRegions([directoryRegion, directoryRegion], async (one, two) => {
    const disks = [diskOf(seeds(1, 12).map((seed) => 2 * seed + 1))]
    const { digest } = await capture(one, 's1', disks)
    const options = { target: two.store, digest, check: 'seal', takesPacks: true } as const
    const flip = (bytes: Buffer) => {
      const copy = Buffer.from(bytes)
      copy[200] = (copy[200] ?? 0) ^ 1
      return copy
    }
    const bad = sourceOf(one, flip)
    await assert.rejects(
      pullImage({ source: bad, ...options, sessionId: 'p' }),
      (error) => isFault(error, 'corrupt') && /^Chunk [0-9a-f]{64} at byte/.test(error.message),
    )
    await two.store.abortSession('p')
    const shaky = sourceOf(one, (bytes, count) => (count === 0 ? flip(bytes) : bytes))
    await pullImage({ source: shaky, ...options, sessionId: 'q' })
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
  }))
