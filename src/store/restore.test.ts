import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { captureDisks, noise } from './disks.fixture.ts'
import {
  memoryRegion,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from './region.fixture.ts'
import type { RegionStore } from './region.ts'
import { fillStripes, restoreImage } from './restore.ts'

const CHUNK = TEST_CHUNK_BYTES
const never = new AbortController().signal
/** Data, a large hole, the same chunk three times, what cannot be compressed, and a short chunk at the end. */
const bytes = Buffer.concat([
  noise(70 * CHUNK, 1, 4),
  Buffer.alloc(200 * CHUNK),
  noise(CHUNK, 2),
  noise(CHUNK, 2),
  noise(20 * CHUNK, 3),
  noise(CHUNK, 2),
  noise(1536, 4),
])
const small = noise(3 * CHUNK, 5, 2)

async function capture(region: TestRegion): Promise<{ digest: Digest; folder: string }> {
  const disks = [
    { bytes: small, chunkBytes: CHUNK },
    { bytes, chunkBytes: CHUNK },
  ]
  const session = { region: region.store, sessionId: 's', domain: TEST_DOMAIN, disks }
  const { digest } = await captureDisks(session)
  const folder = join(region.folder, 'restored')
  await mkdir(folder)
  return { digest, folder }
}

interface Wish {
  readonly digest: Digest
  readonly path: string
  readonly diskIndex?: number
  readonly signal?: AbortSignal
  readonly onBytes?: (bytes: number) => void
}

/** With two at work, as two threads would be. */
function restore(region: RegionStore, wish: Wish): Promise<void> {
  const { digest, path, diskIndex = 1, signal = never, onBytes = () => {} } = wish
  return restoreImage({
    region,
    digest,
    diskIndex,
    path,
    signal,
    async fill(share) {
      const both = [1, 2].map(() => fillStripes({ region, share, signal, onBytes }))
      for (const one of await Promise.allSettled(both)) if (one.status === 'rejected') throw one.reason
    },
  })
}

/** The region's objects; what is read of packs goes through `pass`. */
function readThrough(
  inner: ObjectStore,
  pass: (bytes: Buffer, name: string, offset: number) => Buffer,
): ObjectStore {
  return {
    traits: inner.traits,
    put: inner.put.bind(inner),
    size: inner.size.bind(inner),
    list: inner.list.bind(inner),
    remove: inner.remove.bind(inner),
    async get(name, offset, lengthBytes, signal) {
      const got = await inner.get(name, offset, lengthBytes, signal)
      return name.startsWith('packs/') ? pass(got, name, offset) : got
    },
  }
}

test('a restored disk is equal in every byte, sparse where it is zero, and costs few reads', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, folder } = await capture(region)
    let readCount = 0
    const counted = readThrough(region.objects, (got) => {
      readCount++
      return got
    })
    const store = await region.reopen(counted)
    const path = join(folder, 'disk.raw')
    let doneBytes = 0
    await restore(store, { digest, path, onBytes: (more) => (doneBytes += more) })
    assert.ok((await readFile(path)).equals(bytes))
    assert.equal(doneBytes, bytes.length - 200 * CHUNK)
    const { blocks, size } = await stat(path)
    assert.equal(size, bytes.length)
    assert.ok(blocks * 512 <= bytes.length - 190 * CHUNK, `${blocks} blocks`)
    assert.ok(readCount < 30, `${readCount} reads for 92 chunks`)
    await restore(store, { digest, path: join(folder, 'other.raw'), diskIndex: 0 })
    assert.ok((await readFile(join(folder, 'other.raw'))).equals(small))
    assert.deepEqual((await readdir(folder)).sort(), ['disk.raw', 'other.raw'])
  }))

test('a file that is there is left alone, and so is a missing folder; half a file of before is replaced', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, folder } = await capture(region)
    const path = join(folder, 'disk.raw')
    await writeFile(path, 'precious')
    await assert.rejects(restore(region.store, { digest, path }), (error) => isFault(error, 'conflict'))
    assert.equal(await readFile(path, 'utf8'), 'precious')
    assert.deepEqual(await readdir(folder), ['disk.raw'])
    await assert.rejects(restore(region.store, { digest, path: join(folder, 'no', 'disk') }), (error) =>
      isFault(error, 'unavailable'),
    )
    const other = join(folder, 'other.raw')
    await writeFile(`${other}.part`, Buffer.alloc(bytes.length + 99, 7))
    await restore(region.store, { digest, path: other })
    assert.ok((await readFile(other)).equals(bytes))
    await assert.rejects(restore(region.store, { digest: 'd'.repeat(64) as Digest, path }), (error) =>
      isFault(error, 'absent'),
    )
  }))

test('a cancelled restore leaves nothing, wherever it is cancelled', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, folder } = await capture(region)
    const path = join(folder, 'disk.raw')
    for (const count of [0, 1, 5, 40, 90]) {
      const abort = new AbortController()
      const reason = new Error('enough')
      let seen = 0
      if (count === 0) abort.abort(reason)
      const onBytes = () => {
        if (++seen === count) abort.abort(reason)
      }
      await assert.rejects(restore(region.store, { digest, path, signal: abort.signal, onBytes }), reason)
      assert.deepEqual(await readdir(folder), [])
    }
  }))

test('a damaged chunk is named by the byte of the disk, and leaves nothing', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, folder } = await capture(region)
    const damages: ((got: Buffer, offset: number) => Buffer)[] = [
      // The middle of a pack, whichever read brings it; then every read; then reads that are cut short.
      (got, offset) => {
        const at = 100_000 - offset
        if (at >= 0 && at < got.length) got[at] = (got[at] as number) ^ 1
        return got
      },
      (got) => Buffer.alloc(got.length),
      (got) => got.subarray(0, got.length / 2),
    ]
    for (const damage of damages) {
      const objects = readThrough(region.objects, (got, _name, offset) => damage(Buffer.from(got), offset))
      const store = await region.reopen(objects)
      await assert.rejects(restore(store, { digest, path: join(folder, 'disk.raw') }), (error) => {
        assert.ok(isFault(error, 'corrupt'), String(error))
        const at = /^Disk 1 cannot be restored at byte (\d+): /.exec(error.message)?.[1]
        assert.equal(Number(at) % CHUNK, 0)
        return true
      })
      assert.deepEqual(await readdir(folder), [])
    }
  }))

test('what is bad only once is read again and is no failure', () =>
  withRegions([memoryRegion], async (region) => {
    const { digest, folder } = await capture(region)
    const bad = new Set<string>()
    const once = readThrough(region.objects, (got, name, offset) => {
      if (bad.has(name)) return got
      bad.add(name)
      return Buffer.alloc(got.length, offset)
    })
    const store = await region.reopen(once)
    const path = join(folder, 'disk.raw')
    await restore(store, { digest, path })
    assert.ok((await readFile(path)).equals(bytes))
  }))
