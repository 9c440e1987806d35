import type { RegionId } from './ids.ts'

/** A place with its own store. Machines live in one of its zones, images in the region. */
export interface Region {
  readonly id: RegionId
  readonly localName: string
  readonly englishName: string
  readonly zones: readonly string[]
}

export const GIB = 1024 ** 3
export const MIB = 1024 ** 2
export const SECTOR_BYTES = 512

/** Whole GiB that hold `bytes`: clouds count disks in GiB. */
export function gibCeil(bytes: number): number {
  return Math.ceil(bytes / GIB)
}
