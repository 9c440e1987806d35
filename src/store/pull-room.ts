/** How far a copy may read ahead of what is durable. */
export interface RoomOptions {
  /** Bytes that were handed on and that a crash would take. */
  readonly unsafeBytes: () => number
  /** Bytes on their way and unsafe ones together. */
  readonly bytesMax: () => number
  /** Reads under way. */
  readonly readsMax: number
}

/**
 * Bounds what a kill costs, and what is in memory: who wants to read waits until there is room for it, in the order of
 * asking. One is always let in, however large, so that it goes on.
 */
export class PullRoom {
  readonly #options: RoomOptions
  readonly #waiting: { readonly lengthBytes: number; readonly turn: PromiseWithResolvers<void> }[] = []
  readonly #readers: PromiseWithResolvers<void>[] = []
  #insideBytes = 0
  #readCount = 0
  #failure: { readonly error: unknown } | undefined

  constructor(options: RoomOptions) {
    this.#options = options
  }

  /** Rejects once the room is closed. */
  enter(lengthBytes: number): Promise<void> {
    const turn = Promise.withResolvers<void>()
    this.#waiting.push({ lengthBytes, turn })
    this.look()
    return turn.promise
  }

  /** Calls `get` when fewer than `readsMax` are under way, in the order of asking. Rejects once the room is closed. */
  async read<Result>(get: () => Promise<Result>): Promise<Result> {
    if (this.#failure !== undefined) throw this.#failure.error
    if (this.#readCount === this.#options.readsMax) {
      const turn = Promise.withResolvers<void>()
      this.#readers.push(turn)
      await turn.promise
    } else this.#readCount++
    try {
      return await get()
    } finally {
      const next = this.#readers.shift()
      // Whoever comes next has the place that was ours.
      if (next === undefined) this.#readCount--
      else next.resolve()
    }
  }

  /** The bytes were handed on. */
  leave(lengthBytes: number): void {
    this.#insideBytes -= lengthBytes
    this.look()
  }

  /** To be called when less is unsafe than before. */
  look(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (this.#failure !== undefined) first.turn.reject(this.#failure.error)
      else {
        const { unsafeBytes, bytesMax } = this.#options
        const bytes = this.#insideBytes + unsafeBytes() + first.lengthBytes
        if (this.#insideBytes > 0 && bytes > bytesMax()) return
        this.#insideBytes += first.lengthBytes
        first.turn.resolve()
      }
      this.#waiting.shift()
    }
  }

  /** Nobody gets in any more, who waits neither. The first reason counts. */
  close(error: unknown): void {
    this.#failure ??= { error }
    for (const { reject } of this.#readers.splice(0)) reject(this.#failure.error)
    this.look()
  }
}
