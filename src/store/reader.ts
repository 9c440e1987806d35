import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { type DiskMap, PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { readChunk } from './read-chunk.ts'
import type { RegionStore } from './region.ts'
import { chunkIdAt } from './source.ts'

/** A run of the mapped disk, by whole chunks cut to what was asked for. */
export interface MapExtent {
  readonly offset: number
  readonly lengthBytes: number
  readonly holds: 'data' | 'zero'
}

/**
 * A disk map as a disk to read. Pages are read when they are first needed, chunks are checked whenever they are
 * decoded and kept in the region's cache. Usable in any thread.
 */
export class MapDisk {
  readonly sizeBytes: number
  readonly #region: RegionStore
  readonly #map: DiskMap
  readonly #sessionId: string
  readonly #pages: (Buffer | Promise<Buffer> | undefined)[]

  constructor(region: RegionStore, map: DiskMap, sessionId = '') {
    this.#region = region
    this.#map = map
    this.#sessionId = sessionId
    this.sizeBytes = map.sizeBytes
    this.#pages = map.pages.map(() => undefined)
  }

  /**
   * Exactly `lengthBytes` bytes at `offset`. Throws Fault 'corrupt' naming the page, or the chunk and its pack, that
   * is missing or damaged.
   */
  async read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    signal?.throwIfAborted()
    assert(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes)
    const { chunkBytes } = this.#map
    const target = Buffer.allocUnsafe(lengthBytes)
    const end = offset + lengthBytes
    const loads: Promise<void>[] = []
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / chunkBytes)
      const inChunk = at - index * chunkBytes
      const partBytes = Math.min(end - at, chunkBytes - inChunk)
      const part = target.subarray(at - offset, at - offset + partBytes)
      const ready = this.#findPage(index)
      const chunk = ready === undefined ? undefined : this.#findChunk(ready, index)
      if (chunk === 'zero') part.fill(0)
      else if (chunk !== undefined) chunk.copy(part, 0, inChunk, inChunk + partBytes)
      else loads.push(this.#load(index, inChunk, part))
      at += partBytes
    }
    // All of them, so that none still writes to the buffer, or fails unseen, after this one has failed.
    for (const result of await Promise.allSettled(loads))
      if (result.status === 'rejected') throw result.reason
    signal?.throwIfAborted()
    return target
  }

  /** What [offset, offset + lengthBytes) holds, rising, without gaps, neighbours merged. Faults as `read`. */
  async extents(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<MapExtent[]> {
    assert(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes)
    const { chunkBytes } = this.#map
    const end = offset + lengthBytes
    const found: { offset: number; lengthBytes: number; holds: 'data' | 'zero' }[] = []
    for (let at = offset; at < end; ) {
      signal?.throwIfAborted()
      const index = Math.floor(at / chunkBytes)
      const pageIndex = Math.floor(index / PAGE_IDS)
      const isZeroPage = this.#map.pages[pageIndex] === ZERO_PAGE
      const isZero = isZeroPage || isZeroId(await this.#page(index), (index % PAGE_IDS) * ID_BYTES)
      // A zero page is one step, however large.
      const nextIndex = isZeroPage ? (pageIndex + 1) * PAGE_IDS : index + 1
      const next = Math.min(end, nextIndex * chunkBytes)
      const holds = isZero ? 'zero' : 'data'
      const last = found.at(-1)
      if (last?.holds === holds) last.lengthBytes += next - at
      else found.push({ offset: at, lengthBytes: next - at, holds })
      at = next
    }
    return found
  }

  async close(): Promise<void> {
    this.#pages.fill(undefined)
  }

  #findPage(index: number): Buffer | undefined {
    const page = this.#pages[Math.floor(index / PAGE_IDS)]
    return Buffer.isBuffer(page) ? page : undefined
  }

  #findChunk(page: Buffer, index: number): Buffer | 'zero' | undefined {
    const position = index % PAGE_IDS
    if (isZeroId(page, position * ID_BYTES)) return 'zero'
    return this.#region.cache.find(chunkIdAt(page, position))
  }

  async #load(index: number, inChunk: number, part: Buffer): Promise<void> {
    const page = await this.#page(index)
    const position = index % PAGE_IDS
    if (isZeroId(page, position * ID_BYTES)) {
      part.fill(0)
      return
    }
    const id = page.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)
    const key = chunkIdAt(page, position)
    const chunk = await this.#region.cache.get(key, () => readChunk(this.#region, id, this.#sessionId))
    // The id fixes the bytes, so another length than the disk wants means that the map itself is wrong.
    if (chunk.length !== plainBytesOf(this.sizeBytes, this.#map.chunkBytes, index)) {
      throw new Fault('corrupt', `Chunk ${chunkIdAt(page, position)} does not fit its place in the map.`, {
        subject: 'store',
      })
    }
    chunk.copy(part, 0, inChunk, inChunk + part.length)
  }

  async #page(index: number): Promise<Buffer> {
    assert(index < chunkCountOf(this.sizeBytes, this.#map.chunkBytes))
    const pageIndex = Math.floor(index / PAGE_IDS)
    const known = this.#pages[pageIndex]
    if (known !== undefined) return known
    const pageId = this.#map.pages[pageIndex]
    assert(pageId !== undefined)
    const loading = readPage(this.#region.objects, pageId).then(
      (page) => {
        this.#pages[pageIndex] = page
        return page
      },
      (error: unknown) => {
        this.#pages[pageIndex] = undefined
        throw error
      },
    )
    this.#pages[pageIndex] = loading
    return loading
  }
}

/** Disk `diskIndex` of a committed image. Throws Fault 'absent' (subject 'image') or 'corrupt'. */
export async function openImageDisk(
  region: RegionStore,
  digest: Digest,
  diskIndex: number,
  signal?: AbortSignal,
): Promise<MapDisk> {
  const image = await region.getImage(digest, signal)
  const disk = image.disks[diskIndex]
  assert(disk !== undefined, 'the image has such a disk')
  return new MapDisk(region, disk)
}
