import { createHash } from 'node:crypto'

/** 16 bytes for one use inside a file, the same whenever it is made. */
export function idFrom(seed: Uint8Array, use: string): Buffer {
  return createHash('sha256').update(seed).update(use).digest().subarray(0, 16)
}
