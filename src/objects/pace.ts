import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'

export interface PaceOptions {
  readonly bytesPerSecond: number
  /** A slot for `bigint` that is zero in the beginning: everybody who has it shares the rate. Else it is one's own. */
  readonly freeAt?: BigInt64Array<SharedArrayBuffer>
  /** Nanoseconds of a clock that is the same in all threads and never goes back. */
  readonly clock?: (() => bigint) | undefined
  readonly pause?: ((ms: number, signal: AbortSignal | undefined) => Promise<void>) | undefined
}

export const PACE_BYTES = BigInt64Array.BYTES_PER_ELEMENT

/**
 * A line that takes so many bytes a second. The rate holds on average: who comes to a free line goes at once, and the next
 * one waits until the line would have been done with it.
 */
export class Pace {
  readonly bytesPerSecond: number
  /** When the line is free again, in nanoseconds. */
  readonly #freeAt: BigInt64Array<SharedArrayBuffer>
  readonly #clock: () => bigint
  readonly #pause: NonNullable<PaceOptions['pause']>

  constructor(options: PaceOptions) {
    assert(options.bytesPerSecond > 0)
    this.bytesPerSecond = options.bytesPerSecond
    this.#freeAt = options.freeAt ?? new BigInt64Array(new SharedArrayBuffer(PACE_BYTES))
    this.#clock = options.clock ?? (() => process.hrtime.bigint())
    this.#pause =
      options.pause ?? (async (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }))
  }

  /** Resolves when it is the turn of so many bytes. Rejects with the signal's reason, and the place goes to the others. */
  async take(lengthBytes: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted()
    if (lengthBytes === 0) return
    const cost = BigInt(Math.ceil((lengthBytes / this.bytesPerSecond) * 1e9))
    const now = this.#clock()
    let free: bigint
    let start: bigint
    do {
      free = Atomics.load(this.#freeAt, 0)
      start = free > now ? free : now
    } while (Atomics.compareExchange(this.#freeAt, 0, free, start + cost) !== free)
    if (start === now) return
    try {
      await this.#pause(Number(start - now) / 1e6, signal)
    } catch (error) {
      Atomics.sub(this.#freeAt, 0, cost)
      signal?.throwIfAborted()
      throw error
    }
  }
}
