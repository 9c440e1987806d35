import type { PackRef } from './source.ts'

/** A stored chunk to fetch. `position` is the caller's own. */
export interface WantedChunk {
  readonly pack: PackRef
  readonly offset: number
  readonly storedBytes: number
  readonly position: number
}

/** One read of one pack and the chunks it brings, in rising offset. */
export interface PackRange {
  readonly pack: PackRef
  readonly offset: number
  readonly lengthBytes: number
  readonly chunks: readonly WantedChunk[]
}

export interface RangeLimits {
  /** Unwanted bytes between two chunks that one read may carry along. */
  readonly gapBytesMax: number
  /** Unwanted bytes of a read, as a share of the wanted ones. */
  readonly overReadShareMax: number
  readonly rangeBytesMax: number
  /**
   * So many ranges at the beginning rise to that size in even steps: those that are read at once and share a line then end
   * one after the other. A single chunk may be larger.
   */
  readonly risingCount?: number
}

export const RANGE_LIMITS: RangeLimits = {
  gapBytesMax: 256 * 1024,
  overReadShareMax: 0.12,
  rangeBytesMax: 4 * 1024 * 1024,
}

/**
 * Of a copy: what is read is what crosses the line, so next to nothing is read in vain. Several reads on their way at once hide
 * what many small ones would cost.
 */
export const PULL_LIMITS: RangeLimits = {
  gapBytesMax: 64 * 1024,
  overReadShareMax: 0.01,
  rangeBytesMax: 1024 * 1024,
}

/**
 * The fewest reads that bring all wanted chunks within the limits. Packs come in the order in which they are first
 * wanted, so what the source wrote in disk order arrives in disk order.
 */
export function mergeRanges(wanted: readonly WantedChunk[], limits: RangeLimits = RANGE_LIMITS): PackRange[] {
  const byPack = Map.groupBy(wanted, (chunk) => chunk.pack)
  const ranges: PackRange[] = []
  const bytesMax = () => limits.rangeBytesMax * Math.min(1, (ranges.length + 1) / (limits.risingCount ?? 1))
  for (const [pack, chunks] of byPack) {
    chunks.sort((a, b) => a.offset - b.offset)
    let open: { offset: number; end: number; usefulBytes: number; chunks: WantedChunk[] } | undefined
    const seal = () => {
      if (open === undefined) return
      ranges.push({ pack, offset: open.offset, lengthBytes: open.end - open.offset, chunks: open.chunks })
    }
    for (const chunk of chunks) {
      const end = chunk.offset + chunk.storedBytes
      if (open !== undefined) {
        const usefulBytes: number = open.usefulBytes + chunk.storedBytes
        const lengthBytes: number = end - open.offset
        if (
          chunk.offset - open.end <= limits.gapBytesMax &&
          lengthBytes - usefulBytes <= usefulBytes * limits.overReadShareMax &&
          lengthBytes <= bytesMax()
        ) {
          open.end = end
          open.usefulBytes = usefulBytes
          open.chunks.push(chunk)
          continue
        }
      }
      seal()
      open = { offset: chunk.offset, end, usefulBytes: chunk.storedBytes, chunks: [chunk] }
    }
    seal()
  }
  return ranges
}
