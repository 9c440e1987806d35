import { EXTENT_BYTES, extentChecksumAt, type MapBlock } from './block-map.ts'
import { crc32c } from './checksum.ts'
import { type Inode, seedOf } from './inode.ts'
import { claim, type ScrubContext } from './scrub-context.ts'
import { blank } from './zeroes.ts'

/**
 * Claims the blocks of an inode's map as they are read, and blanks entries of extents that are not there any more: give
 * `onMapBlock` to `mapBlocks`, and call `write` between what it yields and at the end.
 */
export function scrubMapBlocks(context: ScrubContext, inode: Inode) {
  const { superblock, medium } = context.ext4
  let changed: MapBlock[] = []
  return {
    onMapBlock: (mapBlock: MapBlock): void => {
      claim(context, inode.number, mapBlock.block, 1)
      if (mapBlock.is === 'extents' && blankExtents(context, inode, mapBlock.bytes)) changed.push(mapBlock)
    },
    write: async (): Promise<void> => {
      const blocks = changed
      changed = []
      for (const { block, bytes } of blocks) await medium.write(block * superblock.blockBytes, bytes)
    },
  }
}

function blankExtents(context: ScrubContext, inode: Inode, bytes: Buffer): boolean {
  const { superblock } = context.ext4
  const end = EXTENT_BYTES * (1 + bytes.readUInt16LE(2))
  if (!superblock.hasMetadataChecksum) {
    const count = blank(bytes, end, bytes.length)
    context.tally.add('extent blocks', count)
    return count > 0
  }
  const checksumAt = extentChecksumAt(bytes)
  const count = blank(bytes, end, checksumAt) + blank(bytes, checksumAt + 4, bytes.length)
  if (count === 0) return false
  bytes.writeUInt32LE(crc32c(seedOf(superblock, inode), bytes, 0, checksumAt), checksumAt)
  context.tally.add('extent blocks', count)
  return true
}
