import type { Medium } from '../contract.ts'

const WINDOW_BYTES = 65_536
const WINDOW_COUNT_MAX = 256

/**
 * Reads small pieces by whole windows and keeps the last of them: metadata lies close together, and every call to the
 * medium is a round trip. What is written through it is seen by later reads.
 */
export class CachedMedium implements Medium {
  readonly sizeBytes: number
  readonly #medium: Medium
  readonly #windows = new Map<number, Promise<Buffer>>()

  constructor(medium: Medium) {
    this.#medium = medium
    this.sizeBytes = medium.sizeBytes
  }

  /** A copy: the caller may change it. */
  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    const index = Math.floor(offset / WINDOW_BYTES)
    const start = index * WINDOW_BYTES
    if (
      lengthBytes === 0 ||
      offset + lengthBytes > start + WINDOW_BYTES ||
      offset + lengthBytes > this.sizeBytes
    ) {
      return await this.#medium.read(offset, lengthBytes)
    }
    let window = this.#windows.get(index)
    if (window === undefined) {
      window = this.#medium.read(start, Math.min(WINDOW_BYTES, this.sizeBytes - start))
      if (this.#windows.size >= WINDOW_COUNT_MAX) this.#forgetOldest()
    } else {
      this.#windows.delete(index)
    }
    this.#windows.set(index, window)
    const bytes = await window
    return Buffer.from(bytes.subarray(offset - start, offset - start + lengthBytes))
  }

  /** Without keeping anything: for what is read once. */
  async readPast(offset: number, lengthBytes: number): Promise<Buffer> {
    return await this.#medium.read(offset, lengthBytes)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    // Before, for who reads after us; after, for who read while we wrote.
    this.#forget(offset, bytes.length)
    await this.#medium.write(offset, bytes)
    this.#forget(offset, bytes.length)
  }

  async zero(offset: number, lengthBytes: number): Promise<number> {
    if (lengthBytes === 0) return 0
    this.#forget(offset, lengthBytes)
    const heldBytes = await this.#medium.zero(offset, lengthBytes)
    this.#forget(offset, lengthBytes)
    return heldBytes
  }

  /** The medium may have been changed by others. */
  forgetAll(): void {
    this.#windows.clear()
  }

  #forgetOldest(): void {
    for (const index of this.#windows.keys()) {
      this.#windows.delete(index)
      return
    }
  }

  #forget(offset: number, lengthBytes: number): void {
    const first = Math.floor(offset / WINDOW_BYTES)
    const last = Math.floor((offset + Math.max(1, lengthBytes) - 1) / WINDOW_BYTES)
    if (last - first >= this.#windows.size) {
      for (const index of this.#windows.keys()) {
        if (index >= first && index <= last) this.#windows.delete(index)
      }
      return
    }
    for (let index = first; index <= last; index++) this.#windows.delete(index)
  }
}
