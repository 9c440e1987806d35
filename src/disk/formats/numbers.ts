import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'

export const SECTOR_BYTES = 512

/** Unsigned 64 bits, low byte first. A number past 2^53 is no place and no size in any file: 'tables'. */
export function uint64LE(bytes: Buffer, at: number): number {
  return safe(bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at))
}

/** Unsigned 64 bits, high byte first, as above. */
export function uint64BE(bytes: Buffer, at: number): number {
  return safe(bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4))
}

function safe(high: number, low: number): number {
  if (high >= 0x200000) {
    throw refuseFile(
      'tables',
      'A number in the file is larger than any disk: the file is damaged, or made to do harm. Export it again.',
    )
  }
  return high * 0x100000000 + low
}

export function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}

/**
 * Bytes [offset, offset + lengthBytes) where they are all inside the file, 'truncated' where not. Both numbers may come
 * out of the file itself; `lengthBytes` is bounded by whoever calls.
 */
export async function readInside(
  source: ByteSource,
  offset: number,
  lengthBytes: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  if (!isInside(source, offset, lengthBytes)) throw refuseTruncated()
  return await source.read(offset, lengthBytes, signal)
}

export function isInside(source: ByteSource, offset: number, lengthBytes: number): boolean {
  const end = offset + lengthBytes
  return offset >= 0 && lengthBytes >= 0 && Number.isSafeInteger(end) && end <= source.sizeBytes
}

export function refuseTruncated() {
  return refuseFile(
    'truncated',
    'The file points behind its own end: it was cut short, or it is damaged. Compare its size with the original and bring it again.',
  )
}

/** The disk as a guest sees it: whole sectors, at least one, and no more than is allowed. */
export function checkVirtualSize(virtualBytes: number, virtualBytesMax: number): void {
  if (virtualBytes > virtualBytesMax) {
    throw refuseFile(
      'too-large',
      `The disk in the file is larger than the ${virtualBytesMax} bytes that are allowed here. Shrink the disk, or ask for a higher limit.`,
    )
  }
  if (virtualBytes === 0 || virtualBytes % SECTOR_BYTES !== 0) {
    throw refuseFile(
      'size',
      'The size of the disk in the file is not a whole number of 512-byte sectors, or it is nothing. Make or send the file again.',
    )
  }
}
