import { setTimeout as delay } from 'node:timers/promises'
import { isFault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import type { ObjectName } from './names.ts'

export interface RetryOptions {
  /** How often a call is tried in all. */
  readonly attemptsMax?: number
  /** The first wait is up to this long, each further one up to twice as long as the one before. */
  readonly waitMsMin?: number
  readonly waitMsMax?: number
  /** From 0 up to but not 1. */
  readonly random?: () => number
  readonly pause?: (ms: number, signal: AbortSignal | undefined) => Promise<void>
}

/**
 * Tries again what failed with Fault 'unavailable', and nothing else, after waits that grow and are drawn at random, so
 * that many callers do not come back together. The last failure is the answer. An abort ends the wait at once.
 * A repeated put answers for its earlier attempts too, because the contract has the store itself tell its own object
 * from somebody else's: taking an own object for a foreign one would leave it out of the undo of its session, taking a
 * foreign one for its own would have the undo remove it.
 */
export class RetryingObjects implements ObjectStore {
  readonly #inner: ObjectStore
  readonly #options: Required<RetryOptions>

  constructor(inner: ObjectStore, options: RetryOptions = {}) {
    this.#inner = inner
    this.#options = {
      attemptsMax: 8,
      waitMsMin: 100,
      waitMsMax: 10_000,
      random: Math.random,
      pause: async (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
      ...options,
    }
  }

  get traits() {
    return this.#inner.traits
  }

  put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    return this.#retry(signal, () => this.#inner.put(name, bytes, signal))
  }

  get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#retry(signal, () => this.#inner.get(name, offset, lengthBytes, signal))
  }

  size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    return this.#retry(signal, () => this.#inner.size(name, signal))
  }

  remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    return this.#retry(signal, () => this.#inner.remove(name, signal))
  }

  /** Starts again from the beginning and leaves out what was answered before. */
  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    const seen = new Set<ObjectName>()
    for (let attempt = 1; ; attempt++) {
      try {
        for await (const name of this.#inner.list(prefix, signal)) {
          if (seen.has(name)) continue
          seen.add(name)
          // A long list may fail now and then: only standing still counts.
          attempt = 1
          yield name
        }
        return
      } catch (error) {
        await this.#waitAfter(error, attempt, signal)
      }
    }
  }

  async #retry<Result>(signal: AbortSignal | undefined, call: () => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await call()
      } catch (error) {
        await this.#waitAfter(error, attempt, signal)
      }
    }
  }

  async #waitAfter(error: unknown, attempt: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted()
    const { attemptsMax, waitMsMin, waitMsMax, random, pause } = this.#options
    if (!isFault(error, 'unavailable') || attempt >= attemptsMax) throw error
    const boundMs = Math.min(waitMsMax, waitMsMin * 2 ** (attempt - 1))
    try {
      // At least half of it: a wait near nothing would use up an attempt for nothing.
      await pause(boundMs * (0.5 + random() / 2), signal)
    } catch (cause) {
      signal?.throwIfAborted()
      throw cause
    }
  }
}
