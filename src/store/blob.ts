import assert from 'node:assert/strict'
import type { DomainId, PageId } from '../image/ids.ts'
import { dataBytesOf } from './baseline.ts'
import { bindChunks, bindObject, putContent, type WrittenObject } from './capture.ts'

import { ChunkWriter } from './chunk-writer.ts'
import { newClaims } from './claims.ts'

import type { ImageContent, ImageDisk } from './image.ts'
import { cutPages, type DiskMap, PAGE_BYTES, PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { pageName } from './names.ts'
import { MapDisk } from './reader.ts'
import type { RefInput } from './refs.ts'
import type { RegionStore } from './region.ts'

/** What a page of ids is of. */
const pageBytesOf = (chunkBytes: number) => PAGE_IDS * chunkBytes
/** Chunks that one sink knows to have written itself: what is forgotten is stored twice at worst. */
const CLAIM_COUNT = 64 * 1024

export interface BlobOptions {
  readonly region: RegionStore
  readonly sessionId: string
  readonly domain: DomainId
  readonly chunkBytes: number
  /** What was there at the last checkpoint. */
  readonly map?: DiskMap | undefined
  readonly signal?: AbortSignal
}

/**
 * Takes any bytes into chunks of a session, one after the other, for days and over crashes: what a checkpoint answered is
 * durable, and whoever has it goes on behind it. Nobody but the session sees any of it until the session is committed.
 */
export class BlobSink {
  readonly #options: BlobOptions
  readonly #writer: ChunkWriter
  /** Of whole pages, and before a checkpoint of none that is not durable. */
  readonly #pages: PageId[]
  /** Ids of what is not in `#pages`, a page each. */
  #ids: Uint8Array[]
  readonly #chunk: Buffer
  #chunkIndex: number
  #chunkFill = 0

  private constructor(options: BlobOptions, writer: ChunkWriter) {
    const { chunkBytes, map } = options
    this.#options = options
    this.#writer = writer
    this.#chunk = Buffer.allocUnsafeSlow(chunkBytes)
    this.#pages = (map?.pages ?? []).slice(0, Math.floor((map?.sizeBytes ?? 0) / pageBytesOf(chunkBytes)))
    this.#ids = []
    this.#chunkIndex = Math.floor((map?.sizeBytes ?? 0) / chunkBytes)
  }

  /** Opens the session where it is not. Fault 'corrupt' where what was there at the checkpoint is gone. */
  static async open(options: BlobOptions): Promise<BlobSink> {
    const { region, sessionId, domain, chunkBytes, map, signal } = options
    assert(map === undefined || map.chunkBytes === chunkBytes)
    await region.openSession(sessionId, domain, signal)
    const claims = newClaims(CLAIM_COUNT)
    const writer = await ChunkWriter.open({
      ...{ region, sessionId, domain, chunkBytes, claims },
      ...(signal === undefined ? {} : { signal }),
    })
    const sink = new BlobSink(options, writer)
    if (map !== undefined) await sink.#takeUp(map)
    return sink
  }

  /** How much is there, durable or not. */
  get sizeBytes(): number {
    return this.#chunkIndex * this.#options.chunkBytes + this.#chunkFill
  }

  /** What this sink took in that is not zero, by whole chunks. */
  get dataBytes(): number {
    const { fedBytes, zeroBytes } = this.#writer.counts
    return fedBytes - zeroBytes + this.#chunkFill
  }

  async write(bytes: Uint8Array): Promise<void> {
    const { chunkBytes } = this.#options
    for (let at = 0; at < bytes.length; ) {
      const taken = Math.min(chunkBytes - this.#chunkFill, bytes.length - at)
      this.#chunk.set(bytes.subarray(at, at + taken), this.#chunkFill)
      this.#chunkFill += taken
      at += taken
      if (this.#chunkFill < chunkBytes) continue
      await this.#feed(this.#chunk)
      this.#chunkIndex++
      this.#chunkFill = 0
      // Packs are made durable only where the event loop turns.
      await new Promise(setImmediate)
    }
  }

  /** What is written so far, durable: the chunks, then the pages that name them (I1). */
  async checkpoint(): Promise<DiskMap> {
    const { chunkBytes, signal } = this.#options
    const { sizeBytes } = this
    // A short chunk of its own; when more comes, the whole one takes its place.
    if (this.#chunkFill > 0) await this.#feed(this.#chunk.subarray(0, this.#chunkFill))
    await this.#writer.finish()
    const pages = [...this.#pages]
    for (const ids of this.#ids) {
      signal?.throwIfAborted()
      pages.push(await this.#writePage(ids))
    }
    const wholeCount = Math.floor(sizeBytes / pageBytesOf(chunkBytes))
    this.#ids = this.#ids.slice(wholeCount - this.#pages.length)
    this.#pages.push(...pages.slice(this.#pages.length, wholeCount))
    return { sizeBytes, chunkBytes, pages }
  }

  /** After a failure or a cancel: when it resolves nothing more is written. */
  async abandon(): Promise<void> {
    await this.#writer.abandon()
  }

  async #takeUp(map: DiskMap): Promise<void> {
    const { region, sessionId, chunkBytes, signal } = this.#options
    for (const id of map.pages.slice(this.#pages.length)) {
      this.#ids.push(new Uint8Array(await readPage(region.objects, id, signal)))
    }
    const tailBytes = map.sizeBytes % chunkBytes
    if (tailBytes === 0) return
    const disk = new MapDisk(region, map, sessionId)
    this.#chunk.set(await disk.read(map.sizeBytes - tailBytes, tailBytes, signal))
    this.#chunkFill = tailBytes
  }

  #feed(plain: Uint8Array): Promise<void> | undefined {
    const page = Math.floor(this.#chunkIndex / PAGE_IDS) - this.#pages.length
    while (this.#ids.length <= page) this.#ids.push(new Uint8Array(PAGE_BYTES))
    return this.#writer.feed(this.#ids[page] as Uint8Array, this.#chunkIndex % PAGE_IDS, plain)
  }

  async #writePage(ids: Uint8Array): Promise<PageId> {
    const { region, sessionId, signal } = this.#options
    const [page] = cutPages(ids)
    assert(page !== undefined)
    if (page.bytes !== undefined && region.holdsOf(sessionId).findObject(pageName(page.id)) === undefined) {
      await region.putObject(sessionId, pageName(page.id), page.bytes, signal)
    }
    return page.id
  }
}

/** Bytes of a blob's chunks that are not zero. */
export async function blobDataBytes(
  region: RegionStore,
  map: DiskMap,
  signal?: AbortSignal,
): Promise<number> {
  let bytes = 0
  for (const [i, id] of map.pages.entries()) {
    const sizeBytes = Math.min(pageBytesOf(map.chunkBytes), map.sizeBytes - i * pageBytesOf(map.chunkBytes))
    if (id === ZERO_PAGE) continue
    const ids = await readPage(region.objects, id, signal)
    bytes += dataBytesOf({ sizeBytes, chunkBytes: map.chunkBytes, ids })
  }
  return bytes
}

/**
 * Makes an image of one disk out of a blob of the session: no byte is moved, its map is the disk's. Commits the session.
 * May run again, also after it was committed. To be undone with `abortSession` after a failure.
 */
export async function commitBlob(
  region: RegionStore,
  sessionId: string,
  map: DiskMap,
  image: Omit<ImageContent, 'version' | 'disks' | 'report'> & { readonly bus: ImageDisk['bus'] },
  ref: RefInput,
  signal?: AbortSignal,
): Promise<WrittenObject> {
  const { bus, ...facts } = image
  await region.openSession(sessionId, image.domain, signal)
  const holds = region.holdsOf(sessionId)
  const bound = new Set<number>()
  for (const [i, id] of map.pages.entries()) {
    if (id === ZERO_PAGE) continue
    const page = await readPage(region.objects, id, signal)
    bindObject(holds, pageName(id), bound)
    bindChunks(holds, page, i * pageBytesOf(map.chunkBytes), bound)
    await new Promise(setImmediate)
  }
  const { sizeBytes, chunkBytes, pages } = map
  const disks: ImageDisk[] = [{ index: 0, bus, sizeBytes, chunkBytes, pages }]
  const content: ImageContent = { version: 2, ...facts, disks, report: null }
  const written = await putContent(region, sessionId, content, bound, signal)
  const row = await region.putRef(sessionId, { ...ref, digests: [written.digest] }, signal)
  signal?.throwIfAborted()
  region.commitSession(sessionId, [row])
  return written
}
