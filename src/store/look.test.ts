import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { cutTo, flipAt, harmObject, namesOf, replaceObject, takeAway, withCopies } from './damage.fixture.ts'
import { Damage } from './damage.ts'
import { type CapturedImage, captureDisks, noise } from './disks.fixture.ts'
import { findFlaw } from './look.ts'
import { imageName, signatureName } from './names.ts'
import { TEST_CHUNK_BYTES, TEST_DOMAIN, type TestRegion } from './region.fixture.ts'
import { repair } from './repair.ts'
import { scrub } from './scrub.ts'

const CHUNK = TEST_CHUNK_BYTES
const disks = [{ bytes: noise(12 * CHUNK, 5), chunkBytes: CHUNK }]

const withRegion = (body: (near: TestRegion, image: CapturedImage, far: TestRegion) => Promise<void>) =>
  withCopies(disks, (near, far, image) => body(near, image, far))

const indexOf = ({ folder }: TestRegion) => join(folder, 'index.sqlite')
const look = (region: TestRegion, digest: Digest) => findFlaw(region.objects, indexOf(region), digest)

test('of an image that is whole there is nothing to say', () =>
  withRegion(async (region, { digest }) => {
    assert.equal(await look(region, digest), undefined)
    await scrub({ region: region.store })
    assert.equal(await look(region, digest), undefined)
  }))

for (const [how, harm] of [
  ['flipped', flipAt(3)],
  ['cut', cutTo(0.5)],
  ['gone', takeAway],
] as const) {
  test(`an image object or a signature that is ${how} is seen, and again right once it is back`, () =>
    withRegion(async (region, { digest }) => {
      for (const name of [imageName(digest), signatureName(digest)]) {
        const before = await harmObject(region.objects, name, harm)
        assert.match((await look(region, digest)) ?? '', new RegExp(digest), name)
        await replaceObject(region.objects, name, before)
        assert.equal(await look(region, digest), undefined)
      }
    }))
}

test('a map page, and a chunk in a pack, are known once a scrub has found them, until they are mended', () =>
  withRegion(async (near, { digest }, far) => {
    for (const prefix of ['pages/', 'packs/']) {
      const [name] = await namesOf(near.objects, prefix)
      assert(name !== undefined)
      await harmObject(near.objects, name, flipAt(100))
      assert.equal(await look(near, digest), undefined, `${name}: a glance does not read it`)
      await scrub({ region: near.store })
      assert.match((await look(near, digest)) ?? '', /damaged/, name)
      const { lostCount } = await repair({ region: near.store, peers: [far.store] })
      assert.equal(lostCount, 0)
      assert.equal(await look(near, digest), undefined, name)
    }
  }))

test('what is damaged in its packs is nothing to an image that does not need it, or has it elsewhere', () =>
  withRegion(async (region, { digest }) => {
    const { store } = region
    const more = noise(2 * CHUNK, 6)
    const [system] = disks
    assert(system !== undefined)
    // Both images bind the same packs, the second one chunk more.
    const second = await captureDisks({
      ...{ region: store, sessionId: 'second', domain: TEST_DOMAIN, holder: 'second' },
      disks: [system, { bytes: more, chunkBytes: CHUNK }],
    })
    const damage = new Damage(store.database)
    const rows = store.database.prepare(
      'SELECT c.id, o.name FROM chunk c JOIN object o ON o.number = c.object ORDER BY o.number DESC, c.offset LIMIT 1',
    )
    const row = rows.get()
    assert(row !== undefined)
    const [chunk, name] = [row.id as Uint8Array, row.name as ObjectName]
    damage.note(name, [{ message: 'The pack is damaged.' }], 1)
    assert.equal(await look(region, second.digest), undefined, 'of which chunk is not said')
    damage.note(name, [{ chunk, message: 'A chunk is damaged.' }], 1)
    assert.equal(await look(region, second.digest), 'A chunk is damaged.')
    // As if a collection had put chunks of the two into one pack.
    store.database
      .prepare(
        `INSERT OR IGNORE INTO imageObject SELECT i.number, p.number FROM object i, object p WHERE i.name = ? AND p.name = ?`,
      )
      .run(imageName(digest), name)
    assert.equal(await look(region, digest), undefined)
    store.database
      .prepare(
        `INSERT INTO chunk SELECT c.id, p.number, c.offset, c.storedBytes, c.plainBytes, c.crc32
         FROM chunk c, object p WHERE c.id = ? AND p.name = ?`,
      )
      .run(chunk, (await namesOf(region.objects, 'packs/')).find((one) => one !== name) as string)
    assert.equal(await look(region, second.digest), undefined)
  }))

test('an image that the index does not know is said to be so, and an index that is not there is no flaw', () =>
  withRegion(async (region, { digest }) => {
    await assert.rejects(findFlaw(region.objects, join(region.folder, 'none'), digest), (error) =>
      isFault(error, 'unavailable'),
    )
    await region.store.database.prepare('UPDATE object SET state = 3 WHERE name = ?').run(imageName(digest))
    assert.match((await look(region, digest)) ?? '', /index/)
    region.store.database.setMeta('complete', undefined)
    assert.equal(await look(region, digest), undefined, 'it is being made anew')
  }))
