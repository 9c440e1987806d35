import type { Extent } from '../../disk/contract.ts'
import { lastAtMost } from '../../disk/layouts/unit-runs.ts'

/** Runs of a disk or a file, rising and apart: in memory that threads share, for there may be millions. */
export interface Runs {
  readonly offsets: Float64Array
  readonly lengths: Float64Array
}

export function runsOf(list: readonly { readonly offset: number; readonly lengthBytes: number }[]): Runs {
  const offsets = sharedNumbers(list.length)
  const lengths = sharedNumbers(list.length)
  for (const [i, { offset, lengthBytes }] of list.entries()) {
    offsets[i] = offset
    lengths[i] = lengthBytes
  }
  return { offsets, lengths }
}

/** The extents of a disk of which the runs hold data. */
export function extentsOf({ offsets, lengths }: Runs, sizeBytes: number): Extent[] {
  const extents: Extent[] = []
  let at = 0
  for (const [i, offset] of offsets.entries()) {
    const lengthBytes = lengths[i] as number
    if (offset > at) extents.push({ offset: at, lengthBytes: offset - at, holds: 'zero' })
    extents.push({ offset, lengthBytes, holds: 'data' })
    at = offset + lengthBytes
  }
  if (sizeBytes > at) extents.push({ offset: at, lengthBytes: sizeBytes - at, holds: 'zero' })
  return extents
}

/**
 * What an exported file is handed out in: as much as makes one read of a pack bring many chunks, and no more, for some of
 * these wait for each reader.
 */
export const SLAB_BYTES = 4 * 1024 * 1024

/** A piece of work: to be made, or in a run and therefore known. */
export interface Item {
  readonly offset: number
  readonly lengthBytes: number
  readonly isInRun: boolean
}

/**
 * [offset, end) in pieces of at most `itemBytes`, none of which is half in a run. Outside of runs none reaches over a cut: there is
 * one `cutsAt` bytes behind each multiple of `itemBytes`, so that what is stored in one piece is seldom needed for two.
 */
export function* cutAtRuns(
  { offsets, lengths }: Runs,
  offset: number,
  end: number,
  itemBytes: number,
  cutsAt: number,
): Iterable<Item> {
  let next = Math.max(0, lastAtMost(offsets, offset))
  for (let at = offset; at < end; ) {
    while (next < offsets.length && endOf(next) <= at) next++
    const runAt = next < offsets.length ? (offsets[next] as number) : end
    const isInRun = runAt <= at && at < end
    const nextCut = (Math.floor((at - cutsAt) / itemBytes) + 1) * itemBytes + cutsAt
    const until = isInRun ? Math.min(end, at + itemBytes, endOf(next)) : Math.min(end, nextCut, runAt)
    yield { offset: at, lengthBytes: until - at, isInRun }
    at = until
  }

  function endOf(i: number): number {
    return (offsets[i] as number) + (lengths[i] as number)
  }
}

function sharedNumbers(count: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT))
}
