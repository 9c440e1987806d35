import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ObjectName } from '../objects/names.ts'
import {
  bytesOf,
  flipAt,
  harmObject,
  namesOf,
  replaceObject,
  takeAway,
  withCopies,
} from './damage.fixture.ts'
import { Damage } from './damage.ts'
import { captureDisks, noise } from './disks.fixture.ts'
import {
  memoryRegion,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import { type ScrubOptions, scrub } from './scrub.ts'

const CHUNK = TEST_CHUNK_BYTES
const disks = [{ bytes: noise(12 * CHUNK, 5), chunkBytes: CHUNK }]

async function withImage(body: (region: TestRegion) => Promise<void>): Promise<void> {
  await withRegions([memoryRegion], async (region) => {
    await captureDisks({ region: region.store, sessionId: 's', domain: TEST_DOMAIN, disks, holder: 'me' })
    await body(region)
  })
}

/** Names of objects in the order in which a scrub reads them. */
async function readBy(region: TestRegion, options: Partial<ScrubOptions>): Promise<ObjectName[]> {
  const names: ObjectName[] = []
  const { objects } = region
  const watched = {
    traits: objects.traits,
    put: objects.put.bind(objects),
    remove: objects.remove.bind(objects),
    list: objects.list.bind(objects),
    size: async (name: ObjectName, signal?: AbortSignal) => {
      if (!name.startsWith('keys/') && names.at(-1) !== name) names.push(name)
      return objects.size(name, signal)
    },
    get: objects.get.bind(objects),
  }
  await scrub({ region: await region.reopen(watched), ...options })
  await region.reopen()
  return names
}

const verifiedAt = (region: TestRegion) =>
  region.store.database.prepare('SELECT name, verifiedAtMs FROM object ORDER BY number').all()

test('every object is read once, without any key, and its date recorded', () =>
  withImage(async (region) => {
    const all = (await namesOf(region.objects, '')).filter((name) => !name.startsWith('keys/'))
    const progress: number[] = []
    const store = await region.reopen(region.objects, { wrapper: undefined as never })
    const report = await scrub({
      region: store,
      clock: () => 5000,
      onProgress: ({ doneBytes, totalBytes }) => progress.push(doneBytes / totalBytes),
    })
    assert.equal(report.checkedCount, all.length)
    assert.equal(report.damagedCount, 0)
    const sizes = await Promise.all(all.map(async (name) => (await region.objects.size(name)) ?? 0))
    assert.equal(
      report.checkedBytes,
      sizes.reduce((sum, one) => sum + one, 0),
    )
    assert.ok(verifiedAt(region).every((row) => row.verifiedAtMs === 5000))
    assert.deepEqual(
      progress,
      [...progress].sort((a, b) => a - b),
    )
    assert.equal(progress.at(-1), 1)
  }))

test('what was never verified comes first, then what was longest ago; a scrub that was cut short goes on', () =>
  withImage(async (region) => {
    const abort = new AbortController()
    let count = 0
    const cut = scrub({
      region: region.store,
      clock: () => 1000,
      signal: abort.signal,
      onProgress: () => {
        if (++count === 3) abort.abort(new Error('enough'))
      },
    })
    await assert.rejects(cut, /enough/)
    const before = verifiedAt(region).filter((row) => row.verifiedAtMs === 1000)
    assert.equal(before.length, 3)
    const all = verifiedAt(region).length
    const order = await readBy(region, { clock: () => 2000 })
    assert.deepEqual(new Set(order.slice(-3)), new Set(before.map((row) => row.name)))
    assert.equal(order.length, all)
    assert.deepEqual(await readBy(region, { clock: () => 2500, olderThanMs: 1000 }), [])
    assert.equal((await readBy(region, { clock: () => 3000, olderThanMs: 1000 })).length, all)
  }))

test('it reads no faster than it is told, and waits by the clock it is given', () =>
  withImage(async (region) => {
    let nowMs = 0
    let waitedMs = 0
    const report = await scrub({
      region: region.store,
      bytesPerSecond: 100_000,
      clock: () => nowMs,
      pause: async (ms) => {
        waitedMs += ms
        nowMs += ms
      },
    })
    assert.ok(Math.abs(waitedMs - report.checkedBytes / 100) < 1)
    // Half of the time goes elsewhere: only the rest is waited for, and time that was lost is not made up for.
    let slowMs = 0
    waitedMs = 0
    await scrub({
      region: region.store,
      bytesPerSecond: 100_000,
      clock: () => {
        slowMs += 1
        return slowMs
      },
      pause: async (ms) => {
        waitedMs += ms
        slowMs += ms
      },
    })
    assert.ok(waitedMs <= report.checkedBytes / 100)
    await assert.rejects(scrub({ region: region.store, bytesPerSecond: 0 }), /more than 0/)
  }))

test('damage is listed once, chunk by chunk, and taken off when the object is whole again', () =>
  withImage(async (region) => {
    const damage = new Damage(region.store.database)
    const [name] = await namesOf(region.objects, 'packs/')
    assert(name !== undefined)
    const before = await harmObject(region.objects, name, flipAt(1000))
    for (let run = 0; run < 2; run++) {
      const report = await scrub({ region: region.store })
      assert.deepEqual(
        report.damaged.map((one) => one.name),
        [name],
      )
      const rows = damage.list()
      assert.deepEqual(
        rows.map((row) => row.name),
        [name, name],
      )
      assert.equal(rows[0]?.chunk, undefined)
      assert.match(rows[1]?.message ?? '', /^Chunk [0-9a-f]{64} at byte 64 of packs/)
    }
    await replaceObject(region.objects, name, before)
    assert.equal((await scrub({ region: region.store })).damagedCount, 0)
    // The chunk stays until somebody with the keys has looked at it.
    assert.deepEqual(
      damage.list().map((row) => row.chunk === undefined),
      [false],
    )
  }))

test('where the footer is gone the index tells which chunks are whole', () =>
  withImage(async (region) => {
    const [name] = await namesOf(region.objects, 'packs/')
    assert(name !== undefined)
    const before = (await bytesOf(region.objects, name)) as Buffer
    await harmObject(region.objects, name, (bytes) => bytes.subarray(0, 64 + CHUNK + 40_000))
    await scrub({ region: region.store })
    const rows = new Damage(region.store.database).list()
    const count = before.readUInt32LE(before.length - 24)
    assert.equal(rows.length, 1 + count - 1, 'the object, and all chunks but the first')
  }))

test('an object that a collection takes away meanwhile is no damage', () =>
  withImage(async (region) => {
    const [name] = await namesOf(region.objects, 'pages/')
    assert(name !== undefined)
    await harmObject(region.objects, name, takeAway)
    const inner = region.objects
    const watched = {
      traits: inner.traits,
      put: inner.put.bind(inner),
      get: inner.get.bind(inner),
      list: inner.list.bind(inner),
      remove: inner.remove.bind(inner),
      size: async (one: ObjectName) => {
        if (one === name) region.store.database.prepare('UPDATE object SET state = 3 WHERE name = ?').run(one)
        return inner.size(one)
      },
    }
    const report = await scrub({ region: await region.reopen(watched) })
    assert.equal(report.damagedCount, 0)
    assert.deepEqual(new Damage(region.store.database).list(), [])
  }))

test('a region without its keys is told from a region without its key', () =>
  withCopies(
    disks,
    async (near) => {
      const [name] = await namesOf(near.objects, 'keys/')
      assert(name !== undefined)
      await harmObject(near.objects, name, flipAt(3))
      for (const wrapper of [{}, { wrapper: undefined as never }]) {
        const region = await near.reopen(near.objects, wrapper)
        const report = await scrub({ region })
        assert.deepEqual(
          report.damaged.map((one) => one.name),
          [`keys/${TEST_DOMAIN}`],
        )
      }
      await harmObject(near.objects, name, takeAway)
      for (const wrapper of [{}, { wrapper: undefined as never }]) {
        const region = await near.reopen(near.objects, wrapper)
        assert.equal((await scrub({ region })).damagedCount, 1)
      }
    },
    memoryRegion,
  ))
