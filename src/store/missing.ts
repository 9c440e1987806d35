import { Fault } from '../image/fault.ts'
import type { PageId } from '../image/ids.ts'
import { CHUNK_BYTES_MAX } from './chunk.ts'
import { ClaimTable, newClaims } from './claims.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import type { ImageContent } from './image.ts'
import { inOrder } from './in-order.ts'
import { PAGE_BYTES, PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { pageName } from './names.ts'
import type { RegionStore } from './region.ts'
import { type ChunkTable, chunkIdAt, type ReadOnlyRegion } from './source.ts'

/** Pages looked at together: up to 65 536 chunks, so that memory does not grow with the image. */
const BATCH_PAGES = 32

/** A part of an image, compared with what the target holds. */
export interface Batch {
  /** Ids of the chunks that the target lacks, once each, and where the source has them. */
  readonly missingIds: Buffer
  readonly missing: ChunkTable
  /** Stored bytes of chunks that the target has for everybody. */
  readonly reusedBytes: number
  /** Stored bytes of chunks that the session has written before. */
  readonly resumedBytes: number
  /** Numbers of the objects in which chunks were found; with a session it holds them. */
  readonly foundIn: ReadonlySet<number>
  /** Of the target's index, before it was compared: `IndexDatabase.foreignVersion`. */
  readonly foreignVersion: number
}

/** What is kept of fetched pages: the maps of half a TiB. Of larger images the rest is fetched again when it is written. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024

/** The pages of an image, of which those that the target lacks are fetched and kept until the copy has written them. */
export class ImagePages {
  readonly #missing = new Set<PageId>()
  readonly #kept = new Map<PageId, Buffer>()
  readonly #resumed = new Set<PageId>()
  readonly #source: ReadOnlyRegion
  readonly #target: RegionStore
  readonly #sessionId: string | undefined
  /** Bytes read from the source. */
  movedBytes = 0

  /** With an open session everything that is found in the target is pinned for it; without, this only looks. */
  constructor(source: ReadOnlyRegion, target: RegionStore, sessionId: string | undefined) {
    this.#source = source
    this.#target = target
    this.#sessionId = sessionId
  }

  /** Pages that the target lacks, as far as they were asked for. */
  get missing(): ReadonlySet<PageId> {
    return this.#missing
  }

  /** Bytes of pages that the session has written before. */
  get resumedBytes(): number {
    return this.#resumed.size * PAGE_BYTES
  }

  async get(id: PageId, signal?: AbortSignal): Promise<Buffer> {
    const kept = this.#kept.get(id)
    if (kept !== undefined) return kept
    if (!this.#missing.has(id) && this.#isHere(id)) return readPage(this.#target.objects, id, signal)
    const page = await readPage(this.#source.objects, id, signal)
    this.movedBytes += page.length
    this.#missing.add(id)
    // Who only looks needs none of them twice.
    if (this.#sessionId !== undefined && this.#kept.size * PAGE_BYTES < KEPT_BYTES_MAX)
      this.#kept.set(id, page)
    return page
  }

  /** The page is written: it is kept no longer. */
  release(id: PageId): void {
    this.#kept.delete(id)
  }

  #isHere(id: PageId): boolean {
    const name = pageName(id)
    if (this.#sessionId === undefined) return this.#target.journal.isCommitted(name)
    if (this.#target.holdsOf(this.#sessionId).findObject(name) === undefined) return false
    if (this.#target.journal.findObject(name, this.#sessionId)?.isCommitted === false) this.#resumed.add(id)
    return true
  }
}

/**
 * Compares an image with what the target holds, batch by batch, in disk order; with an open session what is found is
 * pinned for it. Throws Fault 'corrupt' if the source does not have a chunk that its image names.
 */
export async function* compareImage(
  image: ImageContent,
  pages: ImagePages,
  source: ReadOnlyRegion,
  target: RegionStore,
  sessionId: string | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Batch> {
  const wanted = [...new Set(image.disks.flatMap((disk) => disk.pages))].filter((id) => id !== ZERO_PAGE)
  const seen = new ClaimTable(newClaims(wanted.length * PAGE_IDS))
  const fetched = inOrder(wanted, source.objects.traits.callsMax, (id) => pages.get(id, signal))
  let batch: Buffer[] = []
  for await (const [, page] of fetched) {
    batch.push(page)
    if (batch.length < BATCH_PAGES) continue
    yield await compareBatch(batch, seen, source, target, sessionId, signal)
    batch = []
  }
  if (batch.length > 0) yield await compareBatch(batch, seen, source, target, sessionId, signal)
}

async function compareBatch(
  pages: readonly Buffer[],
  seen: ClaimTable,
  source: ReadOnlyRegion,
  target: RegionStore,
  sessionId: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Batch> {
  const find = (ids: readonly Uint8Array[]) =>
    sessionId === undefined ? target.places.findHolders(ids, '') : target.holdsOf(sessionId).findChunks(ids)
  const { foreignVersion } = target.database
  const missingIds: Buffer[] = []
  let reusedBytes = 0
  let resumedBytes = 0
  const foundIn = new Set<number>()
  for (const page of pages) {
    const ids = idsOf(page).filter((id) => seen.claim(id))
    for (const [i, place] of find(ids).entries()) {
      if (place === undefined) {
        missingIds.push(ids[i] as Buffer)
        continue
      }
      foundIn.add(place.number)
      if (place.isCommitted) reusedBytes += place.storedBytes
      else resumedBytes += place.storedBytes
    }
    // A page takes milliseconds to look up; others on this thread get their turn between two.
    await new Promise(setImmediate)
    signal?.throwIfAborted()
  }
  const ids = Buffer.concat(missingIds)
  const missing = await locateAll(source, ids, signal)
  return { missingIds: ids, missing, reusedBytes, resumedBytes, foundIn, foreignVersion }
}

/** Of its chunks that are not all zeroes, as views. */
function idsOf(page: Buffer): Buffer[] {
  const ids: Buffer[] = []
  for (let at = 0; at < page.length; at += ID_BYTES) {
    if (!isZeroId(page, at)) ids.push(page.subarray(at, at + ID_BYTES))
  }
  return ids
}

/** Where the source has chunks. Throws Fault 'corrupt' if it does not have one of them. */
export async function locateAll(
  source: ReadOnlyRegion,
  ids: Buffer,
  signal: AbortSignal | undefined,
): Promise<ChunkTable> {
  const table = await source.locate(ids, signal)
  checkTable(table, ids)
  return table
}

/** The source may be another process or an older version: its answer is distrusted before it sizes our reads. */
function checkTable(table: ChunkTable, ids: Buffer): void {
  for (let i = 0; i < ids.length / ID_BYTES; i++) {
    const isKnown = table.packs[table.packIndex[i] ?? -1] !== undefined
    const storedBytes = table.storedBytes[i] ?? 0
    const plainBytes = table.plainBytes[i] ?? 0
    const isSound = storedBytes > 0 && storedBytes <= CHUNK_BYTES_MAX + 1024 && plainBytes <= CHUNK_BYTES_MAX
    if (isKnown && isSound) continue
    throw new Fault('corrupt', `The source region has no chunk ${chunkIdAt(ids, i)} that its image names.`, {
      subject: 'store',
    })
  }
}
