import assert from 'node:assert/strict'
import { isZeroId } from './hashes.ts'

/** The owner of a chunk that more than one image names. */
export const SEVERAL = 0xffff_ffff
const IS_IN_PAGES = 0x8000_0000
const STORED_MASK = 0x7fff_ffff
const LOAD_MAX = 0.75

/**
 * What is known of each distinct chunk that some image names: 20 bytes a slot, so that the chunks of 1 TiB of distinct
 * data (4.2 million of 256 KiB) take about 112 MB. Chunks are told apart by 64 bits of their ids, which are keyed
 * hashes: that two of so many are taken for one has a chance of 1 to 2 million. Owners and pages are numbers from 1 on.
 */
export class UsageTable {
  readonly #slotCount: number
  readonly #low: Uint32Array
  readonly #high: Uint32Array
  /** 0: the slot is free. */
  readonly #owner: Uint32Array
  /** The stored length, and whether the chunk is in more than one page. */
  readonly #stored: Uint32Array
  /** The page that named the chunk last; later, for a chunk in several pages, the image that counted it last. */
  readonly #last: Uint32Array
  #count = 0

  /** `countMax`: distinct chunks that may be added at most. */
  constructor(countMax: number) {
    this.#slotCount = Math.ceil(countMax / LOAD_MAX) + 64
    this.#low = new Uint32Array(this.#slotCount)
    this.#high = new Uint32Array(this.#slotCount)
    this.#owner = new Uint32Array(this.#slotCount)
    this.#stored = new Uint32Array(this.#slotCount)
    this.#last = new Uint32Array(this.#slotCount)
  }

  /**
   * A page names the chunk at `at` of `ids`. Answers the page that named it before, if that is another one. A chunk that
   * has no room is not counted: it can only be one that the region does not hold.
   */
  add(ids: Buffer, at: number, owner: number, page: number): number | undefined {
    const slot = this.#slotOf(ids, at)
    const known = this.#owner[slot]
    if (known === 0) {
      if (this.#count >= this.#slotCount - 1) return undefined
      this.#count++
      this.#low[slot] = ids.readUInt32LE(at)
      this.#high[slot] = ids.readUInt32LE(at + 4)
      this.#owner[slot] = owner
      this.#last[slot] = page
      return undefined
    }
    if (known !== owner) this.#owner[slot] = SEVERAL
    const before = this.#last[slot] as number
    if (before === page) return undefined
    this.#stored[slot] = ((this.#stored[slot] as number) | IS_IN_PAGES) >>> 0
    this.#last[slot] = page
    return before
  }

  /** The index holds this chunk; the first place counts. Chunks that no image names are passed over. */
  setStored(id: Buffer, storedBytes: number): void {
    assert(storedBytes > 0 && storedBytes <= STORED_MASK)
    const slot = this.#slotOf(id, 0)
    const stored = this.#stored[slot] as number
    if (this.#owner[slot] === 0 || (stored & STORED_MASK) !== 0) return
    this.#stored[slot] = (stored | storedBytes) >>> 0
  }

  /** The stored length of a chunk in several pages, once for each image; 0 for any other. */
  countOnce(ids: Buffer, at: number, image: number): number {
    const slot = this.#slotOf(ids, at)
    const stored = this.#stored[slot] as number
    if (stored < IS_IN_PAGES || this.#last[slot] === image) return 0
    this.#last[slot] = image
    return stored & STORED_MASK
  }

  /** Every chunk of slots [from, to): to be called before `countOnce`. `page` is 0 for a chunk in several pages. */
  each(from: number, to: number, see: (owner: number, storedBytes: number, page: number) => void): void {
    for (let slot = from; slot < Math.min(to, this.#slotCount); slot++) {
      const owner = this.#owner[slot] as number
      if (owner === 0) continue
      const stored = this.#stored[slot] as number
      see(owner, stored & STORED_MASK, stored < IS_IN_PAGES ? (this.#last[slot] as number) : 0)
    }
  }

  get slotCount(): number {
    return this.#slotCount
  }

  #slotOf(ids: Buffer, at: number): number {
    assert(!isZeroId(ids, at))
    const low = ids.readUInt32LE(at)
    const high = ids.readUInt32LE(at + 4)
    // The bits above choose the slot: an even spread, and no modulo.
    let slot = Math.floor((high / 2 ** 32) * this.#slotCount)
    while (this.#owner[slot] !== 0 && (this.#low[slot] !== low || this.#high[slot] !== high)) {
      slot = slot + 1 === this.#slotCount ? 0 : slot + 1
    }
    return slot
  }
}
