import { readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Fault, isFault } from '../image/fault.ts'
import type { Disk, Extent } from './contract.ts'
import { appendExtent, assertInside } from './extents.ts'

/**
 * A regular file read as a raw disk; its size is the file's when opened. Throws Fault 'absent' or 'invalid' if there
 * is no such file. Everything is 'data', because Node cannot ask a file for its holes: where holes matter, let
 * `qemu-nbd` serve the file.
 */
export async function fileDisk(path: string): Promise<Disk> {
  const file = await openFile(path)
  const { size: sizeBytes } = await file.stat()
  return {
    sizeBytes,
    async read(offset, lengthBytes, signal) {
      assertInside(sizeBytes, offset, lengthBytes)
      signal?.throwIfAborted()
      return readWhole(file, offset, lengthBytes)
    },
    async extents(offset, lengthBytes) {
      assertInside(sizeBytes, offset, lengthBytes)
      const extents: Extent[] = []
      appendExtent(extents, lengthBytes, 'data', offset)
      return extents
    },
    close: () => file.close(),
  }
}

async function openFile(path: string): Promise<FileHandle> {
  const file = await open(path, 'r').catch((cause) => {
    throw new Fault('absent', 'The file of a disk cannot be opened.', { subject: 'disk', cause })
  })
  if ((await file.stat()).isFile()) return file
  await file.close()
  throw new Fault('invalid', 'The file of a disk must be a regular file.', { subject: 'disk' })
}

async function readWhole(file: FileHandle, offset: number, lengthBytes: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(lengthBytes)
  try {
    for (let at = 0; at < lengthBytes; ) {
      const { bytesRead } = await file.read(bytes, at, lengthBytes - at, offset + at)
      if (bytesRead === 0) throw new Fault('unavailable', 'The file of a disk was cut.', { subject: 'disk' })
      at += bytesRead
    }
  } catch (cause) {
    if (isFault(cause)) throw cause
    throw new Fault('unavailable', 'The file of a disk cannot be read.', { subject: 'disk', cause })
  }
  return bytes
}

/** A raw file read by a thread that may wait for it. */
export interface RawFile {
  /** Fills `target`, which may be shared memory, from `offset`. Throws Fault 'unavailable'. */
  readInto(target: Uint8Array, offset: number): void
}

/**
 * For threads whose whole work is to read: much cheaper than through a socket. `descriptor`: of a file that somebody of
 * this process holds open.
 */
export function rawFile(descriptor: number): RawFile {
  const readAt = (target: Uint8Array, at: number, offset: number): number => {
    try {
      return readSync(descriptor, target, at, target.length - at, offset + at)
    } catch (cause) {
      throw new Fault('unavailable', 'The file of a disk cannot be read.', { subject: 'disk', cause })
    }
  }
  return {
    readInto(target, offset) {
      for (let at = 0; at < target.length; ) {
        const readBytes = readAt(target, at, offset)
        if (readBytes === 0)
          throw new Fault('unavailable', 'The file of a disk was cut.', { subject: 'disk' })
        at += readBytes
      }
    },
  }
}
