import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

/** Below this another look at the file costs more than it saves. */
export const DIRECT_BYTES_MIN = 1024 * 1024
/** Every disk in use takes direct writes that begin and end at multiples of this. */
const BLOCK_BYTES = 4096
const PIECE_BYTES = 32 * 1024 * 1024

/**
 * Writes the front of `bytes` to the front of a file, past the page cache, and answers how much of it, maybe nothing: the
 * rest is to be written the usual way. Filling the cache with a pack costs more processor time than encrypting it, and
 * takes from the cache what machines read. A file system without such writes, and memory that does not begin at a page,
 * refuse. As after any write the caller has to sync.
 */
export async function writeDirect(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<number> {
  if (bytes.length < DIRECT_BYTES_MIN || constants.O_DIRECT === undefined) return 0
  const endBytes = Math.floor(bytes.length / BLOCK_BYTES) * BLOCK_BYTES
  let done = 0
  try {
    const file = await open(path, constants.O_WRONLY | constants.O_DIRECT)
    try {
      while (done < endBytes) {
        signal?.throwIfAborted()
        const { bytesWritten } = await file.write(bytes, done, Math.min(endBytes - done, PIECE_BYTES), done)
        done += bytesWritten
      }
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
    if (code !== 'EINVAL' && code !== 'ENOTSUP') throw error
  }
  return done
}
