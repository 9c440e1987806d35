import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Fault, isFault } from '../image/fault.ts'
import type { PackId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { flipAt, harmObject, namesOf, takeAway, withCopies } from './damage.fixture.ts'
import { Damage, onDamage } from './damage.ts'
import { assertHolds, noise } from './disks.fixture.ts'
import { hashOfName, packName } from './names.ts'
import { findChunkIn, sealAnew } from './peer-chunk.ts'
import { readChunk } from './read-chunk.ts'
import { memoryRegion, TEST_CHUNK_BYTES, type TestRegion } from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import { rewritePacks } from './rewrite.ts'

const CHUNK = TEST_CHUNK_BYTES
const disks = [{ bytes: noise(6 * CHUNK, 5), chunkBytes: CHUNK }]

/** Two copies of one image; `id` is a chunk of the first pack of `near`. */
function withChunk(
  body: (near: TestRegion, far: TestRegion, id: Buffer, name: ObjectName, digest: never) => Promise<void>,
): Promise<void> {
  return withCopies(
    disks,
    async (near, far, { digest }) => {
      const row = near.store.database.prepare('SELECT id FROM chunk LIMIT 1').get()
      const id = Buffer.from(row?.id as Uint8Array)
      const [place] = near.store.places.find(id)
      assert(place !== undefined)
      await body(near, far, id, packName(place.pack), digest as never)
    },
    memoryRegion,
  )
}

const listOf = (region: TestRegion) =>
  new Damage(region.store.database).list().map(({ name, chunk }) => `${name} ${chunk?.toString('hex') ?? ''}`)

test('a reader gets the right bytes from elsewhere, the damage is listed and told once', () =>
  withChunk(async (near, far, id, name, digest) => {
    for (const [harm, rows] of [
      [flipAt(1000), 1],
      [takeAway, 2],
    ] as const) {
      await harmObject(near.objects, name, harm)
      const store: RegionStore = await near.reopen(near.objects, {
        rescue: async (wanted) =>
          (await findChunkIn(far.store, wanted, (domain) => store.getDomain(domain)))?.plain,
      })
      let toldCount = 0
      onDamage(store, () => toldCount++)
      await assertHolds(store, digest, disks)
      const told = toldCount
      assert.ok(told > 0)
      assert.ok(listOf(near).length >= rows)
      store.cache.clear()
      await readChunk(store, id)
      assert.equal(toldCount, told, 'what is listed is not told again')
    }
  }))

test('what comes from elsewhere is believed only if its id fits', () =>
  withChunk(async (near, _far, id, name) => {
    await harmObject(near.objects, name, takeAway)
    const answers: (() => Promise<Buffer | undefined>)[] = [
      async () => noise(CHUNK, 99),
      async () => Buffer.alloc(0),
      async () => undefined,
      async () => {
        throw new Fault('unavailable', 'The other region is away.')
      },
    ]
    for (const rescue of answers) {
      const store = await near.reopen(near.objects, { rescue })
      await assert.rejects(
        readChunk(store, id),
        (error) => isFault(error, 'corrupt') && /^Chunk/.test(error.message),
      )
    }
    const bug = await near.reopen(near.objects, { rescue: () => Promise.reject(new TypeError('a bug')) })
    await assert.rejects(readChunk(bug, id), TypeError)
  }))

test('a pack that a repack took away between look and read is looked up again, and is no damage', () =>
  withChunk(async (near, _far, id, name) => {
    const row = near.store.database.prepare('SELECT number FROM object WHERE name = ?').get(name)
    let isMoved = false
    const inner = near.objects
    const moving = {
      traits: inner.traits,
      put: inner.put.bind(inner),
      size: inner.size.bind(inner),
      list: inner.list.bind(inner),
      remove: inner.remove.bind(inner),
      get: async (one: ObjectName, offset: number, lengthBytes: number) => {
        if (one === name && !isMoved) {
          isMoved = true
          const { database } = near.store
          await rewritePacks({
            region: near.store,
            packs: [hashOfName(name) as PackId],
            sessionId: 'gc-1',
            // A real repack leaves out what nobody needs; a chunk that is sealed anew makes another pack as well.
            isBad: (wanted) => id.equals(wanted),
            replace: async (wanted, domain) => {
              const open = await near.store.getDomain(domain)
              const source = { objects: inner, places: near.store.places }
              const found = await findChunkIn(source, wanted, async () => open)
              assert(found !== undefined)
              return { stored: sealAnew(found.plain, wanted, open), plainBytes: found.plain.length }
            },
          })
          const state = database
            .prepare('SELECT state FROM object WHERE number = ?')
            .get(row?.number as number)
          assert.equal(state?.state, 3, 'the old pack is condemned')
          await inner.remove(name)
        }
        return inner.get(one, offset, lengthBytes)
      },
    }
    const store = await near.reopen(moving)
    // Keys first, so that the first read of the pack is the chunk's own.
    await store.getDomain('org-test' as never)
    const plain = await readChunk(store, id)
    assert.equal(plain.length, CHUNK)
    assert.ok(isMoved)
    assert.deepEqual(listOf(near), [])
  }))

test('a reader does not fail because the index cannot be written', () =>
  withChunk(async (near, far, id, name) => {
    const [place] = near.store.places.find(id)
    assert(place !== undefined)
    await harmObject(near.objects, name, flipAt(place.offset + 50))
    const store: RegionStore = await near.reopen(near.objects, {
      rescue: async (wanted) =>
        (await findChunkIn(far.store, wanted, (domain) => store.getDomain(domain)))?.plain,
    })
    store.database.prepare('PRAGMA query_only = 1').get()
    assert.equal((await readChunk(store, id)).length, CHUNK)
    assert.deepEqual(listOf(near), [])
    store.database.prepare('PRAGMA query_only = 0').get()
    await readChunk(store, id)
    assert.equal(listOf(near).length, 1)
  }))

test('a reader does not wait for an index that somebody else writes to', () =>
  withChunk(async (near, far, id) => {
    const [place] = near.store.places.find(id)
    assert(place !== undefined)
    await harmObject(near.objects, packName(place.pack), flipAt(place.offset + 50))
    const store: RegionStore = await near.reopen(near.objects, {
      rescue: async (wanted) =>
        (await findChunkIn(far.store, wanted, (domain) => store.getDomain(domain)))?.plain,
    })
    const writer = new DatabaseSync(join(near.folder, 'index.sqlite'))
    writer.exec('BEGIN IMMEDIATE')
    try {
      assert.equal((await readChunk(store, id)).length, CHUNK)
      assert.deepEqual(listOf(near), [])
    } finally {
      writer.exec('ROLLBACK')
      writer.close()
    }
    await readChunk(store, id)
    assert.equal(listOf(near).length, 1)
  }))

test('damaged keys are not taken for damaged chunks', () =>
  withChunk(async (near, _far, id) => {
    const [name] = await namesOf(near.objects, 'keys/')
    await harmObject(near.objects, name as ObjectName, flipAt(-8))
    const store = await near.reopen()
    await assert.rejects(readChunk(store, id), /The keys of domain/)
    assert.deepEqual(listOf(near), [])
  }))
