import type { Disk, Extent } from './contract.ts'
import { appendExtent, assertInside } from './extents.ts'

/** A disk over `content`, which it does not copy. Blocks of `blockBytes` that hold only zeroes are 'zero'. */
export function memoryDisk(content: Uint8Array, blockBytes = 4096): Disk {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.length)
  const zeroes = Buffer.alloc(blockBytes)
  return {
    sizeBytes: bytes.length,
    async read(offset, lengthBytes, signal) {
      assertInside(bytes.length, offset, lengthBytes)
      signal?.throwIfAborted()
      return Buffer.from(bytes.subarray(offset, offset + lengthBytes))
    },
    async extents(offset, lengthBytes, signal) {
      assertInside(bytes.length, offset, lengthBytes)
      signal?.throwIfAborted()
      const extents: Extent[] = []
      const end = offset + lengthBytes
      for (let at = offset; at < end; ) {
        const next = Math.min(end, (Math.floor(at / blockBytes) + 1) * blockBytes)
        const isZero = bytes.compare(zeroes, 0, next - at, at, next) === 0
        appendExtent(extents, next - at, isZero ? 'zero' : 'data', offset)
        at = next
      }
      return extents
    },
    async close() {},
  }
}
