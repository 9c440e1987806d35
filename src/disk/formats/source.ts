import assert from 'node:assert/strict'
import type { ByteSource } from './contract.ts'

/** A file that is in memory already. */
export function bufferSource(bytes: Uint8Array): ByteSource {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    sizeBytes: whole.length,
    read: (offset, lengthBytes, signal) => {
      signal?.throwIfAborted()
      assertInside(offset, lengthBytes, whole.length)
      return Promise.resolve(Buffer.from(whole.subarray(offset, offset + lengthBytes)))
    },
  }
}

/**
 * [offset, offset + lengthBytes) of `source` as a source of its own. The caller has checked that this lies inside: a
 * number out of a file is checked before it comes here.
 */
export function slice(source: ByteSource, offset: number, lengthBytes: number): ByteSource {
  assertInside(offset, lengthBytes, source.sizeBytes)
  return {
    sizeBytes: lengthBytes,
    read: (from, length, signal) => {
      assertInside(from, length, lengthBytes)
      return source.read(offset + from, length, signal)
    },
  }
}

/** As `source`, with a count of what is read of it: for tests of bounds, and for people who ask why it took so long. */
export function countingSource(source: ByteSource): ByteSource & {
  readonly count: { calls: number; bytes: number; longestBytes: number }
} {
  const count = { calls: 0, bytes: 0, longestBytes: 0 }
  return {
    sizeBytes: source.sizeBytes,
    count,
    read: (offset, lengthBytes, signal) => {
      count.calls += 1
      count.bytes += lengthBytes
      count.longestBytes = Math.max(count.longestBytes, lengthBytes)
      return source.read(offset, lengthBytes, signal)
    },
  }
}

/** As much of [offset, offset + lengthBytes) as the file has; for marks, which a short file simply does not bear. */
export async function readUpTo(
  source: ByteSource,
  offset: number,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const from = Math.max(0, Math.min(offset, source.sizeBytes))
  const to = Math.max(from, Math.min(offset + lengthBytes, source.sizeBytes))
  return from === to ? Buffer.alloc(0) : await source.read(from, to - from, signal)
}

/** An assertion, not a fault: whoever reads has checked the numbers of the file, and refused those that lead outside. */
function assertInside(offset: number, lengthBytes: number, sizeBytes: number): void {
  assert(Number.isSafeInteger(offset) && offset >= 0, 'offset inside the file')
  assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, 'length inside the file')
  assert(offset + lengthBytes <= sizeBytes, 'end inside the file')
}
