import { SLAB_BYTES } from './export-runs.ts'

/** Of three readers. */
const IDLE_COUNT_MAX = 16

/**
 * Memory that goes to the export threads, comes back filled, and goes to them again: fresh memory for each piece, and what the
 * garbage collector does about it, cost more than decrypting what is in it.
 */
export class ExportSlabs {
  readonly #idle: ArrayBuffer[] = []

  take(): ArrayBuffer {
    return this.#idle.pop() ?? new ArrayBuffer(SLAB_BYTES)
  }

  /** Nobody reads it any more. */
  give(slab: ArrayBuffer): void {
    if (this.#idle.length < IDLE_COUNT_MAX) this.#idle.push(slab)
  }

  clear(): void {
    this.#idle.length = 0
  }
}
