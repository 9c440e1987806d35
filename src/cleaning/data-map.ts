import assert from 'node:assert/strict'
import type { Extent } from '../disk/contract.ts'
import type { Run } from '../volume/contract.ts'

/** The grain at which data is told from zeroes; that of the overlays' subclusters. */
export const BLOCK_BYTES = 4096
/** Of maps that are not all zeroes: 2 TiB of disk in pieces, and any size that is empty. The oldest are forgotten. */
const MAP_BYTES_MAX = 64 * 1024 * 1024
/** Stands for the map of any window without data: most of a large disk. Nobody writes to it. */
const EMPTY = new Uint8Array(0)

/**
 * Which blocks of a disk may hold data, as far as somebody asked: by windows of `windowBytes`, known or not known as one. Block
 * `n` holds [n * BLOCK_BYTES, …). A block that is not data reads as zeroes for certain.
 */
export class DataMap {
  readonly windowBytes: number
  readonly #windowBlocks: number
  readonly #windows = new Map<number, Uint8Array>()

  constructor(windowBytes: number) {
    assert(windowBytes % (8 * BLOCK_BYTES) === 0)
    this.windowBytes = windowBytes
    this.#windowBlocks = windowBytes / BLOCK_BYTES
  }

  isKnown(window: number): boolean {
    return this.#windows.has(window)
  }

  /** What the disk's server said of a window, or of the part of it that the disk has. */
  learn(window: number, extents: readonly Extent[]): void {
    const base = window * this.#windowBlocks
    let bits = EMPTY
    for (const { offset, lengthBytes, holds } of extents) {
      if (holds === 'zero') continue
      const first = Math.floor(offset / BLOCK_BYTES) - base
      const end = Math.ceil((offset + lengthBytes) / BLOCK_BYTES) - base
      assert(first >= 0 && end <= this.#windowBlocks, 'what is learned of a window lies inside of it')
      if (bits === EMPTY) bits = this.#newBits()
      setBits(bits, first, end, true)
    }
    this.#windows.delete(window)
    this.#windows.set(window, bits)
    const countMax = Math.max(1, Math.floor(MAP_BYTES_MAX / (this.#windowBlocks / 8)))
    if (bits === EMPTY || this.#windows.size <= countMax) return
    let count = 0
    for (const one of this.#windows.values()) if (one !== EMPTY) count++
    for (const [oldest, one] of this.#windows) {
      if (count <= countMax) break
      if (one === EMPTY) continue
      this.#windows.delete(oldest)
      count--
    }
  }

  /** Every block that the range touches holds data from now on. */
  wrote(from: number, to: number): void {
    this.#mark(Math.floor(from / BLOCK_BYTES), Math.ceil(to / BLOCK_BYTES), true)
  }

  /** Every block that lies inside the range is zero from now on; `to` may be the end of the disk. */
  zeroed(from: number, to: number, isToEnd: boolean): void {
    const end = isToEnd ? Math.ceil(to / BLOCK_BYTES) : Math.floor(to / BLOCK_BYTES)
    this.#mark(Math.ceil(from / BLOCK_BYTES), end, false)
  }

  /** The parts of a range inside one window, which is known, that may hold data, cut to the range. */
  *runs(window: number, from: number, to: number): Generator<Run> {
    const bits = this.#windows.get(window)
    assert(bits !== undefined, 'a window is learned before it is used')
    if (bits === EMPTY) return
    const start = window * this.windowBytes
    const end = Math.ceil((to - start) / BLOCK_BYTES)
    for (let at = Math.floor((from - start) / BLOCK_BYTES); at < end; ) {
      const first = nextBit(bits, at, end, true)
      if (first >= end) return
      at = nextBit(bits, first, end, false)
      const offset = Math.max(from, start + first * BLOCK_BYTES)
      yield { offset, lengthBytes: Math.min(to, start + at * BLOCK_BYTES) - offset }
    }
  }

  forget(): void {
    this.#windows.clear()
  }

  #mark(first: number, end: number, isData: boolean): void {
    for (let at = first; at < end; ) {
      const window = Math.floor(at / this.#windowBlocks)
      const next = Math.min(end, (window + 1) * this.#windowBlocks)
      const base = window * this.#windowBlocks
      let bits = this.#windows.get(window)
      if (bits === EMPTY && isData) {
        bits = this.#newBits()
        this.#windows.set(window, bits)
      }
      if (bits !== undefined && bits !== EMPTY) setBits(bits, at - base, next - base, isData)
      at = next
    }
  }

  #newBits(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#windowBlocks / 8)
  }
}

function setBits(bits: Uint8Array, first: number, end: number, isSet: boolean): void {
  for (let at = first; at < end; ) {
    if (at % 8 === 0 && end - at >= 8) {
      const wholeEnd = at + (end - at) - ((end - at) % 8)
      bits.fill(isSet ? 0xff : 0, at / 8, wholeEnd / 8)
      at = wholeEnd
      continue
    }
    const mask = 1 << (at % 8)
    const byte = bits[at >> 3] ?? 0
    bits[at >> 3] = isSet ? byte | mask : byte & ~mask
    at++
  }
}

/** The first position from `at` on, below `end`, where the bit is as asked; `end` if there is none. */
function nextBit(bits: Uint8Array, at: number, end: number, isSet: boolean): number {
  const dull = isSet ? 0 : 0xff
  while (at < end) {
    const byte = bits[at >> 3] ?? 0
    if (at % 8 === 0 && byte === dull) at += 8
    else if (((byte >> (at % 8)) & 1) === (isSet ? 1 : 0)) return at
    else at++
  }
  return end
}
