import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ByteSource } from './contract.ts'
import { readUpTo } from './source.ts'

/** What is read, and in memory, at once. */
export const WINDOW_BYTES = 1024 * 1024
/** Tables no further apart are read together: a read costs as much as these bytes. */
const GAP_BYTES = 64 * 1024
/** How many reads may pass until others have a turn: a source that is in memory never lets go by itself. */
const TURN_READ_COUNT = 64
const TURN_BYTES = 2 * WINDOW_BYTES

/** Where all formats have their marks: the head holds the first volume descriptors of an ISO, the tail a footer. */
const HEAD_BYTES = 64 * 1024
const TAIL_BYTES = 4 * 1024

/** `source` with its two ends in memory, where a dozen formats look for their marks. */
export async function withEnds(source: ByteSource, signal?: AbortSignal): Promise<ByteSource> {
  const head = await readUpTo(source, 0, HEAD_BYTES, signal)
  const tailOffset = Math.max(head.length, source.sizeBytes - TAIL_BYTES)
  const tail = await readUpTo(source, tailOffset, TAIL_BYTES, signal)
  return {
    sizeBytes: source.sizeBytes,
    read: async (offset, lengthBytes, readSignal) => {
      const end = offset + lengthBytes
      if (offset >= 0 && end <= head.length) return head.subarray(offset, end)
      if (offset >= tailOffset && end <= tailOffset + tail.length) {
        return tail.subarray(offset - tailOffset, end - tailOffset)
      }
      return await source.read(offset, lengthBytes, readSignal)
    },
  }
}

/**
 * Reads the tables of one file in windows of at most `WINDOW_BYTES`, and lets others have a turn now and then. What is
 * asked for lies inside the file: the caller has checked. `visit` is given views that live until it returns.
 */
export class TableWalk {
  readonly #source: ByteSource
  readonly #signal: AbortSignal | undefined
  #readCount = 0
  #readBytes = 0

  constructor(source: ByteSource, signal: AbortSignal | undefined) {
    this.#source = source
    this.#signal = signal
  }

  /** [offset, offset + lengthBytes) in pieces; `at` is where in it a piece begins, a multiple of the window. */
  async visitRange(
    offset: number,
    lengthBytes: number,
    visit: (bytes: Buffer, at: number) => void | Promise<void>,
  ): Promise<void> {
    for (let at = 0; at < lengthBytes; at += WINDOW_BYTES) {
      await visit(await this.#read(offset + at, Math.min(WINDOW_BYTES, lengthBytes - at)), at)
    }
  }

  /**
   * The tables of `tableBytes` that begin at `offsets`, each whole or in pieces where it is larger than a window. Sorts
   * `offsets`: read in the order of the file, tables that lie among the data cost one pass over it at most.
   */
  async visitTables(
    offsets: Float64Array,
    tableBytes: number,
    visit: (bytes: Buffer) => void,
  ): Promise<void> {
    offsets.sort()
    for (let index = 0; index < offsets.length; ) {
      const from = offsetOf(offsets, index)
      if (tableBytes > WINDOW_BYTES) {
        await this.visitRange(from, tableBytes, visit)
        index += 1
        continue
      }
      let last = index
      while (last + 1 < offsets.length) {
        const next = offsetOf(offsets, last + 1)
        const isNear = next - offsetOf(offsets, last) - tableBytes <= GAP_BYTES
        if (!isNear || next + tableBytes - from > WINDOW_BYTES) break
        last += 1
      }
      const bytes = await this.#read(from, offsetOf(offsets, last) + tableBytes - from)
      for (; index <= last; index += 1) {
        const at = offsetOf(offsets, index) - from
        visit(bytes.subarray(at, at + tableBytes))
      }
    }
  }

  async #read(offset: number, lengthBytes: number): Promise<Buffer> {
    this.#readCount += 1
    this.#readBytes += lengthBytes
    if (this.#readCount >= TURN_READ_COUNT || this.#readBytes >= TURN_BYTES) {
      this.#readCount = 0
      this.#readBytes = 0
      await nextTurn()
    }
    this.#signal?.throwIfAborted()
    return await this.#source.read(offset, lengthBytes, this.#signal)
  }
}

function offsetOf(offsets: Float64Array, index: number): number {
  const offset = offsets[index]
  assert(offset !== undefined)
  return offset
}
