import { readSync } from 'node:fs'
import { Fault } from '../../image/fault.ts'

/** Holds what QEMU asks for at once: clusters, grains, and our own reads of whole chunks. */
const SLAB_BYTES = 256 * 1024
/** Kept for the next reads, so that a reader with many under way makes no fresh memory either. */
const IDLE_COUNT_MAX = 16

/** Memory that a file is read into, again and again: fresh pages for each read cost as much as the read. */
export interface FileSlabs {
  /**
   * Bytes [offset, offset + lengthBytes) of the file behind `descriptor`. Waits in the thread, which has nothing else to do:
   * most of it lies in the kernel's memory already. Throws Fault 'unavailable' 'file'.
   */
  read(descriptor: number, offset: number, lengthBytes: number): Uint8Array
  /** Nobody looks at what `read` gave any more. To be called once for each; without it, the memory is left to the collector. */
  release(bytes: Uint8Array): void
}

export function fileSlabs(): FileSlabs {
  const idle: ArrayBufferLike[] = []
  return {
    read(descriptor, offset, lengthBytes) {
      const bytes =
        lengthBytes > SLAB_BYTES
          ? Buffer.allocUnsafeSlow(lengthBytes)
          : new Uint8Array(idle.pop() ?? new ArrayBuffer(SLAB_BYTES), 0, lengthBytes)
      for (let at = 0; at < lengthBytes; ) {
        const countBytes = readAt(descriptor, bytes, at, offset)
        if (countBytes === 0) throw fileCut()
        at += countBytes
      }
      return bytes
    },
    release({ buffer }) {
      if (buffer.byteLength === SLAB_BYTES && idle.length < IDLE_COUNT_MAX) idle.push(buffer)
    },
  }
}

function readAt(descriptor: number, bytes: Uint8Array, at: number, offset: number): number {
  try {
    return readSync(descriptor, bytes, at, bytes.length - at, offset + at)
  } catch (cause) {
    const message = 'The file cannot be read. See that its disk is well, then try again.'
    throw new Fault('unavailable', message, { subject: 'file', cause })
  }
}

export function fileCut(): Fault {
  const message = 'The file became shorter while it was read. Put it there whole, and try again.'
  return new Fault('unavailable', message, { subject: 'file' })
}
