import { setTimeout as delay } from 'node:timers/promises'

const POLL_MS = 10
/** A thread that was ended in the middle of a call gives nothing back; its slots come free so much later. */
const LEASE_SECONDS = 30

/**
 * A number of slots that all threads of a process share. Within a thread they are given in the order of asking;
 * a slot that another thread gives back is noticed at the next look, some milliseconds later. A thread that does
 * not come to renew its leases for half a minute may find its slot given away, which makes one call too many.
 */
export class SharedSlots {
  /** In each slot the second at which it comes free, 0 for a free one. */
  readonly #slots: Int32Array<SharedArrayBuffer>
  readonly #nowSeconds: () => number
  /** Slots that this thread holds, with what it wrote there. */
  readonly #held = new Map<number, number>()
  #last: Promise<void> = Promise.resolve()
  #given = Promise.withResolvers<void>()
  #renewal: NodeJS.Timeout | undefined

  constructor(slots: Int32Array<SharedArrayBuffer>, nowSeconds: () => number) {
    this.#slots = slots
    this.#nowSeconds = nowSeconds
  }

  async take(signal: AbortSignal | undefined): Promise<number> {
    const before = this.#last
    const turn = Promise.withResolvers<void>()
    this.#last = turn.promise
    try {
      await until(before, signal)
      for (;;) {
        signal?.throwIfAborted()
        const slot = this.#findFree()
        if (slot !== undefined) return slot
        await until(Promise.race([this.#given.promise, delay(POLL_MS)]), signal)
      }
    } finally {
      // Who gave up waiting hands on the turn, not before it has come.
      void before.then(turn.resolve)
    }
  }

  give(slot: number): void {
    const until = this.#held.get(slot)
    this.#held.delete(slot)
    if (until !== undefined) Atomics.compareExchange(this.#slots, slot, until, 0)
    if (this.#held.size === 0) {
      clearInterval(this.#renewal)
      this.#renewal = undefined
    }
    this.#given.resolve()
    this.#given = Promise.withResolvers()
  }

  #findFree(): number | undefined {
    const now = this.#nowSeconds()
    for (let slot = 0; slot < this.#slots.length; slot++) {
      const until = Atomics.load(this.#slots, slot)
      if (until > now || this.#held.has(slot)) continue
      if (Atomics.compareExchange(this.#slots, slot, until, now + LEASE_SECONDS) === until) {
        this.#held.set(slot, now + LEASE_SECONDS)
        this.#renewal ??= setInterval(() => this.renew(), (LEASE_SECONDS * 1000) / 3).unref()
        return slot
      }
    }
    return undefined
  }

  /** Called by a timer while slots are held. */
  renew(): void {
    const next = this.#nowSeconds() + LEASE_SECONDS
    for (const [slot, until] of this.#held) {
      if (Atomics.compareExchange(this.#slots, slot, until, next) === until) this.#held.set(slot, next)
    }
  }
}

/** Settles as `wanted` does, or rejects with the signal's reason as soon as that fires. */
async function until(wanted: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return wanted
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    await Promise.race([wanted, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
