import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ByteSource } from './contract.ts'

/** As large as a chunk of the store, and aligned like one: a chunk is then decrypted once, however small the reads. */
const BLOCK_BYTES = 256 * 1024
const BLOCKS_MAX = 8
/** How many blocks may be read until others have a turn: a source that is in memory never lets go by itself. */
const TURN_BLOCK_COUNT = 16

/**
 * `source`, read in whole blocks, the last few of which are kept (2 MiB). For tables and marks that lie close together
 * and are read a few bytes at a time.
 */
export function cachedSource(source: ByteSource): ByteSource {
  const blocks = new Map<number, Buffer>()
  let readCount = 0

  const block = async (index: number, signal: AbortSignal | undefined): Promise<Buffer> => {
    const kept = blocks.get(index)
    if (kept !== undefined) {
      blocks.delete(index)
      blocks.set(index, kept)
      return kept
    }
    readCount += 1
    if (readCount % TURN_BLOCK_COUNT === 0) await nextTurn()
    signal?.throwIfAborted()
    const offset = index * BLOCK_BYTES
    const bytes = await source.read(offset, Math.min(BLOCK_BYTES, source.sizeBytes - offset), signal)
    blocks.set(index, bytes)
    const oldest = blocks.size > BLOCKS_MAX ? blocks.keys().next() : undefined
    if (oldest !== undefined && oldest.done !== true) blocks.delete(oldest.value)
    return bytes
  }

  return {
    sizeBytes: source.sizeBytes,
    read: async (offset, lengthBytes, signal) => {
      const last = Math.floor((offset + lengthBytes - 1) / BLOCK_BYTES)
      const first = Math.floor(offset / BLOCK_BYTES)
      if (lengthBytes === 0 || last - first > 1) return await source.read(offset, lengthBytes, signal)
      const from = offset - first * BLOCK_BYTES
      if (first === last) return (await block(first, signal)).subarray(from, from + lengthBytes)
      const head = (await block(first, signal)).subarray(from)
      const tail = (await block(last, signal)).subarray(0, lengthBytes - head.length)
      return Buffer.concat([head, tail])
    },
  }
}
