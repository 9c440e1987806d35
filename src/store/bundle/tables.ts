import { randomBytes } from 'node:crypto'
import type { DomainId, PackId } from '../../image/ids.ts'
import { ID_BYTES, sha256 } from '../hashes.ts'
import { PACK_HEADER_BYTES, type PackContent, type PackEntry, readPackContent } from '../pack.ts'
import { damagedBundle } from './fault.ts'
import { type BundleRecord, type PlacedRecord, tableBytesOf, tooLarge } from './layout.ts'

/** 2 TiB of chunks of the usual size; 192 MiB to know them by. */
export const BUNDLE_CHUNKS_MAX = 8 * 1024 * 1024
/** Chunks come in the order in which they are asked for, from one pack of each domain at a time. */
const CONTENTS_KEPT = 8
const SLOT_WORDS = 3
const ID_WORDS = ID_BYTES / 4

export interface BundlePlace {
  readonly pack: PackId
  readonly domain: DomainId
  readonly entry: PackEntry
}

type ReadBytes = (offset: number, lengthBytes: number) => Promise<Buffer>

/**
 * Where the chunks of a bundle are: a hash table of 64 bits for each chunk, made in one look at every pack's table; the
 * tables themselves are read again when they are needed. Everything that is answered was checked against the index.
 */
export class BundleTables {
  readonly #packs: readonly PlacedRecord[]
  readonly #read: ReadBytes
  readonly #contents = new Map<number, PackContent>()
  /** Of each slot: entry number + 1, and two hashes of the id. */
  readonly #slots: Uint32Array
  readonly #slotMask: number
  readonly #firstEntries: number[] = []
  /** Nobody can choose ids that share a slot. */
  readonly #factors = randomBytes(3 * ID_BYTES)

  /** Fault 'invalid' for more chunks than a bundle may hold, or a damaged table. */
  static async open(
    packs: readonly PlacedRecord[],
    read: ReadBytes,
    signal?: AbortSignal,
  ): Promise<BundleTables> {
    const tables = new BundleTables(packs, read)
    for (const index of packs.keys()) {
      signal?.throwIfAborted()
      const { entries } = await tables.contentOf(index)
      const first = tables.#firstEntries[index] as number
      for (const [i, { id }] of entries.entries()) tables.#insert(id, first + i)
    }
    return tables
  }

  private constructor(packs: readonly PlacedRecord[], read: ReadBytes) {
    this.#packs = packs
    this.#read = read
    let count = 0
    for (const { entryCount } of packs) {
      this.#firstEntries.push(count)
      count += entryCount
    }
    if (count > BUNDLE_CHUNKS_MAX) throw tooLarge()
    const slotCount = 2 ** Math.ceil(Math.log2(Math.max(1024, count * 2)))
    this.#slots = new Uint32Array(slotCount * SLOT_WORDS)
    this.#slotMask = slotCount - 1
  }

  /** Of several places of one chunk, the first. */
  async find(id: Buffer): Promise<BundlePlace | undefined> {
    const number = this.#slots[this.#slotOf(id)] as number
    if (number === 0) return undefined
    const index = this.#packOf(number - 1)
    const { domain, entries } = await this.contentOf(index)
    const entry = entries[number - 1 - (this.#firstEntries[index] as number)]
    if (entry === undefined || !entry.id.equals(id)) return undefined
    return { pack: (this.#packs[index] as BundleRecord).id as PackId, domain, entry }
  }

  /** What pack `index` says of itself, checked. */
  async contentOf(index: number): Promise<PackContent> {
    const known = this.#contents.get(index)
    this.#contents.delete(index)
    const content = known ?? (await this.#readContent(this.#packs[index] as PlacedRecord))
    this.#contents.set(index, content)
    for (const oldest of this.#contents.keys()) {
      if (this.#contents.size <= CONTENTS_KEPT) break
      this.#contents.delete(oldest)
    }
    return content
  }

  async #readContent({ id, offset, lengthBytes, entryCount, check }: PlacedRecord): Promise<PackContent> {
    const tableBytes = tableBytesOf(entryCount)
    const header = await this.#read(offset, PACK_HEADER_BYTES)
    const table = await this.#read(offset + lengthBytes - tableBytes, tableBytes)
    if (sha256(Buffer.concat([header, table])) !== check) throw damagedBundle()
    const view = {
      size: async () => lengthBytes,
      // What is not of the table is of chunks, which nobody looks at here.
      get: async (_: unknown, from: number, count: number) => {
        if (from === 0) return header
        const bytes = Buffer.alloc(count)
        table.copy(bytes, Math.max(0, count - tableBytes), Math.max(0, tableBytes - count))
        return bytes
      },
    }
    try {
      const content = await readPackContent(view, id as PackId)
      if (content.entries.length !== entryCount) throw damagedBundle()
      return content
    } catch (error) {
      throw damagedBundle(error)
    }
  }

  #insert(id: Buffer, number: number): void {
    const slot = this.#slotOf(id)
    if (this.#slots[slot] !== 0) return
    this.#slots[slot] = number + 1
    this.#slots[slot + 1] = this.#hash(id, 1)
    this.#slots[slot + 2] = this.#hash(id, 2)
  }

  /** The slot that holds the id, or the empty one where it would be. At most half of them are full. */
  #slotOf(id: Buffer): number {
    const one = this.#hash(id, 1)
    const two = this.#hash(id, 2)
    for (let slot = this.#hash(id, 0) & this.#slotMask; ; slot = (slot + 1) & this.#slotMask) {
      const at = slot * SLOT_WORDS
      if (this.#slots[at] === 0 || (this.#slots[at + 1] === one && this.#slots[at + 2] === two)) return at
    }
  }

  #hash(id: Buffer, which: number): number {
    let sum = 0
    for (let word = 0; word < ID_WORDS; word++) {
      const factor = this.#factors.readUInt32LE(which * ID_BYTES + 4 * word) | 1
      sum = Math.imul(sum ^ id.readUInt32LE(4 * word), factor)
      sum ^= sum >>> 15
    }
    return sum >>> 0
  }

  #packOf(number: number): number {
    let low = 0
    let high = this.#packs.length - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((this.#firstEntries[middle] as number) <= number) low = middle
      else high = middle - 1
    }
    return low
  }
}
