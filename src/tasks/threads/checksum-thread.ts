import { createHash } from 'node:crypto'
import type { Checksum } from '../../image/imported.ts'
import type { FilePlace } from '../store-jobs.ts'
import { holdFile, piecesOf } from './file-source.ts'
import type { RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

/** Reads a file whole. */
export interface ChecksumData {
  readonly place: FilePlace
  /** Where the blob is, if it is one. */
  readonly region: RegionPlace | undefined
  readonly algorithms: readonly Checksum['algorithm'][]
}

const TELL_BYTES = 64 * 1024 * 1024

inThread(async ({ place, region, algorithms }: ChecksumData, { signal, tell }) => {
  const file = await holdFile(place, region)
  try {
    const hashes = algorithms.map((algorithm) => [algorithm, createHash(algorithm)] as const)
    let doneBytes = 0
    for await (const piece of piecesOf(file, signal)) {
      for (const [, hash] of hashes) hash.update(piece)
      const before = doneBytes
      doneBytes += piece.length
      if (Math.floor(before / TELL_BYTES) === Math.floor(doneBytes / TELL_BYTES)) continue
      tell({ doneBytes, totalBytes: file.sizeBytes, movedBytes: 0 })
    }
    return Object.fromEntries(hashes.map(([algorithm, hash]) => [algorithm, hash.digest('hex')]))
  } finally {
    await file.close()
  }
})
