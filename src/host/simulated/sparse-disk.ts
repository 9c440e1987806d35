import assert from 'node:assert/strict'

export const PAGE_BYTES = 4096

/** Reads whatever lies under a disk: an image, or zeroes. */
export type ReadBase = (offset: number, lengthBytes: number) => Promise<Uint8Array>

/** A disk in memory that keeps only what was written; the rest comes from the base, and after its end is zero. */
export class SparseDisk {
  readonly sizeBytes: number
  readonly #baseBytes: number
  readonly #readBase: ReadBase
  readonly #pages: Map<number, Uint8Array>
  readonly #watchers = new Set<Set<number>>()

  constructor(
    sizeBytes: number,
    baseBytes: number,
    readBase: ReadBase,
    pages = new Map<number, Uint8Array>(),
  ) {
    this.sizeBytes = sizeBytes
    this.#baseBytes = Math.min(baseBytes, sizeBytes)
    this.#readBase = readBase
    this.#pages = pages
  }

  /** The disk as it is now; later writes to either do not show in the other. Pages are never changed in place. */
  snapshot(): SparseDisk {
    return new SparseDisk(this.sizeBytes, this.#baseBytes, this.#readBase, new Map(this.#pages))
  }

  /** From now on `written` gets the index of every page that is written, until `unwatch`. */
  watch(written: Set<number>): void {
    this.#watchers.add(written)
  }

  unwatch(written: Set<number>): void {
    this.#watchers.delete(written)
  }

  /** Which layer holds a page: 1 the disk itself, 2 the base, 0 none. */
  layerOf(index: number): 0 | 1 | 2 {
    if (this.#pages.has(index)) return 1
    return index * PAGE_BYTES < this.#baseBytes ? 2 : 0
  }

  async read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    assert(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.sizeBytes)
    const bytes = new Uint8Array(lengthBytes)
    for (let at = offset; at < offset + lengthBytes; ) {
      const start = at % PAGE_BYTES
      const count = Math.min(PAGE_BYTES - start, offset + lengthBytes - at)
      const page = this.#pages.get(Math.floor(at / PAGE_BYTES))
      bytes.set(page ? page.subarray(start, start + count) : await this.#under(at, count), at - offset)
      at += count
    }
    return bytes
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    assert(offset >= 0 && offset + bytes.length <= this.sizeBytes)
    for (let at = offset; at < offset + bytes.length; ) {
      const index = Math.floor(at / PAGE_BYTES)
      const start = at % PAGE_BYTES
      const count = Math.min(PAGE_BYTES - start, offset + bytes.length - at)
      const pageBytes = Math.min(PAGE_BYTES, this.sizeBytes - index * PAGE_BYTES)
      const page = await this.read(index * PAGE_BYTES, pageBytes)
      page.set(bytes.subarray(at - offset, at - offset + count), start)
      // In one step, so that whoever takes a moment sees both or neither.
      this.#pages.set(index, page)
      for (const written of this.#watchers) written.add(index)
      at += count
    }
  }

  async #under(offset: number, lengthBytes: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(lengthBytes)
    const count = Math.min(lengthBytes, Math.max(0, this.#baseBytes - offset))
    if (count > 0) bytes.set(await this.#readBase(offset, count))
    return bytes
  }
}
