import assert from 'node:assert/strict'
import { Fault, isFault } from '../../image/fault.ts'
import type { PackId } from '../../image/ids.ts'
import { decodeChunkHere, plainBytesOf } from '../../store/chunk.ts'
import { Decompressor } from '../../store/decompressor.ts'
import { hashPlain, ID_BYTES, isZeroId } from '../../store/hashes.ts'
import type { ImageDisk } from '../../store/image.ts'
import { PAGE_IDS, readPage, ZERO_PAGE } from '../../store/map.ts'
import { packName } from '../../store/names.ts'
import type { OpenDomain } from '../../store/open-domain.ts'
import { mergeRanges, type PackRange, type WantedChunk } from '../../store/ranges.ts'
import { missingOrCut, readChunk, type StoredPlace } from '../../store/read-chunk.ts'
import type { RegionStore } from '../../store/region.ts'
import type { PackRef } from '../../store/source.ts'
import { SpareMemory } from './spare-memory.ts'

/** Where a part of the disk is to be written to. */
export interface Wanted {
  readonly diskOffset: number
  readonly target: Buffer
}

/** A chunk that is wanted, and what of it goes where. */
interface WantedParts {
  readonly id: Uint8Array
  readonly place: StoredPlace | undefined
  readonly parts: { readonly index: number; readonly from: number; readonly target: Buffer }[]
}

const spare = new SpareMemory()

/**
 * Reads a disk that is read once from its start to its end: nothing is cached, and chunks are checked and decoded on
 * the calling thread, for threads that do nothing else. One that serves guests goes through `MapDisk`.
 */
export class ExportDisk {
  readonly #region: RegionStore
  readonly #disk: ImageDisk
  readonly #decompressor: Decompressor

  constructor(region: RegionStore, disk: ImageDisk) {
    this.#region = region
    this.#disk = disk
    this.#decompressor = new Decompressor(disk.chunkBytes)
  }

  /** Fills all targets, zeroes too. Faults: 'corrupt' naming the byte of the disk; 'unavailable'. */
  async read(wanted: readonly Wanted[], signal?: AbortSignal): Promise<void> {
    const chunks = await this.#find(wanted, signal)
    const packs = new Map<PackId, PackRef>()
    const stored: WantedChunk[] = []
    for (const [position, { place }] of chunks.entries()) {
      if (place === undefined) continue
      const pack = packs.get(place.pack) ?? { id: place.pack, domain: place.domain }
      packs.set(place.pack, pack)
      stored.push({ pack, offset: place.offset, storedBytes: place.storedBytes, position })
    }
    const lost = chunks.filter(({ place }) => place === undefined)
    await Promise.all([
      ...mergeRanges(stored).map((range) => this.#readRange(range, chunks, signal)),
      ...lost.map((chunk) => this.#readElsewhere(chunk)),
    ])
  }

  /** The chunks that are not zero, each once. */
  async #find(wanted: readonly Wanted[], signal: AbortSignal | undefined): Promise<WantedParts[]> {
    const { chunkBytes } = this.#disk
    const found = new Map<string, WantedParts>()
    for (const { diskOffset, target } of wanted) {
      assert(diskOffset + target.length <= this.#disk.sizeBytes)
      for (let at = 0; at < target.length; ) {
        const index = Math.floor((diskOffset + at) / chunkBytes)
        const from = diskOffset + at - index * chunkBytes
        const part = target.subarray(at, Math.min(target.length, at + chunkBytes - from))
        at += part.length
        const id = await this.#idAt(index, signal)
        if (id === undefined) {
          part.fill(0)
          continue
        }
        const key = id.toString('latin1')
        let chunk = found.get(key)
        if (chunk === undefined) {
          chunk = { id, place: this.#region.places.find(id)[0], parts: [] }
          found.set(key, chunk)
        }
        chunk.parts.push({ index, from, target: part })
      }
    }
    return [...found.values()]
  }

  /** Undefined for zeroes. */
  async #idAt(index: number, signal: AbortSignal | undefined): Promise<Buffer | undefined> {
    const pageId = this.#disk.pages[Math.floor(index / PAGE_IDS)]
    assert(pageId !== undefined, 'the disk has such a page')
    if (pageId === ZERO_PAGE) return undefined
    const { pages, objects } = this.#region
    const page = pages.find(pageId) ?? (await pages.get(pageId, () => readPage(objects, pageId)))
    signal?.throwIfAborted()
    const at = (index % PAGE_IDS) * ID_BYTES
    return isZeroId(page, at) ? undefined : page.subarray(at, at + ID_BYTES)
  }

  async #readRange(
    range: PackRange,
    chunks: readonly WantedParts[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const memory = spare.take(range.lengthBytes)
    try {
      const bytes = memory.subarray(0, range.lengthBytes)
      const isRead = await this.#fetch(range, bytes, signal)
      const domain = isRead ? await this.#region.getDomain(range.pack.domain) : undefined
      for (const { position, offset, storedBytes } of range.chunks) {
        const chunk = chunks[position] as WantedParts
        const at = offset - range.offset
        const plain = domain && this.#decode(chunk, bytes.subarray(at, at + storedBytes), domain)
        if (plain === undefined) await this.#readElsewhere(chunk)
        else this.#fill(chunk, plain)
      }
    } finally {
      spare.give(memory)
    }
  }

  /** False for a range that is missing or unreadable: each of its chunks may be whole somewhere else. */
  async #fetch(
    { pack, offset, lengthBytes }: PackRange,
    target: Buffer,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { objects } = this.#region
    const name = packName(pack.id)
    try {
      if (objects.getInto !== undefined) await objects.getInto(name, offset, target, signal)
      else target.set(await objects.get(name, offset, lengthBytes, signal))
      return true
    } catch (error) {
      missingOrCut(error)
      return false
    }
  }

  /**
   * The chunk if it is whole: seal or checksum, form, length and keyed id. Where all of it is wanted, in its place; else the
   * decompressor's, until its next call.
   */
  #decode({ id, place, parts }: WantedParts, stored: Buffer, { sealer, hasher }: OpenDomain) {
    if (place === undefined) return undefined
    const { plainBytes, crc32 } = place
    const whole = parts.find(({ target }) => target.length === plainBytes)
    const expected = { id, plainBytes, crc32 }
    const plain = decodeChunkHere(stored, expected, sealer, this.#decompressor, whole?.target)
    return plain !== undefined && hasher.idOf(hashPlain(plain)).equals(id) ? plain : undefined
  }

  async #readElsewhere(chunk: WantedParts): Promise<void> {
    try {
      this.#fill(chunk, await readChunk(this.#region, chunk.id))
    } catch (error) {
      throw isFault(error, 'corrupt') ? this.#atByte(chunk, error) : error
    }
  }

  #fill(chunk: WantedParts, plain: Buffer): void {
    const { sizeBytes, chunkBytes } = this.#disk
    for (const { index, from, target } of chunk.parts) {
      // The id fixes the bytes, so another length than the disk wants means that the map itself is wrong.
      if (plain.length !== plainBytesOf(sizeBytes, chunkBytes, index)) {
        const message = 'The chunk does not fit its place in the map.'
        throw this.#atByte(chunk, new Fault('corrupt', message, { subject: 'store' }))
      }
      if (plain !== target) plain.copy(target, 0, from, from + target.length)
    }
  }

  #atByte({ parts }: WantedParts, fault: Fault): Fault {
    const offset = (parts[0]?.index ?? 0) * this.#disk.chunkBytes
    const at = `Disk ${this.#disk.index} cannot be exported at byte ${offset}`
    return new Fault('corrupt', `${at}: ${fault.message}`, { subject: 'store', cause: fault })
  }
}
