import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import zlib from 'node:zlib'

/**
 * Replaces what no seed decides in modules of Node, before the store imports them: to be imported first.
 */

/** Paths of simulated indexes begin so: SQLite keeps them in the memory of this process. */
export const INDEX_PREFIX = 'file:/simulated-'

// Decompression would run on a thread pool, in whatever order.
const { zstdDecompressSync } = zlib
zlib.zstdDecompress = ((
  bytes: Uint8Array,
  options: object,
  done: (error: unknown, plain?: Buffer) => void,
) => {
  let plain: Buffer
  try {
    plain = zstdDecompressSync(bytes, options)
  } catch (error) {
    done(error)
    return
  }
  done(null, plain)
}) as unknown as typeof zlib.zstdDecompress

// An index in memory has no log to sync; what a power cut leaves of it is the simulation's to say.
const NO_FILE = -1
const { openSync, fdatasyncSync, closeSync } = fs
fs.openSync = ((path: string, ...rest: [string]) =>
  String(path).startsWith(INDEX_PREFIX) ? NO_FILE : openSync(path, ...rest)) as typeof fs.openSync
fs.fdatasyncSync = (file) => {
  if (file !== NO_FILE) fdatasyncSync(file)
}
fs.closeSync = (file) => {
  if (file !== NO_FILE) closeSync(file)
}

syncBuiltinESMExports()

const POOLED_BYTES_MIN = 256 * 1024
const { allocUnsafeSlow } = Buffer
const free = new Map<number, Buffer<ArrayBuffer>[]>()
const taken: Buffer<ArrayBuffer>[] = []

// Pack buffers are of megabytes, and to get and give back thousands of them would take longer than all the rest.
Buffer.allocUnsafeSlow = (sizeBytes) => {
  if (sizeBytes < POOLED_BYTES_MIN) return allocUnsafeSlow(sizeBytes)
  const buffer = free.get(sizeBytes)?.pop() ?? allocUnsafeSlow(sizeBytes)
  taken.push(buffer)
  return buffer
}

/** Between two simulations: big buffers of the last one are nobody's any more. */
export function reuseBuffers(): void {
  for (const buffer of taken.splice(0)) {
    const others = free.get(buffer.length)
    if (others === undefined) free.set(buffer.length, [buffer])
    else others.push(buffer)
  }
}
