import type { Scrubbed } from '../contract.ts'
import { damaged } from '../refuse.ts'
import type { Tally } from '../wipe.ts'
import type { FileEnds } from './file-ends.ts'
import type { Ext4 } from './inode.ts'
import type { Pool } from './pool.ts'
import type { SparseBits } from './sparse-bits.ts'

/** The kinds of places, in the order in which a report tells them. */
export const PLACES = [
  'free blocks',
  'lost blocks',
  'preallocated blocks',
  'file ends',
  'free inodes',
  'inode ends',
  'directory blocks',
  'attribute blocks',
  'extent blocks',
  'journal',
  'unused bitmaps and descriptors',
  'behind the volume',
] as const

export type Place = (typeof PLACES)[number]

/** What was made zero, in that order: work is done side by side, and comes to the tally as it ends. */
export function inOrder(tally: Tally): Scrubbed {
  const places: readonly string[] = PLACES
  return new Map([...tally.scrubbed].sort(([a], [b]) => places.indexOf(a) - places.indexOf(b)))
}

/** What the parts of one scrub share. */
export interface ScrubContext {
  readonly ext4: Ext4
  readonly pool: Pool
  readonly tally: Tally
  readonly ends: FileEnds
  /** Blocks, from the first of group 0, that something alive uses. */
  readonly claims: SparseBits
  /** Those of them that hold attributes: several inodes may share one. */
  readonly attributeBlocks: SparseBits
  /** Inodes less one: those in use, and those that a directory names. */
  readonly inUse: SparseBits
  readonly named: SparseBits
}

/** Inode `number` uses these blocks, which have been checked to be there; two that use the same are a damage. */
export function claim(context: ScrubContext, number: number, first: number, count: number): void {
  const { superblock, groups } = context.ext4
  const start = first - superblock.firstDataBlock
  const lastGroup = Math.floor((start + count - 1) / superblock.blocksPerGroup)
  for (let group = Math.floor(start / superblock.blocksPerGroup); group <= lastGroup; group++) {
    if (groups.get(group).isBlockUninit)
      throw damaged(`inode ${number} uses blocks of group ${group}, which was never used`)
  }
  if (!context.claims.add(start, count))
    throw damaged(`inode ${number} uses blocks that are in use elsewhere`)
}

/** Zeroes a range that nothing alive uses; only what may hold anything costs and counts. */
export async function zeroUnused(
  context: ScrubContext,
  place: Place,
  offset: number,
  lengthBytes: number,
): Promise<void> {
  const bytes = await context.ext4.medium.zero(offset, lengthBytes)
  context.tally.add(place, bytes, Math.ceil(bytes / context.ext4.superblock.blockBytes))
}
