import assert from 'node:assert/strict'
import { Fault } from '../image/fault.ts'
import type { Digest, PageId } from '../image/ids.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { ChunkReader, type WantedId } from './chunk-reader.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import { inOrder } from './in-order.ts'
import { type DiskMap, PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import type { RegionStore } from './region.ts'
import { chunkIdAt } from './source.ts'

/** A run of the mapped disk, by whole chunks cut to what was asked for. */
export interface MapExtent {
  readonly offset: number
  readonly lengthBytes: number
  readonly holds: 'data' | 'zero'
}

/** A run of the disk's bytes, shared and never to be written to, or undefined for zeroes. */
export interface MapPiece {
  readonly lengthBytes: number
  readonly bytes: Uint8Array | undefined
}

/** Chunks in a row that are expected at most when a disk is read in order: 4 MiB of the usual ones. */
const AHEAD_CHUNKS_MAX = 16
/** Pages that are read at once where many are wanted. */
const PAGES_AHEAD = 8

/**
 * A disk map as a disk to read. Pages are read when they are first needed; chunks are checked whenever they are
 * decoded, kept in the cache of `chunks`, and read ahead when the disk is read in order. Usable in any thread.
 */
export class MapDisk {
  readonly sizeBytes: number
  readonly #region: RegionStore
  readonly #map: DiskMap
  readonly #chunks: ChunkReader
  /** The page that was looked at last: mostly it is the next one as well. */
  #page: Buffer | undefined
  #pageIndex = -1
  /** The chunk that a reader in order comes to next, how many it has come through, and where our expectations end. */
  #nextIndex = -1
  #inOrderCount = 0
  #aheadIndex = 0

  constructor(
    region: RegionStore,
    map: DiskMap,
    sessionId = '',
    chunks = new ChunkReader(region, sessionId),
  ) {
    this.#region = region
    this.#map = map
    this.#chunks = chunks
    this.sizeBytes = map.sizeBytes
  }

  /**
   * Exactly `lengthBytes` bytes at `offset`. Throws Fault 'corrupt' naming the page, or the chunk and its pack, that
   * is missing or damaged.
   */
  async read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const pieces = await this.pieces(offset, lengthBytes, signal)
    const target = Buffer.allocUnsafe(lengthBytes)
    let at = 0
    for (const { bytes, lengthBytes } of pieces) {
      if (bytes === undefined) target.fill(0, at, at + lengthBytes)
      else target.set(bytes, at)
      at += lengthBytes
    }
    return target
  }

  /** The same bytes without a copy; without a promise where page and chunks are in memory. Faults as `read`. */
  pieces(offset: number, lengthBytes: number, signal?: AbortSignal): MapPiece[] | Promise<MapPiece[]> {
    signal?.throwIfAborted()
    assert(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes)
    const { chunkBytes } = this.#map
    const first = Math.floor(offset / chunkBytes)
    const end = Math.ceil((offset + lengthBytes) / chunkBytes)
    const contents: (Buffer | undefined)[] = []
    for (let index = first; index < end; index++) {
      const page = this.#findPage(index)
      const content = page === undefined ? undefined : this.#findChunk(page, index)
      if (content === undefined) return this.#loadPieces(offset, lengthBytes, signal)
      contents.push(content === 'zero' ? undefined : content)
    }
    this.#lookAhead(first, end)
    return this.#cut(offset, lengthBytes, contents)
  }

  /** What [offset, offset + lengthBytes) holds, rising, without gaps, neighbours merged. Faults as `read`. */
  async extents(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<MapExtent[]> {
    assert(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes)
    const { chunkBytes } = this.#map
    const end = offset + lengthBytes
    const found: { offset: number; lengthBytes: number; holds: 'data' | 'zero' }[] = []
    const add = (from: number, to: number, holds: 'data' | 'zero') => {
      const last = found.at(-1)
      if (last?.holds === holds) last.lengthBytes += to - from
      else found.push({ offset: from, lengthBytes: to - from, holds })
    }
    const pageBytes = PAGE_IDS * chunkBytes
    const first = Math.floor(offset / pageBytes)
    const pages = Array.from({ length: Math.ceil(end / pageBytes) - first }, (_, i) => first + i)
    const load = (pageIndex: number): Promise<Buffer> | undefined =>
      this.#pageIdAt(pageIndex) === ZERO_PAGE ? undefined : this.#loadPage(pageIndex)
    for await (const [pageIndex, page] of inOrder(pages, PAGES_AHEAD, async (one) => load(one))) {
      signal?.throwIfAborted()
      const pageOffset = pageIndex * pageBytes
      const from = Math.max(offset, pageOffset)
      const to = Math.min(end, pageOffset + pageBytes)
      if (page === undefined) {
        add(from, to, 'zero')
        continue
      }
      const isZero = zeroTest(page)
      for (let at = from; at < to; ) {
        const position = Math.floor((at - pageOffset) / chunkBytes)
        const next = Math.min(to, pageOffset + (position + 1) * chunkBytes)
        add(at, next, isZero(position) ? 'zero' : 'data')
        at = next
      }
    }
    return found
  }

  async close(): Promise<void> {
    this.#page = undefined
  }

  #findPage(index: number): Buffer | undefined {
    const pageIndex = Math.floor(index / PAGE_IDS)
    if (this.#page === undefined || this.#pageIndex !== pageIndex) {
      this.#page = this.#region.pages.find(this.#pageIdAt(pageIndex))
      this.#pageIndex = pageIndex
    }
    return this.#page
  }

  #pageIdAt(pageIndex: number): PageId {
    const id = this.#map.pages[pageIndex]
    assert(id !== undefined, 'the disk has such a page')
    return id
  }

  #findChunk(page: Buffer, index: number): Buffer | 'zero' | undefined {
    const position = index % PAGE_IDS
    if (isZeroId(page, position * ID_BYTES)) return 'zero'
    return this.#chunks.find(chunkIdAt(page, position))
  }

  async #loadPieces(
    offset: number,
    lengthBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<MapPiece[]> {
    const { chunkBytes } = this.#map
    const first = Math.floor(offset / chunkBytes)
    const end = Math.ceil((offset + lengthBytes) / chunkBytes)
    const wanted: (WantedId | undefined)[] = []
    for (let index = first; index < end; index++) {
      wanted.push(
        wantedAt(this.#findPage(index) ?? (await this.#loadPage(Math.floor(index / PAGE_IDS))), index),
      )
    }
    // Several are read together; and those behind them in the disk begin their way before we wait for these.
    if (wanted.length > 1) this.#chunks.expect(wanted.filter((each) => each !== undefined))
    const loads = wanted.map((each) => (each === undefined ? undefined : this.#chunks.get(each)))
    this.#lookAhead(first, end)
    // All of them, so that none fails unseen after this one has failed.
    const contents: (Buffer | undefined)[] = []
    for (const result of await Promise.allSettled(loads)) {
      if (result.status === 'rejected') throw result.reason
      contents.push(result.value)
    }
    signal?.throwIfAborted()
    return this.#cut(offset, lengthBytes, contents)
  }

  /** What was asked for of the chunks that hold it; undefined among `contents` is a chunk of zeroes. */
  #cut(offset: number, lengthBytes: number, contents: readonly (Buffer | undefined)[]): MapPiece[] {
    const { chunkBytes } = this.#map
    const end = offset + lengthBytes
    const pieces: MapPiece[] = []
    let index = Math.floor(offset / chunkBytes)
    for (const content of contents) {
      const chunkAt = index * chunkBytes
      // The id fixes the bytes, so another length than the disk wants means that the map itself is wrong.
      if (content !== undefined && content.length !== plainBytesOf(this.sizeBytes, chunkBytes, index)) {
        throw new Fault(
          'corrupt',
          `The chunk at byte ${chunkAt} of the disk does not fit its place in the map.`,
          {
            subject: 'store',
          },
        )
      }
      const from = Math.max(0, offset - chunkAt)
      const to = Math.min(chunkBytes, end - chunkAt)
      pieces.push({ lengthBytes: to - from, bytes: content?.subarray(from, to) })
      index++
    }
    return pieces
  }

  /**
   * Chunks [first, end) are being read. A reader that came through two in a row gets the next two before it asks, then
   * four, up to `AHEAD_CHUNKS_MAX`; expectations are renewed when half of them are used up.
   */
  #lookAhead(first: number, end: number): void {
    if (end <= this.#nextIndex && first >= this.#nextIndex - 1) return
    if (first > this.#nextIndex || end < this.#nextIndex) {
      this.#inOrderCount = 0
      this.#aheadIndex = end
    } else this.#inOrderCount += end - this.#nextIndex
    this.#nextIndex = end
    if (this.#inOrderCount === 0) return
    const count = Math.min(AHEAD_CHUNKS_MAX, 2 * this.#inOrderCount)
    if (this.#aheadIndex - end > count / 2) return
    const wanted: WantedId[] = []
    const last = Math.min(end + count, chunkCountOf(this.sizeBytes, this.#map.chunkBytes))
    let index = Math.max(end, this.#aheadIndex)
    for (; index < last; index++) {
      const page = this.#findPage(index)
      // It comes with the first chunk that is asked for.
      if (page === undefined) break
      const each = wantedAt(page, index)
      if (each !== undefined) wanted.push(each)
    }
    this.#aheadIndex = index
    if (wanted.length > 0) this.#chunks.expect(wanted)
  }

  #loadPage(pageIndex: number): Promise<Buffer> {
    const id = this.#pageIdAt(pageIndex)
    return this.#region.pages.get(id, () => readPage(this.#region.objects, id))
  }
}

/** Whether the id at a position of the page is that of zeroes, a word at a time: a large map has many of them. */
function zeroTest(page: Buffer): (position: number) => boolean {
  const { buffer, byteOffset, length } = page.byteOffset % 4 === 0 ? page : Buffer.from(page)
  const words = new Uint32Array(buffer, byteOffset, length / 4)
  return (position) => {
    const first = position * (ID_BYTES / 4)
    for (let i = first; i < first + ID_BYTES / 4; i++) if (words[i] !== 0) return false
    return true
  }
}

/** The chunk at `index` of the disk, whose page this is; undefined for zeroes. */
function wantedAt(page: Buffer, index: number): WantedId | undefined {
  const position = index % PAGE_IDS
  if (isZeroId(page, position * ID_BYTES)) return undefined
  const id = page.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)
  return { id, key: chunkIdAt(page, position) }
}

/** Disk `diskIndex` of a committed image. Throws Fault 'absent' (subject 'image') or 'corrupt'. */
export async function openImageDisk(
  region: RegionStore,
  digest: Digest,
  diskIndex: number,
  options: { readonly chunks?: ChunkReader; readonly signal?: AbortSignal } = {},
): Promise<MapDisk> {
  const image = await region.getImage(digest, options.signal)
  const disk = image.disks[diskIndex]
  assert(disk !== undefined, 'the image has such a disk')
  return new MapDisk(region, disk, '', options.chunks)
}
