import assert from 'node:assert/strict'
import type { ObjectStore } from './contract.ts'
import type { ObjectName } from './names.ts'
import { PACE_BYTES, Pace } from './pace.ts'
import { SharedSlots } from './shared-slots.ts'

export interface LimitOptions {
  /** Calls at once. */
  readonly callsMax?: number
  /** Of objects' bytes; each direction may have as much. */
  readonly bytesPerSecond?: number
  /** From `newLimitMemory` with the same `callsMax`: everybody who has it shares the limits. Else they are one's own. */
  readonly memory?: SharedArrayBuffer
  /** Nanoseconds of a clock that is the same in all threads and never goes back. */
  readonly clock?: () => bigint
  readonly pause?: (ms: number, signal: AbortSignal | undefined) => Promise<void>
}

const RATE_BYTES = 2 * PACE_BYTES

/** What the limits of all threads live in. */
export function newLimitMemory({ callsMax = 0 }: { readonly callsMax?: number }): SharedArrayBuffer {
  return new SharedArrayBuffer(RATE_BYTES + callsMax * Int32Array.BYTES_PER_ELEMENT)
}

/**
 * Lets only so many calls through at once, and only so many bytes a second. The rate holds on average: one object
 * goes at full speed, and the next one waits until the line would have been done with it. A `list` counts as one call
 * for each name it waits for.
 */
export class LimitedObjects implements ObjectStore {
  readonly traits: ObjectStore['traits']
  readonly #inner: ObjectStore
  readonly #slots: SharedSlots | undefined
  readonly #reads: Pace | undefined
  readonly #writes: Pace | undefined

  constructor(inner: ObjectStore, options: LimitOptions) {
    const { callsMax, bytesPerSecond } = options
    const memory = options.memory ?? newLimitMemory(options)
    assert.equal(memory.byteLength, RATE_BYTES + (callsMax ?? 0) * Int32Array.BYTES_PER_ELEMENT)
    this.#inner = inner
    if (bytesPerSecond !== undefined) {
      const { clock, pause } = options
      const paceAt = (slot: number) =>
        new Pace({ bytesPerSecond, clock, pause, freeAt: new BigInt64Array(memory, slot * PACE_BYTES, 1) })
      this.#reads = paceAt(0)
      this.#writes = paceAt(1)
    }
    if (callsMax !== undefined) {
      const clock = options.clock ?? (() => process.hrtime.bigint())
      const nowSeconds = () => Number(clock() / 1_000_000_000n)
      this.#slots = new SharedSlots(new Int32Array(memory, RATE_BYTES, callsMax), nowSeconds)
    }
    const { callsMax: innerMax, listLagMs } = inner.traits
    this.traits = { callsMax: Math.min(innerMax, callsMax ?? innerMax), listLagMs }
  }

  async put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    signal?.throwIfAborted()
    await this.#writes?.take(bytes.length, signal)
    return this.#inSlot(signal, () => this.#inner.put(name, bytes, signal))
  }

  async get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    signal?.throwIfAborted()
    await this.#reads?.take(lengthBytes, signal)
    return this.#inSlot(signal, () => this.#inner.get(name, offset, lengthBytes, signal))
  }

  size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    return this.#inSlot(signal, () => this.#inner.size(name, signal))
  }

  remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    return this.#inSlot(signal, () => this.#inner.remove(name, signal))
  }

  /** Holds no slot while the caller works on a name: it may well call again, and would wait for itself. */
  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    const names = this.#inner.list(prefix, signal)[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await this.#inSlot(signal, () => names.next())
        if (next.done === true) return
        yield next.value
      }
    } finally {
      await names.return?.()
    }
  }

  async #inSlot<Result>(signal: AbortSignal | undefined, call: () => Promise<Result>): Promise<Result> {
    if (this.#slots === undefined) return call()
    const slot = await this.#slots.take(signal)
    try {
      return await call()
    } finally {
      this.#slots.give(slot)
    }
  }
}
