import assert from 'node:assert'
import type { Bits } from './model.ts'

/** A bitmap over `bytes`, lowest bit first, as NTFS keeps them. Changes `bytes` in place. */
export class BitArray implements Bits {
  readonly bitCount: number
  readonly bytes: Buffer
  isChanged = false

  constructor(bitCount: number, bytes: Buffer = Buffer.alloc(Math.ceil(bitCount / 8))) {
    assert(bytes.length * 8 >= bitCount)
    this.bitCount = bitCount
    this.bytes = bytes
  }

  has(index: number): boolean {
    assert(index >= 0 && index < this.bitCount)
    return ((this.bytes[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
  }

  set(index: number, length: number, value: boolean): void {
    assert(index >= 0 && length >= 0 && index + length <= this.bitCount)
    this.isChanged = true
    const end = index + length
    let at = index
    for (; at < end && (at & 7) !== 0; at += 1) this.#setOne(at, value)
    const wholeEnd = end - (end & 7)
    if (at < wholeEnd) {
      this.bytes.fill(value ? 0xff : 0, at >>> 3, wholeEnd >>> 3)
      at = wholeEnd
    }
    for (; at < end; at += 1) this.#setOne(at, value)
  }

  next(from: number, value: boolean, end = this.bitCount): number {
    const skip = value ? 0 : 0xff
    let at = from
    while (at < end) {
      const byte = this.bytes[at >>> 3] ?? 0
      if ((at & 7) === 0 && byte === skip) {
        at += 8
      } else if (((byte & (1 << (at & 7))) !== 0) === value) {
        return at
      } else {
        at += 1
      }
    }
    return end
  }

  isAll(index: number, length: number, value: boolean): boolean {
    assert(index >= 0 && length >= 0 && index + length <= this.bitCount)
    // Not `next`: it would look on to the end of the bitmap where the whole rest is of one kind.
    const end = index + length
    const whole = value ? 0xff : 0
    for (let at = index; at < end; ) {
      const byte = this.bytes[at >>> 3] ?? 0
      if ((at & 7) === 0 && at + 8 <= end) {
        if (byte !== whole) return false
        at += 8
      } else {
        if (((byte & (1 << (at & 7))) !== 0) !== value) return false
        at += 1
      }
    }
    return true
  }

  count(value: boolean): number {
    let ones = 0
    const whole = this.bitCount >>> 3
    for (let index = 0; index < whole; index += 1) ones += ONES[this.bytes[index] ?? 0] ?? 0
    for (let index = whole * 8; index < this.bitCount; index += 1) ones += this.has(index) ? 1 : 0
    return value ? ones : this.bitCount - ones
  }

  #setOne(index: number, value: boolean): void {
    const byte = this.bytes[index >>> 3] ?? 0
    const bit = 1 << (index & 7)
    this.bytes[index >>> 3] = value ? byte | bit : byte & ~bit
  }
}

const ONES = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length)
