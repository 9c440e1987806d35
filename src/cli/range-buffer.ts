import { createHash, type Hash } from 'node:crypto'
import { isAllZero, zeroes } from './zero.ts'

export interface Piece {
  readonly lengthBytes: number
  /** Undefined: nothing but zeroes. */
  readonly bytes: Buffer | undefined
}

/**
 * Takes in one range after another, hashing as it comes. Most of a disk is empty: zeroes before anything else are counted,
 * neither copied nor hashed, and the digest of a range of nothing else is known from the one before.
 */
export interface RangeBuffer {
  /** Begins anew. */
  clear(): void
  /** Not beyond the length it was made for. */
  append(chunk: Uint8Array): void
  /** SHA-256 in base64 of what came since `clear`. Nothing comes behind it. */
  digest(): string
  /** What came; good until the next `clear`. */
  piece(): Piece
}

/** Buffers that are used again: to make one costs more than to fill it. */
export interface Shelf {
  take(): RangeBuffer
  giveBack(buffer: RangeBuffer): void
}

export function createShelf(lengthBytesMax: number): Shelf {
  const free: RangeBuffer[] = []
  const zeroDigests = new Map<number, string>()
  const digestOfZeroes = (lengthBytes: number): string => {
    const known = zeroDigests.get(lengthBytes)
    if (known !== undefined) return known
    const made = hashZeroes(lengthBytes).digest('base64')
    zeroDigests.set(lengthBytes, made)
    return made
  }
  return {
    take: () => free.pop() ?? createRangeBuffer(lengthBytesMax, digestOfZeroes),
    giveBack: (buffer) => void free.push(buffer),
  }
}

function hashZeroes(lengthBytes: number): Hash {
  const hash = createHash('sha256')
  for (const part of zeroes(lengthBytes)) hash.update(part)
  return hash
}

function createRangeBuffer(
  lengthBytesMax: number,
  digestOfZeroes: (lengthBytes: number) => string,
): RangeBuffer {
  let whole: Buffer | undefined
  let lengthBytes = 0
  /** Undefined as long as there was nothing but zeroes. */
  let hash: Hash | undefined
  return {
    clear() {
      lengthBytes = 0
      hash = undefined
    },
    append(chunk) {
      if (hash === undefined && !isAllZero(chunk)) {
        whole ??= Buffer.allocUnsafe(lengthBytesMax)
        whole.fill(0, 0, lengthBytes)
        hash = hashZeroes(lengthBytes)
      }
      hash?.update(chunk)
      if (hash !== undefined) whole?.set(chunk, lengthBytes)
      lengthBytes += chunk.length
    },
    digest: () => hash?.digest('base64') ?? digestOfZeroes(lengthBytes),
    piece: () => ({ lengthBytes, bytes: hash === undefined ? undefined : whole?.subarray(0, lengthBytes) }),
  }
}
