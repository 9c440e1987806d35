import type { Medium } from '../contract.ts'
import { eachStretch } from './attributes.ts'
import { roundUp } from './bytes.ts'
import type { Attribute, Geometry } from './model.ts'
import { STRIDE_BYTES } from './model.ts'
import { isZero, type Tally } from './scrub-tally.ts'

/** Larger than this: zeroed without a look at what is there. */
const LARGE_BYTES = 256 * 1024
/** Ends no further apart than this are looked at in one read, of `WINDOW_BYTES` at most. */
const GAP_BYTES = 64 * 1024
const WINDOW_BYTES = 1024 * 1024

/**
 * Ranges that nothing uses behind what is used: first gathered, then made zero in disk order, where they are not. Two
 * numbers are kept for each, so that a volume may have millions.
 */
export class Ends {
  #numbers = new Float64Array(1024)
  #count = 0

  /** What is behind the content of a non-resident attribute, in the clusters it has. Not for a compressed one. */
  addAttribute(attribute: Attribute, { clusterBytes }: Geometry): void {
    const last = attribute.runs.at(-1)
    if (last === undefined) return
    const writtenBytes = Math.min(attribute.initializedBytes, attribute.dataBytes)
    // An encrypted stream is stored in whole blocks of the cipher.
    const usedBytes = attribute.isEncrypted ? roundUp(writtenBytes, STRIDE_BYTES) : writtenBytes
    const endBytes = (last.vcn + last.length) * clusterBytes
    if (usedBytes < endBytes) this.addRange(attribute, clusterBytes, usedBytes, endBytes)
  }

  /** Bytes [start, end) of an attribute as it is stored. */
  addRange(attribute: Attribute, clusterBytes: number, start: number, end: number): void {
    for (const { at, lengthBytes } of eachStretch(attribute.runs, clusterBytes, start, end - start))
      if (at !== null) this.add(at, lengthBytes)
  }

  add(offset: number, lengthBytes: number): void {
    if (this.#count * 2 === this.#numbers.length) {
      const larger = new Float64Array(this.#numbers.length * 2)
      larger.set(this.#numbers)
      this.#numbers = larger
    }
    this.#numbers[this.#count * 2] = offset
    this.#numbers[this.#count * 2 + 1] = lengthBytes
    this.#count += 1
  }

  /** Makes them zero and forgets them. */
  async flush(medium: Medium, tally: Tally): Promise<void> {
    const offsetOf = (index: number): number => this.#numbers[index * 2] ?? 0
    const lengthOf = (index: number): number => this.#numbers[index * 2 + 1] ?? 0
    const order = Uint32Array.from({ length: this.#count }, (_, index) => index)
    order.sort((a, b) => offsetOf(a) - offsetOf(b))
    for (let first = 0; first < order.length; ) {
      const start = offsetOf(order[first] ?? 0)
      let end = start + lengthOf(order[first] ?? 0)
      if (end - start > LARGE_BYTES) {
        tally.add('cluster ends', await medium.zero(start, end - start))
        first += 1
        continue
      }
      let behind = first + 1
      for (; behind < order.length; behind += 1) {
        const index = order[behind] ?? 0
        const stop = offsetOf(index) + lengthOf(index)
        if (offsetOf(index) - end > GAP_BYTES || stop - start > WINDOW_BYTES || lengthOf(index) > LARGE_BYTES)
          break
        end = Math.max(end, stop)
      }
      const bytes = await medium.read(start, end - start)
      for (; first < behind; first += 1) {
        const index = order[first] ?? 0
        const from = offsetOf(index) - start
        if (isZero(bytes.subarray(from, from + lengthOf(index)))) continue
        await medium.zero(offsetOf(index), lengthOf(index))
        tally.add('cluster ends', lengthOf(index))
      }
    }
    this.#count = 0
  }
}
