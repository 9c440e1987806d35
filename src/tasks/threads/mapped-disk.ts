import type { Extent, Piece } from '../../disk/contract.ts'
import { appendExtent } from '../../disk/extents.ts'
import type { DiskMap } from '../../disk/formats/disk-map.ts'
import type { FileRun } from '../../disk/formats/file-runs.ts'
import type { ServedDisk } from '../../disk/nbd-server-handshake.ts'
import type { HeldFile } from './file-source.ts'
import { runSlabs } from './run-slabs.ts'

/**
 * The disk that a map shows in a part of the file, which begins at `offset`, for our NBD server. What the file cannot say is
 * zero, the map can. Throws as `DiskMap.runs` and the file do.
 */
export function mappedDisk(file: HeldFile, map: DiskMap, offset: number): ServedDisk {
  const { sizeBytes } = map
  const slabs = file.descriptor === undefined ? undefined : runSlabs(file.descriptor)
  const readRuns = (runs: readonly FileRun[], signal: AbortSignal | undefined) =>
    slabs?.read(runs, offset) ?? blobPieces(file, runs, offset, signal)
  const pieces = (from: number, lengthBytes: number, signal?: AbortSignal) => {
    const runs = map.runs(from, lengthBytes, signal)
    return runs instanceof Promise ? runs.then((found) => readRuns(found, signal)) : readRuns(runs, signal)
  }
  return {
    sizeBytes,
    pieces,
    ...(slabs && { sent: slabs.release }),
    async read(from, lengthBytes, signal) {
      const bytes = Buffer.alloc(lengthBytes)
      let at = 0
      const found = await pieces(from, lengthBytes, signal)
      for (const piece of found) {
        if (piece.bytes !== undefined) bytes.set(piece.bytes, at)
        at += piece.lengthBytes
      }
      slabs?.release(found)
      return bytes
    },
    async extents(from, lengthBytes, signal) {
      const extents: Extent[] = []
      for (const run of await map.runs(from, lengthBytes, signal)) {
        if (run.place === undefined) appendExtent(extents, run.lengthBytes, 'zero', from)
        else
          for (const part of await file.extents(offset + run.place, run.lengthBytes, signal))
            appendExtent(extents, part.lengthBytes, part.holds, from)
      }
      return extents
    },
    // The connections share the file.
    close: async () => {},
  }
}

/** Of a file whose bytes are in memory anyway, as they are there. */
async function blobPieces(
  file: HeldFile,
  runs: readonly FileRun[],
  offset: number,
  signal: AbortSignal | undefined,
): Promise<readonly Piece[]> {
  const pieces: Piece[] = []
  for (const { lengthBytes, place } of runs) {
    if (place === undefined) pieces.push({ lengthBytes, bytes: undefined })
    else if (file.pieces === undefined)
      pieces.push({ lengthBytes, bytes: await file.read(offset + place, lengthBytes, signal) })
    else for (const piece of await file.pieces(offset + place, lengthBytes, signal)) pieces.push(piece)
  }
  return pieces
}
