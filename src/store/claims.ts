import assert from 'node:assert/strict'
import { ID_BYTES } from './hashes.ts'

const SLOT_WORDS = ID_BYTES / 4
const EMPTY = 0
const WRITING = 1
const TAKEN = 2
/** 128 MiB: enough for 1 TiB of distinct data in chunks of 256 KiB. */
const SLOT_COUNT_MAX = 4 * 1024 * 1024

/**
 * Which chunks some thread of this session has taken on, so that no two store the same one. A hash table in shared
 * memory without locks; the ids are keyed hashes, so they need no hashing of their own. The first word of a slot is
 * its state, the other seven hold 224 bits of the id.
 */
export class ClaimTable {
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #slotMask: number

  /** Shares a table made by `newClaims`. */
  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory)
    this.#slotMask = this.#words.length / SLOT_WORDS - 1
  }

  /**
   * True if the caller is the first and has to store the chunk. When the table is full the answer is true as well:
   * a chunk stored twice is waste, a chunk that nobody stores is a loss.
   */
  claim(id: Buffer): boolean {
    let slot = id.readUInt32LE(ID_BYTES - 4) & this.#slotMask
    for (let step = 0; step < 512; step++) {
      const at = slot * SLOT_WORDS
      if (Atomics.compareExchange(this.#words, at, EMPTY, WRITING) === EMPTY) {
        for (let i = 1; i < SLOT_WORDS; i++) this.#words[at + i] = id.readInt32LE(4 * i)
        Atomics.store(this.#words, at, TAKEN)
        return true
      }
      // The other thread is between two stores, so this ends within nanoseconds.
      while (Atomics.load(this.#words, at) === WRITING);
      if (this.#holds(at, id)) return false
      slot = (slot + 1) & this.#slotMask
    }
    return true
  }

  #holds(at: number, id: Buffer): boolean {
    for (let i = 1; i < SLOT_WORDS; i++) if (this.#words[at + i] !== id.readInt32LE(4 * i)) return false
    return true
  }
}

/** Memory for the claims of a session that may meet up to `chunkCount` distinct chunks. */
export function newClaims(chunkCount: number): SharedArrayBuffer {
  assert(chunkCount >= 0)
  const slotCount = 2 ** Math.ceil(Math.log2(Math.max(1024, chunkCount * 2)))
  return new SharedArrayBuffer(Math.min(slotCount, SLOT_COUNT_MAX) * SLOT_WORDS * 4)
}
