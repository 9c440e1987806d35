import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Digest } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { Damage } from './damage.ts'
import { assertHolds } from './disks.fixture.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { LocalWrapper } from './keys.ts'
import { readPage, ZERO_PAGE } from './map.ts'
import { imageName, packName, pageName, signatureName } from './names.ts'
import { bringPacks, capture } from './pull.fixture.ts'
import { type PullOptions, pullImage } from './pull.ts'
import { pullDisk, pullSeeds } from './pull-suite.ts'
import { directoryRegion, type TestRegion, testRegionKey, withRegions } from './region.fixture.ts'
import { openRegionStore } from './region.ts'
import { verifyRegion } from './verify.ts'

// What a pulled image binds, which keeps it whole (I1), and keeps nothing else.

const odd = (from: number, count: number) => pullDisk(pullSeeds(from, count).map((seed) => 2 * seed + 1))

function boundBy({ store }: TestRegion, digest: Digest): Set<ObjectName> {
  const rows = store.database.prepare(
    `SELECT o.name FROM object i JOIN imageObject b ON b.image = i.number JOIN object o ON o.number = b.object
     WHERE i.name = ?`,
  )
  return new Set(rows.all(imageName(digest)).map((row) => row.name as ObjectName))
}

/** Pages and signature; of each chunk one pack that holds it; and no pack that holds none of its chunks. */
async function assertBinds(region: TestRegion, digest: Digest): Promise<void> {
  const { store } = region
  const image = await store.getImage(digest)
  const bound = boundBy(region, digest)
  const expected = new Set<ObjectName>([signatureName(digest)])
  for (const id of new Set(image.disks.flatMap(({ pages }) => pages))) {
    if (id === ZERO_PAGE) continue
    expected.add(pageName(id))
    const page = await readPage(store.objects, id)
    for (let at = 0; at < page.length; at += ID_BYTES) {
      if (isZeroId(page, at)) continue
      const packs = store.places
        .find(page.subarray(at, at + ID_BYTES))
        .map((place) => packName(place.pack))
        .filter((name) => bound.has(name))
      assert.notEqual(packs.length, 0)
      for (const name of packs) expected.add(name)
    }
  }
  assert.deepEqual([...bound].sort(), [...expected].sort())
  assert.deepEqual((await verifyRegion({ region: store, deep: true })).problems, [])
}

for (const takesPacks of [true, false]) {
  const how = takesPacks ? 'pack by pack' : 'chunk by chunk'
  const pull = (
    source: TestRegion,
    target: TestRegion,
    digest: Digest,
    sessionId: string,
    more: Partial<PullOptions> = {},
  ) =>
    pullImage({
      ...{ source: source.store, target: target.store, digest, sessionId, check: 'seal', takesPacks },
      ...more,
    })

  test(`${how}: an image binds what was brought, and of the next version what was there as well`, () =>
    withRegions([directoryRegion, directoryRegion], async (one, two) => {
      const first = await capture(one, 's1', [odd(1, 20), odd(50, 3)])
      await pull(one, two, first.digest, 'p1')
      await assertBinds(two, first.digest)
      const next = await capture(one, 's2', [odd(1, 15), odd(80, 12)])
      await pull(one, two, next.digest, 'p2')
      await assertBinds(two, next.digest)
      const known = boundBy(two, first.digest)
      assert.ok([...boundBy(two, next.digest)].some((name) => name.startsWith('packs/') && known.has(name)))
    }))

  test(`${how}: where more is missing than is kept in mind it binds the same`, () =>
    withRegions([directoryRegion, directoryRegion], async (one, two) => {
      await pull(one, two, (await capture(one, 's1', [odd(1, 10)])).digest, 'p1')
      const { digest } = await capture(one, 's2', [odd(5, 30)])
      await pull(one, two, digest, 'p2', { limits: { keptChunksMax: 1 } })
      await assertBinds(two, digest)
    }))

  test(`${how}: begun again it binds what the first run wrote`, () =>
    withRegions([directoryRegion, directoryRegion], async (one, two) => {
      const { digest } = await capture(one, 's1', [odd(1, 60)])
      const abort = new AbortController()
      const onProgress = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) => {
        if (doneBytes > totalBytes / 4) abort.abort(new Error('enough'))
      }
      await assert.rejects(pull(one, two, digest, 'p', { signal: abort.signal, onProgress }), /enough/)
      const { bytesMoved } = await pull(one, two, digest, 'p')
      assert.ok(bytesMoved < odd(1, 60).bytes.length)
      await assertBinds(two, digest)
    }))

  test(`${how}: it binds what another writer has brought meanwhile`, () =>
    withRegions([directoryRegion, directoryRegion], async (one, two) => {
      const { digest } = await capture(one, 's1', [odd(1, 30)])
      const other = await openRegionStore({
        objects: two.objects,
        indexPath: join(two.folder, 'index.sqlite'),
        wrapper: new LocalWrapper(testRegionKey(0)),
      })
      const { store } = one
      const locate = store.locate.bind(store)
      // The packs come between the comparison and the first chunk.
      store.locate = async (ids) => {
        store.locate = locate
        const table = await locate(ids)
        await bringPacks(one, other, table.packs.slice(1))
        return table
      }
      try {
        const { chunksMoved } = await pull(one, two, digest, 'p')
        assert.ok(chunksMoved > 0 && chunksMoved < 30, `${chunksMoved}`)
        await assertBinds(two, digest)
      } finally {
        other.close()
      }
    }))
}

test('a chunk that is listed as damaged is brought anew, and the image binds the pack in which it is whole', () =>
  withRegions([directoryRegion, directoryRegion], async (one, two) => {
    const first = await capture(one, 's1', [odd(1, 20)])
    const options = { source: one.store, target: two.store, check: 'seal', takesPacks: true } as const
    await pullImage({ ...options, digest: first.digest, sessionId: 'p1' })
    const page = (await two.store.getImage(first.digest)).disks[0]?.pages[0]
    assert.ok(page !== undefined)
    const chunk = (await readPage(two.store.objects, page)).subarray(0, ID_BYTES)
    const bad = two.store.places.find(chunk)[0]
    assert.ok(bad !== undefined)
    new Damage(two.store.database).note(packName(bad.pack), [{ chunk, message: 'flipped' }], 1)
    const disks = [odd(1, 20), odd(90, 2)]
    const next = await capture(one, 's2', disks)
    assert.equal((await pullImage({ ...options, digest: next.digest, sessionId: 'p2' })).chunksMoved, 3)
    const good = two.store.places.find(chunk).filter(({ pack }) => pack !== bad.pack)
    assert.equal(good.length, 1)
    assert.ok(boundBy(two, next.digest).has(packName(good[0]?.pack ?? bad.pack)))
    await assertHolds(two.store, next.digest, disks)
  }))

test('an image whose chunk lies in no pack that is whole is not committed', () =>
  withRegions([directoryRegion, directoryRegion], async (one, two) => {
    const first = await capture(one, 's1', [odd(1, 4)])
    const options = { source: one.store, target: two.store, check: 'seal', takesPacks: true } as const
    await pullImage({ ...options, digest: first.digest, sessionId: 'p1' })
    const damage = new Damage(two.store.database)
    for (const name of boundBy(two, first.digest)) {
      const rows = two.store.database.prepare(
        'SELECT c.id FROM chunk c JOIN object o ON o.number = c.object WHERE o.name = ?',
      )
      const found = rows.all(name).map((row) => ({ chunk: row.id as Uint8Array, message: 'flipped' }))
      damage.note(name, found, 1)
    }
    // The same chunks, so that their packs are there under their names, and are found to be there.
    const { digest } = await capture(one, 's2', [odd(1, 4), { ...odd(1, 4) }])
    await assert.rejects(pullImage({ ...options, digest, sessionId: 'p2' }), /is missing/)
    assert.equal(two.store.hasImage(digest), false)
  }))

test('a pack that holds another chunk than the index of its region says is not taken for that chunk', async () => {
  for (const takesPacks of [true, false]) {
    await withRegions([directoryRegion, directoryRegion], async (source, target) => {
      const wanted = await capture(source, 's1', [odd(1, 1)])
      const other = await capture(source, 's2', [odd(100, 1)])
      const [idOfWanted, idOfOther] = await Promise.all(
        [wanted, other].map(async ({ digest }) => {
          const [page] = (await source.store.getImage(digest)).disks[0]?.pages ?? []
          return (await readPage(source.store.objects, page ?? assert.fail())).subarray(0, ID_BYTES)
        }),
      )
      const { database } = source.store
      const rename = database.prepare('UPDATE chunk SET id = ? WHERE id = ?')
      const between = new Uint8Array(ID_BYTES)
      rename.run(between, idOfWanted as Buffer)
      rename.run(idOfWanted as Buffer, idOfOther as Buffer)
      rename.run(idOfOther as Buffer, between)
      await assert.rejects(
        pullImage({
          ...{ source: source.store, target: target.store, digest: wanted.digest, sessionId: 'p' },
          ...({ check: 'seal', takesPacks } satisfies Partial<PullOptions>),
        }),
        { name: 'Fault', kind: 'corrupt' },
      )
      assert.equal(target.store.hasImage(wanted.digest), false)
    })
  }
})
