import { createHash } from 'node:crypto'
import { Fault, isFault } from '../image/fault.ts'
import type { ChunkId, Digest, PackId, PageId } from '../image/ids.ts'
import type { ObjectName } from '../objects/names.ts'
import { chunkCountOf, plainBytesOf } from './chunk.ts'
import { Damage, type DamageRow } from './damage.ts'
import { ID_BYTES, isZeroId } from './hashes.ts'
import type { ImageContent, ImageDisk } from './image.ts'
import { inOrder } from './in-order.ts'
import { checkKeys } from './key-check.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from './map.ts'
import { hashOfName, imageName, packName, pageName, signatureName } from './names.ts'
import { type PackEntry, parsePackContent } from './pack.ts'
import { checkStored, readChunkAt, readOwnChunk } from './read-chunk.ts'
import type { RegionStore } from './region.ts'
import { checkSignature, readSignature } from './signature.ts'
import { chunkIdAt } from './source.ts'
import { bindProblems, boundBy, type PageNeeds, refProblems } from './verify-needs.ts'

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
/** Decompression runs on the thread pool: with so many at once it keeps the other cores busy. */
const DECODE_COUNT = 8

/** A page that was read and found right: its chunks that are not zero, the last of them, and what is wrong. */
interface CheckedPage extends PageNeeds {
  readonly dataCount: number
  readonly lastPosition: number
  readonly bad: ReadonlyMap<number, Problem>
}

/**
 * Checks the committed part of a region whole: every pack against its name and its footer, every image down to each
 * chunk, that it binds what it needs (I1), and that every ref's images are there (I2). Tells as well what is listed as
 * damaged, and lists what it finds (`Damage`); else it writes nothing. Fault 'denied' for a deep check without the
 * region's key. Hashing is done on the calling thread: run it in one that may be busy.
 */
export async function verifyRegion(options: VerifyOptions): Promise<VerifyReport> {
  const verify = new Verify(options)
  await verify.keys()
  await verify.packs()
  await verify.images()
  await verify.refs()
  verify.listed()
  return verify.report()
}

class Verify {
  readonly #region: RegionStore
  readonly #options: VerifyOptions
  readonly #damage: Damage
  /** What was listed before, by the object's name. */
  readonly #listed: ReadonlyMap<ObjectName, readonly DamageRow[]>
  /** What of it was found again, as `keyOf` writes it. */
  readonly #seen = new Set<string>()
  readonly #problems: Problem[] = []
  #problemCount = 0
  #packCount = 0
  #chunkCount = 0
  #imageCount = 0
  #logicalBytes = 0
  #dataBytes = 0
  #storedBytes = 0
  /** Domains whose keys are damaged: nothing of them can be decoded, and that is told once. */
  readonly #lockedDomains = new Set<string>()
  readonly #soundPacks = new Set<PackId>()
  /** Images share pages, and each page is looked at once. */
  readonly #pages = new Map<PageId, CheckedPage | Problem>()

  constructor(options: VerifyOptions) {
    this.#region = options.region
    this.#options = options
    this.#damage = new Damage(options.region.database)
    this.#listed = Map.groupBy(this.#damage.list(), (row) => row.name)
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

  /** A problem of a committed object, which is listed for a repair; none if it is committed no longer. */
  #addDamage(name: ObjectName, problem: Problem, chunk?: Uint8Array): void {
    if (!this.#region.journal.isCommitted(name)) return
    this.#add(problem)
    this.#seen.add(keyOf(name, chunk))
    const finding = { message: problem.message, ...(chunk === undefined ? {} : { chunk }) }
    this.#damage.noteSoftly(name, [finding], this.#region.clock())
  }

  /** What is listed as damaged and was not met again: a repair looks at it and takes back what is not so. */
  listed(): void {
    for (const [name, rows] of this.#listed) {
      for (const { chunk, message } of rows) {
        if (this.#seen.has(keyOf(name, chunk)) || !this.#region.journal.isCommitted(name)) continue
        const id = chunk === undefined ? {} : { chunk: chunk.toString('hex') as ChunkId }
        this.#add({ message: `Listed as damaged: ${message}`, ...subjectOf(name), ...id })
      }
    }
  }

  async keys(): Promise<void> {
    for (const { domain, message } of await checkKeys(this.#region, this.#options.signal)) {
      this.#lockedDomains.add(domain)
      this.#add({ message })
    }
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
      let isSound = !this.#listed.has(name)
      for (const { id, offset } of entries) {
        if (region.places.find(id).some((place) => place.pack === pack && place.offset === offset)) continue
        // Collected since the packs were listed: then its chunks are off the index, and that is right.
        if (!region.journal.isCommitted(name)) return
        isSound = false
        const chunk = id.toString('hex') as ChunkId
        this.#add({
          message: `The index does not know chunk ${chunk} of pack ${pack}. Rebuild it.`,
          pack,
          chunk,
        })
      }
      if (deep && !this.#lockedDomains.has(domain)) {
        const open = await region.getDomain(domain)
        const get = async (_: ObjectName, from: number, length: number) => bytes.subarray(from, from + length)
        const decode = (entry: PackEntry) =>
          readChunkAt({ get }, async () => open, { ...entry, pack, domain }, entry.id).then(
            () => undefined,
            messageOf,
          )
        for await (const [{ id }, message] of inOrder(entries, DECODE_COUNT, decode)) {
          if (message === undefined) continue
          isSound = false
          this.#addDamage(name, { message, pack, chunk: id.toString('hex') as ChunkId }, id)
        }
      }
      if (isSound) this.#soundPacks.add(pack)
    } catch (error) {
      this.#addDamage(name, { message: messageOf(error), pack })
    }
  }

  async images(): Promise<void> {
    for (const digest of this.#region.listImages()) {
      this.#options.signal?.throwIfAborted()
      this.#imageCount++
      try {
        const image = await this.#region.getImage(digest, this.#options.signal)
        await this.#signature(digest, image)
        const needs = new Map<ObjectName, PageNeeds>()
        for (const disk of image.disks) await this.#disk(digest, disk, needs)
        const bound = boundBy(this.#region, digest)
        for (const problem of bindProblems(digest, bound, needs)) {
          if (this.#region.hasImage(digest)) this.#add(problem)
        }
      } catch (error) {
        this.#addDamage(imageName(digest), { message: messageOf(error), image: digest })
      }
    }
  }

  async #signature(digest: Digest, image: ImageContent): Promise<void> {
    const { region, deep, signal } = this.#options
    try {
      const bytes = await readSignature(region.objects, digest, signal)
      if (!deep || this.#lockedDomains.has(image.domain)) return
      checkSignature(await region.getDomain(image.domain), image, bytes)
    } catch (error) {
      this.#addDamage(signatureName(digest), { message: messageOf(error), image: digest })
    }
  }

  async #disk(image: Digest, disk: ImageDisk, needs: Map<ObjectName, PageNeeds>): Promise<void> {
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
        this.#addDamage(pageName(page), { ...found, ...where, offset: first * disk.chunkBytes })
        continue
      }
      needs.set(pageName(page), found)
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
    const packs = new Map<string, readonly PackId[]>()
    let dataCount = 0
    let lastPosition = -1
    for (let position = 0; position < PAGE_IDS; position++) {
      if (isZeroId(page, position * ID_BYTES)) continue
      dataCount++
      lastPosition = position
      const chunkId = page.subarray(position * ID_BYTES, (position + 1) * ID_BYTES)
      const choice = region.places.find(chunkId).map((place) => place.pack)
      if (choice.length > 0) packs.set(choice.join(), choice)
      if (choice.some((pack) => this.#soundPacks.has(pack))) continue
      const message = await this.#chunkProblem(chunkId, choice)
      if (message === undefined) continue
      const [pack] = choice
      bad.set(position, {
        message,
        chunk: chunkIdAt(page, position),
        ...(pack === undefined ? {} : { pack }),
      })
    }
    await new Promise(setImmediate)
    return { dataCount, lastPosition, bad, packs: [...packs.values()] }
  }

  /** Its packs are damaged somewhere: whether this chunk is, only reading it tells, or what is listed. */
  async #chunkProblem(id: Uint8Array, packs: readonly PackId[]): Promise<string | undefined> {
    const { region, deep } = this.#options
    const rows = packs.map((pack) => this.#listed.get(packName(pack))?.find((row) => row.chunk?.equals(id)))
    const domains = deep ? region.places.find(id).map((place) => place.domain) : []
    const isDecoding = deep && !domains.some((domain) => this.#lockedDomains.has(domain))
    if (!isDecoding && rows.length > 0 && !rows.includes(undefined)) return rows.at(-1)?.message
    try {
      await (isDecoding ? readOwnChunk(region, id) : checkStored(region, id))
      return undefined
    } catch (error) {
      return messageOf(error)
    }
  }

  async refs(): Promise<void> {
    for await (const { name, message } of refProblems(this.#region, this.#options.signal)) {
      if (name === undefined) this.#add({ message })
      else this.#addDamage(name, { message })
    }
  }
}

const keyOf = (name: ObjectName, chunk?: Uint8Array) =>
  `${name} ${chunk === undefined ? '' : Buffer.from(chunk).toString('hex')}`

/** What a problem of an object is about. */
function subjectOf(name: ObjectName): Pick<Problem, 'pack' | 'page' | 'image'> {
  const hash = hashOfName(name)
  if (name.startsWith('packs/')) return { pack: hash as PackId }
  if (name.startsWith('pages/')) return { page: hash as PageId }
  return /^(images|signatures)\//.test(name) ? { image: hash as Digest } : {}
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
