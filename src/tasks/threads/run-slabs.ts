import type { Piece } from '../../disk/contract.ts'
import { rawFile } from '../../disk/file-disk.ts'
import type { FileRun } from '../../disk/formats/file-runs.ts'

/** Holds our own reads of whole chunks. */
const SLAB_BYTES = 256 * 1024
/** Of two threads that each read four chunks ahead, and some more. */
const IDLE_COUNT_MAX = 16

/** Memory that runs of a file are read into, again and again: fresh pages for each read cost as much as the read. */
export interface RunSlabs {
  /**
   * The bytes of `runs`, whose places lie `shiftBytes` further on in the file, as pieces in one slab. Waits in the thread.
   * Throws Fault 'unavailable'.
   */
  read(runs: readonly FileRun[], shiftBytes: number): readonly Piece[]
  /** Nobody looks at what one `read` gave any more. To be called once for each. */
  release(pieces: readonly Piece[]): void
}

/** `descriptor`: of a file that somebody of this process holds open. */
export function runSlabs(descriptor: number): RunSlabs {
  const idle: ArrayBufferLike[] = []
  const file = rawFile(descriptor)
  const take = (lengthBytes: number) =>
    lengthBytes > SLAB_BYTES
      ? Buffer.allocUnsafeSlow(lengthBytes)
      : new Uint8Array(idle.pop() ?? new ArrayBuffer(SLAB_BYTES))
  const release = (pieces: readonly Piece[]) => {
    const buffer = pieces.find(({ bytes }) => bytes !== undefined)?.bytes?.buffer
    if (buffer?.byteLength === SLAB_BYTES && idle.length < IDLE_COUNT_MAX) idle.push(buffer)
  }
  return {
    read(runs, shiftBytes) {
      const dataBytes = runs.reduce(
        (sum, { place, lengthBytes }) => sum + (place === undefined ? 0 : lengthBytes),
        0,
      )
      const pieces: { lengthBytes: number; bytes: Uint8Array | undefined }[] = []
      if (dataBytes === 0) return runs.map(({ lengthBytes }) => ({ lengthBytes, bytes: undefined }))
      const slab = take(dataBytes)
      let at = 0
      for (const { place, lengthBytes } of runs) {
        if (place === undefined) {
          pieces.push({ lengthBytes, bytes: undefined })
          continue
        }
        file.readInto(slab.subarray(at, at + lengthBytes), shiftBytes + place)
        const last = pieces.at(-1)
        // Neighbours on the disk are neighbours in the slab, wherever in the file they are.
        if (last?.bytes === undefined)
          pieces.push({ lengthBytes, bytes: slab.subarray(at, at + lengthBytes) })
        else {
          last.lengthBytes += lengthBytes
          last.bytes = slab.subarray(at + lengthBytes - last.lengthBytes, at + lengthBytes)
        }
        at += lengthBytes
      }
      return pieces
    },
    release,
  }
}
