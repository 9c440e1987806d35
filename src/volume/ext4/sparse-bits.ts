import assert from 'node:assert/strict'

/** A set of numbers below `sizeBits`, a bit each, of which only pages that hold one take memory. */
export class SparseBits {
  readonly pageBits: number
  readonly #pages: (Uint8Array | undefined)[]

  /** `pageBits`: a multiple of 8. */
  constructor(sizeBits: number, pageBits: number) {
    assert(pageBits > 0 && pageBits % 8 === 0)
    this.pageBits = pageBits
    this.#pages = new Array(Math.ceil(sizeBits / pageBits)).fill(undefined)
  }

  has(number: number): boolean {
    const page = this.#pages[Math.floor(number / this.pageBits)]
    if (page === undefined) return false
    const bit = number % this.pageBits
    return ((page[bit >>> 3] as number) & (1 << (bit & 7))) !== 0
  }

  /** False, with nothing changed from there on, once one of the numbers is in the set already. */
  add(first: number, count = 1): boolean {
    for (let number = first; number < first + count; ) {
      const page = this.#pageOf(number)
      let bit = number % this.pageBits
      const end = Math.min(this.pageBits, bit + (first + count - number))
      number += end - bit
      while (bit < end) {
        // Whole bytes at once: extents are long.
        if ((bit & 7) === 0 && end - bit >= 8) {
          if (page[bit >>> 3] !== 0) return false
          page[bit >>> 3] = 0xff
          bit += 8
          continue
        }
        const mask = 1 << (bit & 7)
        if (((page[bit >>> 3] as number) & mask) !== 0) return false
        page[bit >>> 3] = (page[bit >>> 3] as number) | mask
        bit++
      }
    }
    return true
  }

  /** Bits [index * pageBits, …), lowest bit first; undefined if none is set. */
  page(index: number): Uint8Array | undefined {
    return this.#pages[index]
  }

  #pageOf(number: number): Uint8Array {
    const index = Math.floor(number / this.pageBits)
    assert(index < this.#pages.length)
    let page = this.#pages[index]
    if (page === undefined) {
      page = new Uint8Array(this.pageBits / 8)
      this.#pages[index] = page
    }
    return page
  }
}
