import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Fault, isFault } from '../image/fault.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { type ObjectName, parseObjectName } from '../objects/names.ts'
import { assertHolds, captureDisks } from './disks.fixture.ts'
import { isAllZero } from './hashes.ts'
import { bareSource } from './paced.ts'
import { cachedSource, PackCache } from './pack-cache.ts'
import { pullImage } from './pull.ts'
import { pullDisk, pullSeeds } from './pull-suite.ts'
import { memoryRegion, TEST_DOMAIN, type TestRegion, withRegions } from './region.fixture.ts'
import type { ReadOnlyRegion } from './source.ts'
import { verifyRegion } from './verify.ts'

const name = parseObjectName('packs/ab/abcdef')

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'pack-cache-'))
  try {
    await body(join(folder, 'cache'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The region, and every read of its packs and pages counted. */
function counting(region: TestRegion): { source: ReadOnlyRegion; counts: Map<string, number> } {
  const counts = new Map<string, number>()
  const objects: Pick<ObjectStore, 'get' | 'size' | 'traits'> = {
    traits: region.objects.traits,
    size: (one, signal) => region.objects.size(one, signal),
    get(one: ObjectName, offset, lengthBytes, signal) {
      if (/^(packs|pages)/.test(one)) {
        const key = `${one} ${offset} ${lengthBytes}`
        counts.set(key, (counts.get(key) ?? 0) + 1)
      }
      return region.objects.get(one, offset, lengthBytes, signal)
    },
  }
  return { source: { ...bareSource(region.store), objects }, counts }
}

test('twenty copies of one image at once read its packs and maps once', () =>
  inFolder((folder) =>
    withRegions(Array(21).fill(memoryRegion), async (one, ...targets) => {
      const disks = [pullDisk(pullSeeds(1, 30))]
      const { digest } = await captureDisks({ region: one.store, sessionId: 's', domain: TEST_DOMAIN, disks })
      const { source, counts } = counting(one)
      const copies = targets.map(({ store }) =>
        pullImage({
          // One cache for each, as every copy is in a thread of its own.
          source: cachedSource(source, new PackCache({ folder, source: 'home', bytesMax: 100_000_000 })),
          ...{ target: store, digest, sessionId: 'p' },
        }),
      )
      await Promise.all(copies)
      assert.ok(counts.size > 1)
      assert.deepEqual(new Set(counts.values()), new Set([1]))
      for (const { store } of targets) {
        await assertHolds(store, digest, disks)
        assert.deepEqual((await verifyRegion({ region: store, deep: true })).problems, [])
      }
    }),
  ))

test('what the cache holds is checked; a damaged entry is fetched from the source and forgotten', () =>
  inFolder((folder) =>
    withRegions([memoryRegion, memoryRegion, memoryRegion], async (one, two, three) => {
      const disks = [pullDisk(pullSeeds(1, 10))]
      const { digest } = await captureDisks({ region: one.store, sessionId: 's', domain: TEST_DOMAIN, disks })
      const cached = cachedSource(one.store, new PackCache({ folder, source: 'home', bytesMax: 100_000_000 }))
      await pullImage({ source: cached, target: two.store, digest, sessionId: 'p' })
      const packs = (await readdir(folder)).filter((each) => each.startsWith('home.packs-'))
      for (const each of packs) {
        await writeFile(join(folder, each), Buffer.alloc((await stat(join(folder, each))).size))
      }
      await pullImage({ source: cached, target: three.store, digest, sessionId: 'p' })
      await assertHolds(three.store, digest, disks)
      assert.ok(packs.length > 0)
      for (const each of await readdir(folder)) {
        assert.ok(!isAllZero(await readFile(join(folder, each))), `${each} is still damaged`)
      }
    }),
  ))

test('a fetch that fails is tried by whoever waits for it', () =>
  inFolder(async (folder) => {
    const cache = new PackCache({ folder, source: 'home', bytesMax: 1000, pollMs: 1 })
    const gate = Promise.withResolvers<Buffer>()
    const begun = Promise.withResolvers<void>()
    const first = cache.get(name, 0, 3, () => {
      begun.resolve()
      return gate.promise
    })
    await begun.promise
    let count = 0
    const second = cache.get(name, 0, 3, async () => {
      count++
      return Buffer.from('abc')
    })
    const failed = assert.rejects(first, (error) => isFault(error, 'unavailable'))
    gate.reject(new Fault('unavailable', 'away', { subject: 'store' }))
    await failed
    assert.equal((await second).toString(), 'abc')
    assert.equal(count, 1)
    assert.equal((await cache.get(name, 0, 3, async () => Buffer.from('xyz'))).toString(), 'abc')
  }))

test('what a dead thread was at is taken over', () =>
  inFolder(async (folder) => {
    const cache = new PackCache({ folder, source: 'home', bytesMax: 1000, pollMs: 1, deadMs: 60_000 })
    await cache.get(parseObjectName('packs/ab/other'), 0, 1, async () => Buffer.from('x'))
    const part = join(folder, 'home.packs-ab-abcdef-0-3.part')
    await writeFile(part, '')
    await utimes(part, new Date(0), new Date(0))
    assert.equal((await cache.get(name, 0, 3, async () => Buffer.from('abc'))).toString(), 'abc')
  }))

test('who waits for another can be stopped', () =>
  inFolder(async (folder) => {
    const cache = new PackCache({ folder, source: 'home', bytesMax: 1000, pollMs: 1 })
    const gate = Promise.withResolvers<Buffer>()
    const begun = Promise.withResolvers<void>()
    const first = cache.get(name, 0, 3, () => {
      begun.resolve()
      return gate.promise
    })
    await begun.promise
    const abort = new AbortController()
    const second = cache.get(name, 0, 3, () => gate.promise, abort.signal)
    abort.abort(new Error('enough'))
    await assert.rejects(second, /enough/)
    gate.resolve(Buffer.from('abc'))
    assert.equal((await first).toString(), 'abc')
  }))

test('it stays within its bytes, and what was read last stays', () =>
  inFolder(async (folder) => {
    const cache = new PackCache({ folder, source: 'home', bytesMax: 10_000 })
    const read = (i: number) => cache.get(name, i, 1000, async () => Buffer.alloc(1000, i))
    for (let i = 0; i < 50; i++) {
      await read(i)
      const files = await readdir(folder)
      assert.ok(files.length <= 10, `${files.length} files`)
      const path = join(folder, `home.packs-ab-abcdef-${i}-1000`)
      await utimes(path, new Date(1e9 + i * 1000), new Date(1e9 + i * 1000))
    }
    const left = (await readdir(folder)).map((each) => Number(each.split('-')[3])).sort((a, b) => a - b)
    assert.equal(left.at(-1), 49)
    assert.ok((left[0] ?? 0) > 35)
  }))

test('copies that each bring little stay within its bytes together', () =>
  inFolder(async (folder) => {
    for (let i = 0; i < 50; i++) {
      // As each is in a thread of its own.
      const cache = new PackCache({ folder, source: 'home', bytesMax: 16_000 })
      await cache.get(name, i, 900, async () => Buffer.alloc(900, i))
      assert.ok((await readdir(folder)).length * 900 <= 16_000)
    }
  }))

test('sources share one folder and its limit, and answer nothing of each other', () =>
  inFolder(async (folder) => {
    const sources = ['home', 'away', 'far', 'near', 'other']
    const cacheOf = (source: string) => new PackCache({ folder, source, bytesMax: 16_000 })
    const read = (source: string) =>
      cacheOf(source).get(name, 0, 4, async () => Buffer.from(source.slice(0, 4).padEnd(4)))
    for (const source of sources) assert.equal((await read(source)).toString().trim(), source.slice(0, 4))
    for (let i = 0; i < 15; i++) {
      for (const source of sources) {
        await cacheOf(source).get(name, i, 900, async () => Buffer.alloc(900, i))
        assert.ok((await readdir(folder)).length * 900 <= 16_000 + sources.length * 900)
      }
    }
  }))

test('a folder that cannot be made is no failure of the copy', () =>
  inFolder(async (folder) => {
    await writeFile(folder, '')
    const cache = new PackCache({ folder: join(folder, 'below'), source: 'home', bytesMax: 1000 })
    assert.equal((await cache.get(name, 0, 3, async () => Buffer.from('abc'))).toString(), 'abc')
  }))
