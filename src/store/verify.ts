import { createHash } from 'node:crypto'
import { Fault, isFault } from '../image/fault.ts'
import type { ChunkId, Digest, PackId, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import type { ImageContent, ImageDisk } from './image.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { hashOfName } from './names.ts'
import { parsePackContent } from './pack.ts'
import { checkStored, readChunk, readChunkAt } from './read-chunk.ts'
import type { RegionStore } from './region.ts'
import { checkSignature, readSignature } from './signature.ts'
import { chunkIdAt } from './source.ts'

/** Something that is wrong, as exactly as it is known. `offset` is a byte of the disk. */
export interface Problem {
  readonly message: string
  readonly pack?: PackId
  readonly chunk?: ChunkId
  readonly page?: PageId
  readonly image?: Digest
  readonly diskIndex?: number
  readonly offset?: number
}

export interface VerifyReport {
  readonly imageCount: number
  readonly packCount: number
  /** Chunks looked at in packs; decoded ones if the check was deep. */
  readonly chunkCount: number
  /** Sizes of all disks of all images. */
  readonly logicalBytes: number
  /** Plain bytes of all chunks that the images name, counted as often as they are named. */
  readonly dataBytes: number
  /** Bytes of all packs. */
  readonly storedBytes: number
  readonly problems: readonly Problem[]
  /** Problems beyond the first thousand are only counted. */
  readonly problemCount: number
}

export interface VerifyOptions {
  readonly region: RegionStore
  /** Decrypts and decodes every chunk of every pack and recomputes its id. Only this needs the region's key. */
  readonly deep: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void
}

const PROBLEMS_MAX = 1000

/** A page that was read and found right: its chunks that are not zero, the last of them, and what is wrong. */
interface CheckedPage {
  readonly dataCount: number
  readonly lastPosition: number
  readonly bad: ReadonlyMap<number, Problem>
}

/**
 * Checks the committed part of a region whole: every pack against its name and its footer, every image down to each
 * chunk (I1). Writes nothing. Fault 'denied' for a deep check without the region's key. Hashing is done on the calling
 * thread: run it in one that may be busy.
 */
export async function verifyRegion(options: VerifyOptions): Promise<VerifyReport> {
  const verify = new Verify(options)
  await verify.packs()
  await verify.images()
  return verify.report()
}

class Verify {
  readonly #region: RegionStore
  readonly #options: VerifyOptions
  readonly #problems: Problem[] = []
  #problemCount = 0
  #packCount = 0
  #chunkCount = 0
  #imageCount = 0
  #logicalBytes = 0
  #dataBytes = 0
  #storedBytes = 0
  readonly #soundPacks = new Set<PackId>()
  /** Images share pages, and each page is looked at once. */
  readonly #pages = new Map<PageId, CheckedPage | Problem>()

  constructor(options: VerifyOptions) {
    this.#region = options.region
    this.#options = options
  }

  report(): VerifyReport {
    return {
      imageCount: this.#imageCount,
      packCount: this.#packCount,
      chunkCount: this.#chunkCount,
      logicalBytes: this.#logicalBytes,
      dataBytes: this.#dataBytes,
      storedBytes: this.#storedBytes,
      problems: this.#problems,
      problemCount: this.#problemCount,
    }
  }

  #add(problem: Problem): void {
    this.#problemCount++
    if (this.#problems.length < PROBLEMS_MAX) this.#problems.push(problem)
  }

  async packs(): Promise<void> {
    const packs = this.#region.journal.listCommitted('packs/')
    const totalBytes = packs.reduce((sum, pack) => sum + pack.sizeBytes, 0)
    let doneBytes = 0
    for (const { name, sizeBytes } of packs) {
      this.#options.signal?.throwIfAborted()
      this.#packCount++
      this.#storedBytes += sizeBytes
      await this.#pack(name)
      doneBytes += sizeBytes
      this.#options.onProgress?.({ doneBytes, totalBytes })
    }
  }

  async #pack(name: ObjectName): Promise<void> {
    const { region, deep, signal } = this.#options
    const pack = hashOfName(name) as PackId
    try {
      const sizeBytes = await region.objects.size(name, signal)
      if (sizeBytes === undefined)
        throw new Fault('corrupt', `Pack ${pack} is missing.`, { subject: 'store' })
      // A pack is small enough to be read at once: 32 MiB, and one chunk and its footer at most beyond.
      const bytes = await region.objects.get(name, 0, sizeBytes, signal)
      if ((await hashInParts(bytes)) !== pack) {
        throw new Fault('corrupt', `Pack ${pack} is damaged: its bytes do not have its name.`, {
          subject: 'store',
        })
      }
      const { domain, entries } = parsePackContent(pack, bytes)
      this.#chunkCount += entries.length
      let isSound = true
      for (const entry of entries) {
        if (
          !region.places.find(entry.id).some((place) => place.pack === pack && place.offset === entry.offset)
        ) {
          isSound = false
          const chunk = entry.id.toString('hex') as ChunkId
          this.#add({
            message: `The index does not know chunk ${chunk} of pack ${pack}. Rebuild it.`,
            pack,
            chunk,
          })
        }
        if (!deep) continue
        const objects = {
          get: async (_: ObjectName, from: number, length: number) => bytes.subarray(from, from + length),
        }
        const place = { ...entry, pack, domain }
        await readChunkAt(objects, (one) => region.getDomain(one), place, entry.id).catch((error) => {
          isSound = false
          this.#add({ message: messageOf(error), pack, chunk: entry.id.toString('hex') as ChunkId })
        })
      }
      if (isSound) this.#soundPacks.add(pack)
    } catch (error) {
      this.#add({ message: messageOf(error), pack })
    }
  }

  async images(): Promise<void> {
    for (const digest of this.#region.listImages()) {
      this.#options.signal?.throwIfAborted()
      this.#imageCount++
      try {
        const image = await this.#region.getImage(digest, this.#options.signal)
        await this.#signature(digest, image)
        for (const disk of image.disks) await this.#disk(digest, disk)
      } catch (error) {
        this.#add({ message: messageOf(error), image: digest })
      }
    }
  }

  async #signature(digest: Digest, image: ImageContent): Promise<void> {
    const { region, deep, signal } = this.#options
    try {
      const bytes = await readSignature(region.objects, digest, signal)
      if (deep) checkSignature(await region.getDomain(image.domain), image, bytes)
    } catch (error) {
      this.#add({ message: messageOf(error), image: digest })
    }
  }

  async #disk(image: Digest, disk: ImageDisk): Promise<void> {
    this.#logicalBytes += disk.sizeBytes
    for (const [pageIndex, page] of disk.pages.entries()) {
      if (page === ZERO_PAGE) continue
      const first = pageIndex * PAGE_IDS
      const where = { image, diskIndex: disk.index, page }
      let found = this.#pages.get(page)
      if (found === undefined) {
        found = await this.#page(page)
        this.#pages.set(page, found)
      }
      if ('message' in found) {
        this.#add({ ...found, ...where, offset: first * disk.chunkBytes })
        continue
      }
      this.#dataBytes += found.dataCount * disk.chunkBytes
      const last = chunkCountOf(disk.sizeBytes, disk.chunkBytes) - 1
      if (first + found.lastPosition === last) {
        this.#dataBytes -= disk.chunkBytes - plainBytesOf(disk.sizeBytes, disk.chunkBytes, last)
      }
      for (const [position, problem] of found.bad) {
        this.#add({ ...problem, ...where, offset: (first + position) * disk.chunkBytes })
      }
    }
  }

  async #page(id: PageId): Promise<CheckedPage | Problem> {
    const { region, signal } = this.#options
    let page: Buffer
    try {
      page = await readPage(region.objects, id, signal)
    } catch (error) {
      return { message: messageOf(error), page: id }
    }
    const bad = new Map<number, Problem>()
    let dataCount = 0
    let lastPosition = -1
    for (let position = 0; position < PAGE_IDS; position++) {
      if (isZeroId(page, position * ID_BYTES)) continue
      dataCount++
      lastPosition = position
      const chunkId = page.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)
      const places = region.places.find(chunkId)
      if (places.some((place) => this.#soundPacks.has(place.pack))) continue
      // Its pack is damaged somewhere: whether this chunk is, only reading it tells.
      try {
        await (this.#options.deep ? readChunk(region, chunkId) : checkStored(region, chunkId))
      } catch (error) {
        const pack = places[0]?.pack
        const chunk = chunkIdAt(page, position)
        bad.set(position, { message: messageOf(error), chunk, ...(pack === undefined ? {} : { pack }) })
      }
    }
    await new Promise(setImmediate)
    return { dataCount, lastPosition, bad }
  }
}

/** SHA-256 that lets others on this thread have their turn every 4 MiB. */
async function hashInParts(bytes: Buffer): Promise<string> {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes.length; at += 4 * 1024 * 1024) {
    hash.update(bytes.subarray(at, at + 4 * 1024 * 1024))
    await new Promise(setImmediate)
  }
  return hash.digest('hex')
}

/** What is wrong with the store; a bug is not a finding, nor is a key that is not at hand. */
function messageOf(error: unknown): string {
  if (isFault(error) && error.kind !== 'unavailable' && error.kind !== 'denied') return error.message
  throw error
}
