import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { crc32 } from 'node:zlib'
import { isFault } from '../image/fault.ts'
import type { DomainId, PackId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import type { ObjectName } from '../objects/names.ts'
import { assertHolds, captureDisks, noise, type TestDisk, writeDisks } from './disks.fixture.ts'
import { LocalWrapper } from './keys.ts'
import { hashOfName } from './names.ts'
import { readPackContent } from './pack.ts'
import { pullImage } from './pull.ts'
import { readChunkAt, type StoredPlace } from './read-chunk.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import { checkRegionKey, rewrapKeys } from './rewrap.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const diskOf = (...seeds: number[]): TestDisk => ({
  bytes: Buffer.concat(seeds.map((seed) => noise(CHUNK, seed, seed % 2 === 0 ? 64 : 1))),
  chunkBytes: CHUNK,
})
const capture = (region: TestRegion, sessionId: string, disks: readonly TestDisk[]) =>
  captureDisks({ region: region.store, sessionId, domain: TEST_DOMAIN, disks })
const problemsOf = async (region: TestRegion, deep: boolean) =>
  (await verifyRegion({ region: region.store, deep })).problems
const key = (byte: number) => new LocalWrapper(new Uint8Array(32).fill(byte))

/** Every stored chunk of a region, and where it is. */
async function storedChunks({ objects }: TestRegion) {
  const found: { place: StoredPlace; id: Buffer; stored: Buffer }[] = []
  for (const name of await objectNames(objects)) {
    if (!name.startsWith('packs/')) continue
    const pack = hashOfName(name as ObjectName) as PackId
    const { entries, domain } = await readPackContent(objects, pack)
    for (const { id, ...entry } of entries) {
      const stored = await objects.get(name as ObjectName, entry.offset, entry.storedBytes)
      found.push({ place: { ...entry, pack, domain }, id, stored })
    }
  }
  return found
}

test('every byte of a stored chunk is sealed: who changes one and mends all checksums is found out', () =>
  withRegions([memoryRegion], async (region) => {
    await capture(region, 's1', [diskOf(1, 2)])
    for (const { place, id, stored } of await storedChunks(region)) {
      const read = (bytes: Buffer) =>
        readChunkAt(
          { get: async () => bytes },
          (domain) => region.store.getDomain(domain),
          { ...place, crc32: crc32(bytes) },
          id,
        )
      assert.equal((await read(stored)).length, CHUNK)
      const header = [0, 1, 2, 3]
      const nonce = Array.from({ length: 12 }, (_, i) => 4 + i)
      const tag = Array.from({ length: 16 }, (_, i) => stored.length - 1 - i)
      const payload = [16, 17, Math.floor(stored.length / 2), stored.length - 17]
      for (const at of [...header, ...nonce, ...payload, ...tag]) {
        const broken = Buffer.from(stored)
        broken[at] = (broken[at] as number) ^ 1
        await assert.rejects(read(broken), (error) => isFault(error, 'corrupt'), `byte ${at}`)
      }
      for (const lengthBytes of [1, 4, 16, 31, 32, stored.length - 1]) {
        await assert.rejects(read(stored.subarray(0, lengthBytes)), (error) => isFault(error, 'corrupt'))
      }
      // Somebody without the keys stores bytes of his own choice, unsealed, under the chunk's id.
      const planted = Buffer.concat([Buffer.from([1, 0, 0, 0]), noise(CHUNK, 99)])
      await assert.rejects(read(planted), (error) => isFault(error, 'corrupt'))
    }
  }))

test('two chunks that change places, or claim another length, are found out', () =>
  withRegions([memoryRegion], async (region) => {
    await capture(region, 's1', [diskOf(1, 3)])
    const [one, two] = await storedChunks(region)
    assert(one !== undefined && two !== undefined)
    const read = (bytes: Buffer, id: Buffer, plainBytes = CHUNK) =>
      readChunkAt(
        { get: async () => bytes },
        (domain) => region.store.getDomain(domain),
        { ...one.place, plainBytes, crc32: crc32(bytes) },
        id,
      )
    await read(one.stored, one.id)
    for (const wrong of [read(two.stored, one.id), read(one.stored, two.id), read(one.stored, one.id, 512)])
      await assert.rejects(wrong, (error) => isFault(error, 'corrupt'))
  }))

test('one chunk stored twice has two nonces, and no two chunks have the same', () =>
  withRegions([memoryRegion], async (region) => {
    const seeds = Array.from({ length: 300 }, (_, i) => 2 * i + 2)
    const domain = TEST_DOMAIN
    for (const sessionId of ['s1', 's2'])
      await writeDisks({ region: region.store, sessionId, domain, disks: [diskOf(...seeds)] })
    const nonces = (await storedChunks(region)).map(({ stored }) => stored.toString('hex', 4, 16))
    assert.equal(nonces.length, 600)
    assert.equal(new Set(nonces).size, 600)
  }))

test('a copy moves what is encrypted as it is, and the other region reads it with its own key', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const disks = [diskOf(1, 2, 3, 4)]
    const { digest } = await capture(one, 's1', disks)
    await pullImage({ source: one.store, target: two.store, digest, sessionId: 'p' })
    // In whichever packs, whose names are those of their bytes.
    const bytesOf = async (region: TestRegion) =>
      (await storedChunks(region)).map(({ stored }) => stored).toSorted(Buffer.compare)
    assert.deepEqual(await bytesOf(two), await bytesOf(one))
    await two.reopen()
    await assertHolds(two.store, digest, disks)
    assert.deepEqual(await problemsOf(two, true), [])
  }))

test('an image whose signature is missing, damaged or made with other keys is not copied, and is a finding', async () => {
  const changes: ((bytes: Buffer) => Buffer | undefined)[] = [
    () => undefined,
    (bytes) => bytes.subarray(1),
    (bytes) => Buffer.from(bytes.toString().replace(/"mac":"../, '"mac":"zz')),
    (bytes) => Buffer.from(bytes.toString().replace(/"mac":"[0-9a-f]{64}/, `"mac":"${'ab'.repeat(32)}`)),
  ]
  for (const [i, change] of changes.entries()) {
    await withRegions([memoryRegion, memoryRegion], async (one, two) => {
      const { digest } = await capture(one, 's1', [diskOf(1)])
      const name = `signatures/${digest}` as ObjectName
      const bytes = await one.objects.get(name, 0, (await one.objects.size(name)) ?? 0)
      await one.objects.remove(name)
      const changed = change(bytes)
      if (changed !== undefined) await one.objects.put(name, changed)
      await assert.rejects(
        pullImage({ source: one.store, target: two.store, digest, sessionId: 'p' }),
        (error) => isFault(error, 'corrupt') && error.message.includes('signature'),
      )
      assert.deepEqual(await objectNames(two.objects), [])
      // Without a key, only a signature that is not one can be told.
      assert.equal((await problemsOf(one, false)).length, i < 3 ? 1 : 0)
      assert.deepEqual(
        (await problemsOf(one, true)).map(({ image }) => image),
        [digest],
      )
    })
  }
})

test('a check and a rebuild need no key; reading, writing and a deep check do, and say so', () =>
  withRegions([directoryRegion], async (region) => {
    const disks = [diskOf(1, 2, 3)]
    const { digest } = await capture(region, 's1', disks)
    await region.reopen(region.objects, { wrapper: undefined as never })
    assert.deepEqual(await problemsOf(region, false), [])
    await region.store.rebuildIndex()
    assert.deepEqual(region.store.listImages(), [digest])
    assert.deepEqual(await problemsOf(region, false), [])
    const isDenied = (error: unknown) => isFault(error, 'denied') && error.reason === 'region-key'
    await assert.rejects(problemsOf(region, true), isDenied)
    await assert.rejects(assertHolds(region.store, digest, disks), isDenied)
    await assert.rejects(capture(region, 's2', [diskOf(4)]), isDenied)
    await region.reopen()
    await assertHolds(region.store, digest, disks)
  }))

test('a wrong region key is refused by name, and nothing is written under it', () =>
  withRegions([memoryRegion], async (region) => {
    const disks = [diskOf(1, 2)]
    const { digest } = await capture(region, 's1', disks)
    const names = await Array.fromAsync(region.objects.list(''))
    const rightId = hashOfName(names.find((name) => name.startsWith('keys/')) as ObjectName)
    const wrong = key(77)
    await region.reopen(region.objects, { wrapper: wrong })
    const isNamed = (error: unknown) =>
      isFault(error, 'denied') && error.message.includes(rightId) && error.message.includes(wrong.keyId)
    await assert.rejects(assertHolds(region.store, digest, disks), isNamed)
    await assert.rejects(capture(region, 's2', [diskOf(4)]), isNamed)
    await assert.rejects(checkRegionKey(region.objects, wrong.keyId), isNamed)
    await checkRegionKey(region.objects, rightId)
    assert.deepEqual((await Array.fromAsync(region.objects.list(''))).sort(), names.sort())
  }))

test('a change of the region key touches key objects only, and goes on after a crash at any step', async () => {
  let failed = true
  for (let n = 0; failed; n++) {
    await withRegions([() => memoryRegion({ store: { wrapper: key(1) } })], async (region) => {
      const disks = [diskOf(1, 2)]
      const { digest } = await capture(region, 's1', disks)
      for (const name of ['org-a', 'org-b']) await region.store.ensureDomain(name as DomainId)
      const before = await objectNames(region.objects)
      let changeCount = 0
      const step = () => assert.ok(changeCount++ < n, 'killed')
      const { objects } = region
      const dying: ObjectStore = {
        traits: objects.traits,
        get: (name, offset, lengthBytes) => objects.get(name, offset, lengthBytes),
        size: (name) => objects.size(name),
        list: (prefix) => objects.list(prefix),
        put: async (name, bytes) => {
          step()
          return objects.put(name, bytes)
        },
        remove: async (name) => {
          step()
          await objects.remove(name)
        },
      }
      failed = await rewrapKeys(dying, key(1), key(2)).then(
        () => false,
        (error) => /killed/.test(String(error)),
      )
      assert.equal(await rewrapKeys(region.objects, key(1), key(2)), failed ? 3 - Math.max(0, n - 3) : 0)
      assert.equal(await rewrapKeys(region.objects, key(1), key(2)), 0)
      assert.deepEqual(await objectNames(region.objects), before)
      const keys = await Array.fromAsync(region.objects.list('keys/'))
      assert.equal(keys.length, 3)
      assert.ok(keys.every((name) => name.endsWith(`/${key(2).keyId}`)))
      await region.reopen(region.objects, { wrapper: key(1) })
      await assert.rejects(assertHolds(region.store, digest, disks), (error) => isFault(error, 'denied'))
      await region.reopen(region.objects, { wrapper: key(2) })
      await assertHolds(region.store, digest, disks)
      assert.deepEqual(await problemsOf(region, true), [])
    })
  }
})

test('what was stored unencrypted is read, found again and copied where encryption is on, and the other way', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    await one.reopen(one.objects, { isEncrypting: false })
    const disks = [diskOf(1, 2, 3)]
    const first = await capture(one, 's1', disks)
    assert.deepEqual(new Set((await storedChunks(one)).map(({ stored }) => stored[2])), new Set([0]))
    await one.reopen()
    await assertHolds(one.store, first.digest, disks)
    const second = await capture(one, 's2', [diskOf(1, 2, 5)])
    assert.equal(second.counts.newBytes, CHUNK)
    assert.deepEqual((await storedChunks(one)).map(({ stored }) => stored[2]).sort(), [0, 0, 0, 1])
    await pullImage({ source: one.store, target: two.store, digest: second.digest, sessionId: 'p' })
    await assertHolds(two.store, second.digest, [diskOf(1, 2, 5)])
    await one.reopen(one.objects, { isEncrypting: false })
    await assertHolds(one.store, second.digest, [diskOf(1, 2, 5)])
    for (const region of [one, two]) assert.deepEqual(await problemsOf(region, true), [])
  }))

/** Every file below `folder` as it is, the index and its log among them. */
async function allFiles(folder: string) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return Promise.all(paths.map(async (path) => ({ path, bytes: await readFile(path) })))
}

test('no file of a region holds a marker of its disks or a key, in any spelling', async () => {
  const secrets = { idKey: new Uint8Array(noise(32, 91)), dataKey: new Uint8Array(noise(32, 92)) }
  const regionKey = new Uint8Array(noise(32, 93))
  const options = { wrapper: new LocalWrapper(regionKey), secretsOf: () => secrets }
  const marker = Buffer.from('PLANTED-MARKER-4711')
  const plantIn = (disk: TestDisk) => {
    for (let at = 100; at < disk.bytes.length - 100; at += 20_000) marker.copy(disk.bytes, at)
    return disk
  }
  const compressible = plantIn(diskOf(2, 4, 6, 8))
  const dense = plantIn(diskOf(1, 3, 5, 7, 9, 11))
  const spellings = (bytes: Uint8Array) => [
    Buffer.from(bytes),
    Buffer.from(Buffer.from(bytes).toString('hex')),
    Buffer.from(Buffer.from(bytes).toString('base64').slice(0, 40)),
  ]
  const needles = [marker, ...[secrets.idKey, secrets.dataKey, regionKey].flatMap(spellings)]
  const find = async (region: TestRegion) => {
    const files = await allFiles(region.folder)
    assert.ok(files.some(({ path }) => path.endsWith('index.sqlite-wal')))
    assert.ok(
      files.some(({ path }) => path.includes('/packs/')) && files.some(({ path }) => path.includes('/keys/')),
    )
    return files
      .filter(({ bytes }) => needles.some((needle) => bytes.includes(needle)))
      .map(({ path }) => path)
  }
  await withRegions([() => directoryRegion({ store: options })], async (region) => {
    const { digest } = await capture(region, 's1', [compressible, dense])
    // A session that a crash left unfinished, and a put that was cut short.
    const domain = TEST_DOMAIN
    const half = plantIn(diskOf(13, 15, 17, 19, 21, 23))
    await writeDisks({ region: region.store, sessionId: 's2', domain, disks: [half] })
    assert.deepEqual(await find(region), [])
    await assertHolds(region.store, digest, [compressible, dense])
    assert.deepEqual(await find(region), [])
    const shown = inspect(region.store, { depth: 10, showHidden: true })
    for (const spelling of [secrets.idKey, secrets.dataKey, regionKey].flatMap(spellings)) {
      assert.ok(!shown.includes(spelling.toString('latin1')))
    }
  })
  // The search does find what is there.
  await withRegions(
    [() => directoryRegion({ store: { ...options, isEncrypting: false } })],
    async (region) => {
      await capture(region, 's1', [dense])
      assert.ok((await find(region)).some((path) => path.includes('/packs/')))
    },
  )
})
