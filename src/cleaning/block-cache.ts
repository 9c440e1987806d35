/** What is read at once: most structures of a file system lie beside what is read next. */
export const PIECE_BYTES = 64 * 1024

/** The pieces of a disk that were read last, by their position. Their bytes are changed in place by `patch`. */
export class BlockCache {
  readonly #pieces = new Map<number, Buffer>()
  readonly #countMax: number

  constructor(bytesMax: number) {
    this.#countMax = Math.max(1, Math.floor(bytesMax / PIECE_BYTES))
  }

  find(index: number): Buffer | undefined {
    const piece = this.#pieces.get(index)
    if (piece === undefined) return undefined
    // A map keeps the order of setting: the first is the one that was not asked for the longest.
    this.#pieces.delete(index)
    this.#pieces.set(index, piece)
    return piece
  }

  put(index: number, piece: Buffer): void {
    this.#pieces.set(index, piece)
    for (const oldest of this.#pieces.keys()) {
      if (this.#pieces.size <= this.#countMax) break
      this.#pieces.delete(oldest)
    }
  }

  /** The disk holds other bytes at `offset` now: `bytes`, or zeroes where there are none. */
  patch(offset: number, lengthBytes: number, bytes?: Uint8Array): void {
    const end = offset + lengthBytes
    const [first, last] = [Math.floor(offset / PIECE_BYTES), Math.floor((end - 1) / PIECE_BYTES)]
    // A long range is a short walk the other way round.
    const indexes = last - first < this.#pieces.size ? range(first, last) : [...this.#pieces.keys()]
    for (const index of indexes) {
      const piece = this.#pieces.get(index)
      const start = index * PIECE_BYTES
      if (piece === undefined || start >= end || start + piece.length <= offset) continue
      const from = Math.max(offset, start)
      const to = Math.min(end, start + piece.length)
      if (bytes === undefined) piece.fill(0, from - start, to - start)
      else piece.set(bytes.subarray(from - offset, to - offset), from - start)
    }
  }

  forget(): void {
    this.#pieces.clear()
  }
}

export function* range(first: number, last: number): Generator<number> {
  for (let at = first; at <= last; at++) yield at
}
