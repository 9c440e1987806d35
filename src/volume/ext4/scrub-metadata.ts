import { damaged } from '../refuse.ts'
import { firstBlockOf, headOf } from './groups.ts'
import { type ScrubContext, zeroUnused } from './scrub-context.ts'
import { SUPERBLOCK_BYTES } from './superblock.ts'

/**
 * Claims what the file system itself consists of, and zeroes what of it holds nothing: the rest of blocks with superblocks,
 * bitmaps that are marked as never written, and, in backups, room set aside for more group descriptors (growing the file
 * system reads the first group's alone).
 */
export async function scrubMetadata(context: ScrubContext): Promise<void> {
  const { superblock, groups } = context.ext4
  const { blockBytes, groupCount, firstDataBlock, mmpBlock } = superblock
  for (let group = 0; group < groupCount; group++) {
    const { superblocks, descriptors, reserved } = headOf(superblock, group)
    const first = firstBlockOf(superblock, group)
    const headBlocks = superblocks + descriptors + reserved
    if (first + headBlocks > superblock.blockCount) throw damaged(`block group ${group} is too short`)
    claimMetadata(context, group, first, headBlocks)
    if (superblocks === 1) {
      const used = group === 0 && firstDataBlock === 0 ? 2 * SUPERBLOCK_BYTES : SUPERBLOCK_BYTES
      await zero(context, first * blockBytes + used, Math.max(0, blockBytes - used))
    }
    if (group > 0) {
      await zero(context, (first + superblocks + descriptors) * blockBytes, reserved * blockBytes)
    }
    const { blockBitmap, inodeBitmap, inodeTable, isBlockUninit, isInodeUninit } = groups.get(group)
    claimMetadata(context, group, blockBitmap, 1)
    claimMetadata(context, group, inodeBitmap, 1)
    claimMetadata(context, group, inodeTable, superblock.tableBlocks)
    if (isBlockUninit) await zero(context, blockBitmap * blockBytes, blockBytes)
    if (isInodeUninit) await zero(context, inodeBitmap * blockBytes, blockBytes)
  }
  if (mmpBlock !== 0) claimMetadata(context, 0, mmpBlock, 1)
}

function claimMetadata(context: ScrubContext, group: number, first: number, count: number): void {
  const { firstDataBlock } = context.ext4.superblock
  if (first < firstDataBlock || !context.claims.add(first - firstDataBlock, count)) {
    throw damaged(`the metadata of block group ${group} overlaps other metadata`)
  }
}

async function zero(context: ScrubContext, offset: number, lengthBytes: number): Promise<void> {
  await context.pool.run(() => zeroUnused(context, 'unused bitmaps and descriptors', offset, lengthBytes))
}
