import assert from 'node:assert/strict'
import type { Medium, Run } from './contract.ts'
import { isInside } from './slice.ts'

const PAGE_BYTES = 4096
const EMPTY_PAGE = Buffer.alloc(PAGE_BYTES)

/** A disk in memory that holds only the pages that were written, and counts what is asked of it. */
export class MemoryMedium implements Medium {
  readonly sizeBytes: number
  readonly counts = { reads: 0, readBytes: 0, writes: 0, writtenBytes: 0, zeroes: 0 }
  readonly #pages = new Map<number, Buffer>()

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
  }

  static of(bytes: Uint8Array): MemoryMedium {
    const medium = new MemoryMedium(bytes.length)
    medium.#put(0, bytes)
    return medium
  }

  /** Another disk with the same bytes and counts of its own. */
  copy(): MemoryMedium {
    const medium = new MemoryMedium(this.sizeBytes)
    for (const [index, page] of this.#pages) medium.#pages.set(index, Buffer.from(page))
    return medium
  }

  /** All its bytes, for comparing. */
  bytes(): Buffer {
    return this.#take(0, this.sizeBytes)
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    assert(
      isInside(this.sizeBytes, offset, lengthBytes),
      `read ${offset} + ${lengthBytes} of ${this.sizeBytes}`,
    )
    this.counts.reads++
    this.counts.readBytes += lengthBytes
    return this.#take(offset, lengthBytes)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    assert(
      isInside(this.sizeBytes, offset, bytes.length),
      `write ${offset} + ${bytes.length} of ${this.sizeBytes}`,
    )
    this.counts.writes++
    this.counts.writtenBytes += bytes.length
    this.#put(offset, bytes)
  }

  async zero(offset: number, lengthBytes: number): Promise<number> {
    assert(
      isInside(this.sizeBytes, offset, lengthBytes),
      `zero ${offset} + ${lengthBytes} of ${this.sizeBytes}`,
    )
    this.counts.zeroes++
    const end = offset + lengthBytes
    let heldBytes = 0
    for (const index of this.#indexes(offset, end)) {
      const page = this.#pages.get(index)
      if (page === undefined) continue
      const from = Math.max(offset - index * PAGE_BYTES, 0)
      const to = Math.min(end - index * PAGE_BYTES, PAGE_BYTES)
      if (from >= to) continue
      heldBytes += to - from
      if (from === 0 && to === PAGE_BYTES) this.#pages.delete(index)
      else page.fill(0, from, to)
    }
    return heldBytes
  }

  async *dataRuns(offset: number, lengthBytes: number): AsyncGenerator<Run> {
    assert(isInside(this.sizeBytes, offset, lengthBytes))
    const end = offset + lengthBytes
    for (const index of this.#indexes(offset, end)) {
      const from = Math.max(offset, index * PAGE_BYTES)
      const to = Math.min(end, (index + 1) * PAGE_BYTES)
      if (from < to) yield { offset: from, lengthBytes: to - from }
    }
  }

  /** Of the pages that are there and touch [offset, end), in disk order. */
  #indexes(offset: number, end: number): readonly number[] {
    const first = Math.floor(offset / PAGE_BYTES)
    const span = Math.ceil(end / PAGE_BYTES) - first
    if (span > this.#pages.size) {
      return [...this.#pages.keys()]
        .filter((index) => index >= first && index < first + span)
        .sort((a, b) => a - b)
    }
    return Array.from({ length: span }, (_, index) => first + index).filter((index) => this.#pages.has(index))
  }

  #take(offset: number, lengthBytes: number): Buffer {
    const bytes = Buffer.alloc(lengthBytes)
    for (let at = offset; at < offset + lengthBytes; ) {
      const index = Math.floor(at / PAGE_BYTES)
      const inPage = at - index * PAGE_BYTES
      this.#pages.get(index)?.copy(bytes, at - offset, inPage)
      at += PAGE_BYTES - inPage
    }
    return bytes
  }

  #put(offset: number, bytes: Uint8Array): void {
    const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    for (let done = 0; done < source.length; ) {
      const index = Math.floor((offset + done) / PAGE_BYTES)
      const inPage = offset + done - index * PAGE_BYTES
      const part = source.subarray(done, done + PAGE_BYTES - inPage)
      let page = this.#pages.get(index)
      if (page === undefined && !part.equals(EMPTY_PAGE.subarray(0, part.length))) {
        page = Buffer.alloc(PAGE_BYTES)
        this.#pages.set(index, page)
      }
      page?.set(part, inPage)
      done += part.length
    }
  }
}
