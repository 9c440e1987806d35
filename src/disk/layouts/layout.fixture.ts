import { open } from 'node:fs/promises'
import type { Extent } from '../contract.ts'
import { appendExtent } from '../extents.ts'
import type { FileLayout } from './contract.ts'
import { cut } from './cut.ts'

/** A disk of which only some runs hold data; the rest is known to be zero. */
export interface ToyDisk {
  readonly sizeBytes: number
  readonly extents: readonly Extent[]
  readonly seed: Uint8Array
  read(offset: number, lengthBytes: number): Buffer
}

/** Each byte of data follows from its offset; `runs` are [offset, lengthBytes], rising. */
export function toyDisk(sizeBytes: number, runs: readonly (readonly [number, number])[]): ToyDisk {
  const extents: Extent[] = []
  let at = 0
  for (const [offset, lengthBytes] of runs) {
    appendExtent(extents, offset - at, 'zero')
    appendExtent(extents, lengthBytes, 'data')
    at = offset + lengthBytes
  }
  appendExtent(extents, sizeBytes - at, 'zero')
  return {
    sizeBytes,
    extents,
    seed: Buffer.alloc(16, 7),
    read(offset, lengthBytes) {
      const bytes = Buffer.alloc(lengthBytes)
      for (const extent of extents) {
        const from = Math.max(offset, extent.offset)
        const to = Math.min(offset + lengthBytes, extent.offset + extent.lengthBytes)
        if (extent.holds === 'zero' || from >= to) continue
        const data = bytes.subarray(from - offset, to - offset)
        // Words that differ all over the disk, and every fourth one zero.
        for (let i = 0; i < data.length; i++) {
          const word = Math.floor((from + i) / 4)
          if (word % 4 !== 0) data[i] = (Math.imul(word, 2654435761) >>> (8 * ((from + i) % 4))) & 0xff
        }
      }
      return bytes
    },
  }
}

/** A range of the exported file, small. */
export function bytesOf(layout: FileLayout, disk: ToyDisk, offset: number, lengthBytes: number): Buffer {
  const parts: Uint8Array[] = []
  for (const piece of cut(layout, offset, lengthBytes)) {
    if (piece.is === 'made') parts.push(piece.make())
    else if (piece.is === 'zero') parts.push(Buffer.alloc(piece.lengthBytes))
    else parts.push(disk.read(piece.diskOffset, piece.lengthBytes))
  }
  return Buffer.concat(parts)
}

const SLAB_BYTES = 1024 * 1024
const ZEROES = Buffer.alloc(SLAB_BYTES)

/** The exported file at `path`, with holes where it is zero. */
export async function writeFileOf(layout: FileLayout, disk: ToyDisk, path: string): Promise<void> {
  const file = await open(path, 'w')
  try {
    await file.truncate(layout.sizeBytes)
    let at = 0
    for (const segment of layout.segments) {
      for (let done = 0; segment.is !== 'zero' && done < segment.lengthBytes; done += SLAB_BYTES) {
        const lengthBytes = Math.min(SLAB_BYTES, segment.lengthBytes - done)
        const bytes = bytesOf(layout, disk, at + done, lengthBytes)
        if (!bytes.equals(ZEROES.subarray(0, lengthBytes))) await file.write(bytes, 0, lengthBytes, at + done)
      }
      at += segment.lengthBytes
    }
  } finally {
    await file.close()
  }
}
