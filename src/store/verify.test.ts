import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { PackId } from '../image/ids.ts'
import { Damage } from './damage.ts'
import { assertHolds, captureDisks, noise } from './disks.fixture.ts'
import { packName } from './names.ts'
import { MapDisk } from './reader.ts'
import {
  directoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import { type Problem, verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const disks = [{ bytes: noise(12 * CHUNK, 5), chunkBytes: CHUNK }]
disks[0]?.bytes.fill(0, CHUNK, 2 * CHUNK)

const capture = (region: TestRegion) =>
  captureDisks({ region: region.store, sessionId: 's1', domain: TEST_DOMAIN, disks })

/** Changes the bytes of the first object with this prefix, behind the store's back. */
async function damage(
  region: TestRegion,
  prefix: string,
  change: (bytes: Buffer) => Buffer,
): Promise<string> {
  const name = (await objectNames(region.objects)).find((one) => one.startsWith(prefix))
  assert(name !== undefined)
  const path = join(region.folder, name)
  await writeFile(path, change(await readFile(path)))
  return name.slice(name.lastIndexOf('/') + 1)
}

const flipAt = (offset: number) => (bytes: Buffer) => {
  const at = offset < 0 ? bytes.length + offset : offset
  bytes[at] = (bytes[at] as number) ^ 1
  return bytes
}

async function problemsOf(region: TestRegion, deep: boolean): Promise<readonly Problem[]> {
  return (await verifyRegion({ region: region.store, deep })).problems
}

test('a sound region is counted', () =>
  withRegions([directoryRegion], async (region) => {
    await capture(region)
    const progress: number[] = []
    const report = await verifyRegion({
      region: region.store,
      deep: true,
      onProgress: ({ doneBytes, totalBytes }) => progress.push(doneBytes / totalBytes),
    })
    assert.deepEqual(report.problems, [])
    assert.equal(report.imageCount, 1)
    assert.equal(report.chunkCount, 11)
    assert.equal(report.logicalBytes, 12 * CHUNK)
    assert.equal(report.dataBytes, 11 * CHUNK)
    assert.ok(report.storedBytes > 11 * CHUNK)
    assert.equal(progress.at(-1), 1)
  }))

test('a flipped bit in a chunk is named down to the disk’s offset, whichever check finds it', async () => {
  for (const deep of [false, true]) {
    await withRegions([directoryRegion], async (region) => {
      const { digest, content } = await capture(region)
      const pack = await damage(region, 'packs/', flipAt(1000))
      const problems = await problemsOf(region, deep)
      assert.ok(problems.some((problem) => problem.pack === pack && problem.image === undefined))
      const [named, ...more] = problems.filter((problem) => problem.image === digest)
      assert.deepEqual(more, [])
      assert(named !== undefined)
      assert.equal(named.diskIndex, 0)
      assert.equal(named.pack, pack)
      assert.match(named.message, /^Chunk [0-9a-f]{64} at byte 64 of pack/)
      const disk = new MapDisk(region.store, content.disks[0] as (typeof content.disks)[number])
      await assert.rejects(disk.read(named.offset as number, 10), (error) => {
        assert.ok(isFault(error, 'corrupt'))
        return error.message === named.message
      })
    })
  }
})

test('whatever is damaged or missing is a finding', async () => {
  const cases: [string, (bytes: Buffer) => Buffer][] = [
    ['packs/', flipAt(0)],
    ['packs/', flipAt(70)],
    ['packs/', flipAt(-1)],
    ['packs/', flipAt(-10)],
    ['packs/', flipAt(-40)],
    ['packs/', (bytes) => bytes.subarray(0, bytes.length / 2)],
    ['packs/', () => Buffer.alloc(0)],
    ['pages/', flipAt(17)],
    ['pages/', (bytes) => bytes.subarray(1)],
    ['images/', flipAt(30)],
    ['images/', () => Buffer.alloc(0)],
  ]
  for (const [prefix, change] of cases) {
    await withRegions([directoryRegion], async (region) => {
      await capture(region)
      const id = await damage(region, prefix, change)
      const problems = await problemsOf(region, false)
      assert.ok(problems.length > 0, prefix)
      assert.ok(
        problems.some(({ pack, page, image }) => [pack, page, image].includes(id as never)),
        JSON.stringify(problems),
      )
    })
  }
})

test('missing objects are findings', async () => {
  for (const prefix of ['packs/', 'pages/', 'images/']) {
    await withRegions([directoryRegion], async (region) => {
      await capture(region)
      const name = (await objectNames(region.objects)).find((one) => one.startsWith(prefix))
      await region.objects.remove(name as never)
      assert.ok((await problemsOf(region, false)).length > 0, prefix)
    })
  }
})

test('an index that lost rows is a finding, and a rebuild mends it', () =>
  withRegions([directoryRegion], async (region) => {
    const { digest } = await capture(region)
    region.store.database.prepare('DELETE FROM chunk WHERE offset = 64').run()
    assert.ok((await problemsOf(region, false)).length > 0)
    const report = await region.store.rebuildIndex()
    assert.equal(report.chunkCount, 11)
    assert.deepEqual(await problemsOf(region, true), [])
    await assertHolds(region.store, digest, disks)
  }))

test('what an image needs and does not bind is a finding', async () => {
  for (const prefix of ['packs/', 'pages/', 'signatures/']) {
    await withRegions([directoryRegion], async (region) => {
      const { digest } = await capture(region)
      const { database } = region.store
      const row = database.prepare('SELECT number, name FROM object WHERE name GLOB ?').get(`${prefix}*`)
      database.prepare('DELETE FROM imageObject WHERE object = ?').run(row?.number as number)
      const [problem, ...more] = await problemsOf(region, false)
      assert.deepEqual(more, [])
      assert.equal(problem?.image, digest)
      assert.match(problem?.message ?? '', new RegExp(`I1: image .* needs ${String(row?.name)}`))
      await region.store.rebuildIndex()
      assert.deepEqual(await problemsOf(region, false), [])
    })
  }
})

test('a ref to an image that is not there, and one that says something else than the index, are findings', () =>
  withRegions([directoryRegion], async (region) => {
    const { digest } = await capture(region)
    await region.store.setRef({ holder: 'me', digests: [digest], label: {} })
    assert.deepEqual(await problemsOf(region, true), [])
    const { database } = region.store
    database
      .prepare("INSERT INTO ref SELECT holder, ?, name FROM ref WHERE holder = 'me'")
      .run('0'.repeat(64))
    const messages = (await problemsOf(region, false)).map((problem) => problem.message)
    assert.equal(messages.length, 2)
    assert.match(messages[0] ?? '', /^I2: me refers to image 0+, which/)
    assert.match(messages[1] ?? '', /^I2: the ref .* names other images/)
  }))

test('what is listed as damaged is told, and what is found is listed', () =>
  withRegions([directoryRegion], async (region) => {
    const { digest } = await capture(region)
    const pack = await damage(region, 'packs/', flipAt(1000))
    assert.ok((await problemsOf(region, true)).length > 0)
    const rows = new Damage(region.store.database).list()
    assert.ok(rows.some(({ name }) => name.endsWith(pack)))
    await damage(region, 'packs/', flipAt(1000))
    const again = await problemsOf(region, true)
    assert.ok(again.length > 0 && again.every(({ message }) => message.startsWith('Listed as damaged')))
    // What only the keys can tell is believed from the list where they are not used.
    const whole = new Damage(region.store.database)
    for (const { object, chunk } of rows) whole.forget(object, chunk)
    const row = region.store.database.prepare('SELECT id, object FROM chunk LIMIT 1').get()
    const [place] = region.store.places.find(row?.id as Uint8Array)
    whole.note(
      packName(place?.pack as PackId),
      [{ chunk: row?.id as Uint8Array, message: 'wrong inside' }],
      1,
    )
    const [named] = (await problemsOf(region, false)).filter(({ image }) => image === digest)
    assert.equal(named?.message, 'wrong inside')
    assert.equal(named?.chunk, Buffer.from(row?.id as Uint8Array).toString('hex'))
  }))
