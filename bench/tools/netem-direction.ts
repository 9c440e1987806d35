import type { Line } from './netem-relay.ts'

/** What a router keeps for a line that is busy. */
const QUEUE_MS = 50
/** So soon after there was room in the queue somebody is let in: the line runs dry only where we wake up later than all of it takes. */
const PUMP_MS = 5
/** What a socket brings at most. */
const READ_BYTES = 64 * 1024

/** One direction of a line, whose time is given to what comes in the order in which it comes. */
export class Direction {
  readonly #bytesPerMs: number
  readonly #delayMs: number
  /** Those that are to read on, each of which takes its turn. */
  readonly #waiting: (() => void)[] = []
  #freeAtMs = 0
  #pump: NodeJS.Timeout | undefined

  constructor({ bytesPerSecond, delayMs }: Line) {
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#delayMs = delayMs
  }

  /** Takes the line's next free time for so many bytes; when they arrive. */
  arriveAtMs(lengthBytes: number): number {
    this.#freeAtMs = Math.max(this.#freeAtMs, performance.now()) + lengthBytes / this.#bytesPerMs
    return this.#freeAtMs + this.#delayMs
  }

  /** Calls `read` when it is its turn and the queue has room. One that reads once for each turn has as much of the line as any other. */
  takeTurn(read: () => void): void {
    this.#waiting.push(read)
    this.#admit()
  }

  #admit(): void {
    if (this.#pump !== undefined) return
    let queuedMs = this.#freeAtMs - performance.now()
    while (queuedMs <= QUEUE_MS) {
      const read = this.#waiting.shift()
      if (read === undefined) return
      read()
      // It comes later, if there is anything to be read.
      queuedMs = Math.max(0, queuedMs) + READ_BYTES / this.#bytesPerMs
    }
    const wait = () => {
      this.#pump = undefined
      this.#admit()
    }
    this.#pump = setTimeout(wait, Math.max(PUMP_MS, queuedMs - QUEUE_MS))
  }
}
