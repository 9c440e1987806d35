import { isFault } from '../image/fault.ts'
import type { Digest, PageId } from '../image/ids.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { COMMITTED, CONDEMNED, guard } from './database.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import type { ImageContent, ImageDisk } from './image.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import type { RegionStore } from './region.ts'
import { SEVERAL, UsageTable } from './usage-table.ts'

/** What an image takes. Of chunks, each distinct one counts once, with its stored length. */
export interface ImageUsage {
  readonly digest: Digest
  /** The sizes of all disks. */
  readonly logicalBytes: number
  /** Of those, what is not zero: plain bytes, counted as often as the maps name them. */
  readonly dataBytes: number
  readonly storedBytes: number
  /** Of the stored bytes, those of chunks that no other image of the region names. */
  readonly uniqueBytes: number
  readonly sharedBytes: number
}

export interface RegionUsage {
  /** Committed packs, whole. */
  readonly packBytes: number
  /** Distinct chunks that images name, stored, with their entries in the packs' footers. */
  readonly liveBytes: number
  /** The other chunks and second copies in committed packs. */
  readonly reclaimableBytes: number
  /** Objects that wait for the end of the grace. */
  readonly condemnedBytes: number
  readonly images: readonly ImageUsage[]
}

/** A pack's header and trailer, and what a chunk adds to its footer. Source: docs/format.md, "Pack". */
const PACK_OVERHEAD_BYTES = 88
const PACK_ENTRY_BYTES = 48
const ROWS_AT_ONCE = 2048
const SLOTS_AT_ONCE = 64 * 1024

/**
 * Who uses how much of the region, exact by chunk, for the images committed when it was asked. Needs no key. Reads each
 * page once, and again only for an image whose chunks also lie in other pages. Memory: about 112 MB for each TiB of
 * distinct data in chunks of 256 KiB. What is damaged counts nothing. Others on the thread get their turn.
 */
export async function usageOf(region: RegionStore, signal?: AbortSignal): Promise<RegionUsage> {
  const usage = new Usage(region, await countChunks(region, signal), signal)
  for (const digest of region.listImages()) await usage.addImage(digest)
  await usage.readPages()
  await usage.readSizes()
  return usage.report()
}

/** An image whose pages are numbers from 1 on; 0 is the zero page. */
interface CountedImage {
  readonly digest: Digest
  readonly disks: readonly { readonly disk: ImageDisk; readonly pages: Uint32Array }[]
}

/** What a page holds, whoever names it. */
interface PageFacts {
  readonly id: PageId
  owner: number
  dataCount: number
  lastPosition: number
  /** Stored bytes of the chunks that are in this page alone. */
  ownBytes: number
  /** Some of its chunks are in other pages as well. */
  isMixed: boolean
}

class Usage {
  readonly #region: RegionStore
  readonly #signal: AbortSignal | undefined
  readonly #table: UsageTable
  readonly #images: CountedImage[] = []
  readonly #pages: PageFacts[] = []
  readonly #pageNumbers = new Map<PageId, number>()

  constructor(region: RegionStore, chunkCount: number, signal: AbortSignal | undefined) {
    this.#region = region
    this.#signal = signal
    this.#table = new UsageTable(chunkCount)
  }

  async addImage(digest: Digest): Promise<void> {
    const content = await this.#tryRead(() => this.#region.getImage(digest, this.#signal))
    if (content === undefined) return
    const owner = this.#images.length + 1
    const disks = content.disks.map((disk) => ({
      disk,
      pages: Uint32Array.from(disk.pages, (page) => this.#pageNumber(page, owner)),
    }))
    this.#images.push({ digest, disks })
  }

  #pageNumber(id: PageId, owner: number): number {
    if (id === ZERO_PAGE) return 0
    const known = this.#pageNumbers.get(id)
    if (known !== undefined) {
      const page = this.#page(known)
      if (page.owner !== owner) page.owner = SEVERAL
      return known
    }
    this.#pages.push({ id, owner, dataCount: 0, lastPosition: -1, ownBytes: 0, isMixed: false })
    this.#pageNumbers.set(id, this.#pages.length)
    return this.#pages.length
  }

  #page(number: number): PageFacts {
    return this.#pages[number - 1] as PageFacts
  }

  async readPages(): Promise<void> {
    for (const [index, page] of this.#pages.entries()) {
      const number = index + 1
      await this.#eachId(page.id, (ids, at) => {
        page.dataCount++
        page.lastPosition = at / ID_BYTES
        const other = this.#table.add(ids, at, page.owner, number)
        if (other === undefined) return
        page.isMixed = true
        this.#page(other).isMixed = true
      })
    }
  }

  /** In the order of ids, so that it takes one pass over the index and not a lookup per chunk. */
  async readSizes(): Promise<void> {
    for await (const rows of chunkRows(this.#region, this.#signal)) {
      for (const { id, storedBytes } of rows) {
        if (storedBytes > 0)
          this.#table.setStored(Buffer.from(id.buffer, id.byteOffset, ID_BYTES), storedBytes)
      }
    }
  }

  async report(): Promise<RegionUsage> {
    const unique = new Float64Array(this.#images.length + 1)
    let storedBytes = 0
    let storedCount = 0
    for (let slot = 0; slot < this.#table.slotCount; slot += SLOTS_AT_ONCE) {
      this.#table.each(slot, slot + SLOTS_AT_ONCE, (owner, bytes, page) => {
        storedBytes += bytes
        if (bytes > 0) storedCount++
        if (owner !== SEVERAL) unique[owner] = (unique[owner] as number) + bytes
        if (page !== 0) this.#page(page).ownBytes += bytes
      })
      await this.#giveWay()
    }
    const images: ImageUsage[] = []
    for (const [index, image] of this.#images.entries()) {
      images.push(await this.#usageOf(image, index + 1, unique[index + 1] as number))
    }
    const { packBytes, packCount, condemnedBytes } = sumObjects(this.#region)
    const liveBytes = storedBytes + storedCount * PACK_ENTRY_BYTES
    // A pack may have come or gone since its chunks were counted.
    const reclaimableBytes = Math.max(0, packBytes - packCount * PACK_OVERHEAD_BYTES - liveBytes)
    return { packBytes, liveBytes, reclaimableBytes, condemnedBytes, images }
  }

  async #usageOf({ digest, disks }: CountedImage, number: number, uniqueBytes: number): Promise<ImageUsage> {
    let logicalBytes = 0
    let dataBytes = 0
    let storedBytes = 0
    const seen = new Set<number>()
    for (const { disk, pages } of disks) {
      logicalBytes += disk.sizeBytes
      for (const [pageIndex, pageNumber] of pages.entries()) {
        if (pageNumber === 0) continue
        const page = this.#page(pageNumber)
        dataBytes += dataBytesOf(page, disk, pageIndex)
        if (seen.has(pageNumber)) continue
        seen.add(pageNumber)
        storedBytes += page.ownBytes
        if (!page.isMixed) continue
        await this.#eachId(page.id, (ids, at) => {
          storedBytes += this.#table.countOnce(ids, at, this.#pages.length + number)
        })
      }
    }
    return {
      digest,
      logicalBytes,
      dataBytes,
      storedBytes,
      uniqueBytes,
      sharedBytes: storedBytes - uniqueBytes,
    }
  }

  async #eachId(id: PageId, see: (ids: Buffer, at: number) => void): Promise<void> {
    const ids = await this.#tryRead(() => readPage(this.#region.objects, id, this.#signal))
    if (ids !== undefined) {
      for (let at = 0; at < PAGE_IDS * ID_BYTES; at += ID_BYTES) if (!isZeroId(ids, at)) see(ids, at)
    }
    await this.#giveWay()
  }

  /** Undefined for what is damaged, or has been collected since the images were listed. */
  async #tryRead<Result extends ImageContent | Buffer>(
    read: () => Promise<Result>,
  ): Promise<Result | undefined> {
    try {
      return await read()
    } catch (error) {
      if (isFault(error, 'absent') || isFault(error, 'corrupt')) return undefined
      throw error
    }
  }

  #giveWay(): Promise<void> {
    return giveWay(this.#signal)
  }
}

async function giveWay(signal: AbortSignal | undefined): Promise<void> {
  await new Promise(setImmediate)
  signal?.throwIfAborted()
}

function dataBytesOf(page: PageFacts, { sizeBytes, chunkBytes }: ImageDisk, pageIndex: number): number {
  const last = chunkCountOf(sizeBytes, chunkBytes) - 1
  const isLast = page.lastPosition === last - pageIndex * PAGE_IDS
  const missing = isLast ? chunkBytes - plainBytesOf(sizeBytes, chunkBytes, last) : 0
  return page.dataCount * chunkBytes - missing
}

/** At least as many as there are distinct chunks. Ids are spread evenly, so that each count is as short as the others. */
async function countChunks(region: RegionStore, signal: AbortSignal | undefined): Promise<number> {
  const select = region.database.prepare('SELECT count(*) AS count FROM chunk WHERE id >= ? AND id < ?')
  let count = 0
  for (let first = 0; first < 256; first++) {
    const upTo = first === 255 ? new Uint8Array(ID_BYTES + 1).fill(255) : Uint8Array.of(first + 1)
    count += guard(() => select.get(Uint8Array.of(first), upTo))?.count as number
    await giveWay(signal)
  }
  return count
}

interface ChunkRow {
  readonly id: Uint8Array
  readonly object: number
  /** 0: the pack is not committed. */
  readonly storedBytes: number
}

/** Chunks by rising id, some at a time; where there are several copies, the one that readers take comes first. */
async function* chunkRows(
  region: RegionStore,
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly ChunkRow[]> {
  const select = region.database.prepare(
    `SELECT c.id, c.object, CASE o.state WHEN ${COMMITTED} THEN c.storedBytes ELSE 0 END AS storedBytes
     FROM chunk c LEFT JOIN object o ON o.number = c.object
     WHERE (c.id, c.object) > (?, ?) ORDER BY c.id, c.object LIMIT ${ROWS_AT_ONCE}`,
  )
  let last: ChunkRow | undefined
  for (;;) {
    const { id, object } = last ?? { id: new Uint8Array(0), object: 0 }
    const rows = guard(() => select.all(id, object)) as unknown as ChunkRow[]
    yield rows
    if (rows.length < ROWS_AT_ONCE) return
    last = rows.at(-1)
    await giveWay(signal)
  }
}

function sumObjects(region: RegionStore) {
  const row = guard(() =>
    region.database
      .prepare(
        `SELECT coalesce(sum(sizeBytes) FILTER (WHERE state = ${COMMITTED} AND name GLOB 'packs/*'), 0) AS packBytes,
           count(*) FILTER (WHERE state = ${COMMITTED} AND name GLOB 'packs/*') AS packCount,
           coalesce(sum(sizeBytes) FILTER (WHERE state = ${CONDEMNED}), 0) AS condemnedBytes FROM object`,
      )
      .get(),
  )
  return row as unknown as { packBytes: number; packCount: number; condemnedBytes: number }
}
