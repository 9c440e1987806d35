/** Of the reads of packs that are under way in one thread at once. */
const IDLE_COUNT_MAX = 8
const BYTES_MIN = 64 * 1024

/** Memory of one thread that is used again and again: fresh pages for each read cost as much as the read. */
export class SpareMemory {
  readonly #idle: Buffer[] = []

  /** So many bytes of whatever was there before; to be given back whole. */
  take(lengthBytes: number): Buffer {
    const fits = this.#idle.filter(({ length }) => length >= lengthBytes)
    const smallest = fits.toSorted((a, b) => a.length - b.length)[0]
    if (smallest === undefined)
      return Buffer.allocUnsafeSlow(Math.max(BYTES_MIN, 2 ** Math.ceil(Math.log2(lengthBytes))))
    this.#idle.splice(this.#idle.indexOf(smallest), 1)
    return smallest
  }

  /** Nobody looks at it any more. Of too many the smallest goes, which the fewest reads could use. */
  give(memory: Buffer): void {
    this.#idle.push(memory)
    if (this.#idle.length <= IDLE_COUNT_MAX) return
    const smallest = this.#idle.toSorted((a, b) => a.length - b.length)[0]
    if (smallest !== undefined) this.#idle.splice(this.#idle.indexOf(smallest), 1)
  }
}
