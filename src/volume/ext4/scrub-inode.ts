import { damaged } from '../refuse.ts'
import { type MappedRun, mapBlocks } from './block-map.ts'
import { COMPAT } from './features.ts'
import { extraBytesOf, hasFlag, type Inode, MAP_AT, MAP_BYTES, sealInode } from './inode.ts'
import { blankAttributes, hasAttributes, scrubAttributeBlock } from './scrub-attributes.ts'
import { claim, type ScrubContext, zeroUnused } from './scrub-context.ts'
import { scrubDirectory } from './scrub-directory.ts'
import { scrubJournal } from './scrub-journal.ts'
import { scrubMapBlocks } from './scrub-map.ts'
import { blank, isZero } from './zeroes.ts'

const BAD_BLOCKS_INODE = 1
const RESIZE_INODE = 7
/** Of the only block the resize inode has to itself; the rest is room for group descriptors. */
const DOUBLE_INDIRECT_AT = MAP_AT + 13 * 4

/** Blanks, in the bytes of an inode in use, what of them is not used: how many were not zero. The checksum is right again. */
export function blankInode(context: ScrubContext, inode: Inode): number {
  const { bytes, type, number } = inode
  if (number === RESIZE_INODE || type === 'none') return 0
  let count = 0
  const mapEnd = MAP_AT + MAP_BYTES
  if (inode.isFastLink) {
    count += blank(bytes, MAP_AT + inode.sizeBytes, mapEnd)
  } else if (hasMap(inode)) {
    // The entries are looked at later: no more of them than there is room for, or the volume is refused then.
    const entryCount = bytes.readUInt16LE(MAP_AT + 2)
    if (hasFlag(inode, 'extents')) count += blank(bytes, MAP_AT + 12 * (1 + entryCount), mapEnd)
  } else {
    // Of devices two numbers.
    count += blank(bytes, MAP_AT + 8, mapEnd)
  }
  const restAt = 128 + extraBytesOf(inode)
  count += hasAttributes(bytes, restAt)
    ? blankAttributes(inode, bytes, restAt + 4, restAt + 4)
    : blank(bytes, restAt, bytes.length)
  if (count > 0) sealInode(context.ext4.superblock, inode)
  return count
}

function hasMap({ type, isFastLink }: Inode): boolean {
  return type === 'file' || type === 'directory' || (type === 'link' && !isFastLink)
}

/** Claims the blocks of an inode in use, and zeroes what of them is behind its end or left over. */
export async function scrubInode(context: ScrubContext, inode: Inode): Promise<void> {
  const { superblock } = context.ext4
  const { number, type } = inode
  const isNameless = superblock.namelessInodes.includes(number)
  const isJournal = number === superblock.journalInode
  if (isNameless || isJournal || hasFlag(inode, 'attributeValue')) {
    context.named.add(number - 1)
  } else if (number >= superblock.firstInode && (type === 'none' || inode.linkCount === 0)) {
    throw damaged(`inode ${number} is in use without a name`)
  }
  if (number === RESIZE_INODE && (superblock.features.compat & COMPAT.resizeInode) !== 0) {
    return claimResizeInode(context, inode)
  }
  if (inode.attributeBlock !== 0) await scrubAttributeBlock(context, inode)
  if (isJournal) return await scrubJournal(context, inode)
  if (type === 'directory') return await scrubDirectory(context, inode)
  if (!hasMap(inode) && number !== BAD_BLOCKS_INODE) return
  const isWhole = isNameless || number === BAD_BLOCKS_INODE || hasFlag(inode, 'verity')
  const map = scrubMapBlocks(context, inode)
  for await (const runs of mapBlocks(context.ext4, inode, { onMapBlock: map.onMapBlock })) {
    for (const run of runs) {
      claim(context, number, run.physical, run.count)
      if (!isWhole) await scrubRun(context, inode, run)
    }
    await map.write()
  }
}

async function scrubRun(context: ScrubContext, inode: Inode, run: MappedRun): Promise<void> {
  const { blockBytes } = context.ext4.superblock
  const offset = run.physical * blockBytes
  if (!run.isWritten) {
    return await zeroUnused(context, 'preallocated blocks', offset, run.count * blockBytes)
  }
  // Encrypted blocks are whole ones, whatever the file's size.
  if (hasFlag(inode, 'encrypted')) return
  const endBlock = Math.ceil(inode.sizeBytes / blockBytes)
  const kept = Math.min(run.count, Math.max(0, endBlock - run.logical))
  if (kept < run.count) {
    const lengthBytes = (run.count - kept) * blockBytes
    await zeroUnused(context, 'preallocated blocks', offset + kept * blockBytes, lengthBytes)
  }
  const usedBytes = inode.sizeBytes % blockBytes
  if (usedBytes !== 0 && kept > 0 && run.logical + kept === endBlock) {
    const last = offset + (kept - 1) * blockBytes
    context.ends.add({ offset: last + usedBytes, lengthBytes: blockBytes - usedBytes })
  }
}

function claimResizeInode(context: ScrubContext, inode: Inode): void {
  const { firstDataBlock, blockCount } = context.ext4.superblock
  const { bytes } = inode
  const block = bytes.readUInt32LE(DOUBLE_INDIRECT_AT)
  const isAlone =
    isZero(bytes, MAP_AT, DOUBLE_INDIRECT_AT) && isZero(bytes, DOUBLE_INDIRECT_AT + 4, MAP_AT + MAP_BYTES)
  if (!isAlone || (block !== 0 && (block < firstDataBlock || block >= blockCount))) {
    throw damaged('the resize inode is out of range')
  }
  if (block !== 0) claim(context, inode.number, block, 1)
}
