import { damaged } from '../refuse.ts'
import { mapBlocks } from './block-map.ts'
import { crc32c } from './checksum.ts'
import { checkDirectorySize, isDots, parseDirectoryBlock } from './directory.ts'
import { COMPAT, INCOMPAT } from './features.ts'
import { type Ext4, hasFlag, type Inode, seedOf } from './inode.ts'
import { claim, type ScrubContext, zeroUnused } from './scrub-context.ts'
import { scrubMapBlocks } from './scrub-map.ts'
import { blank } from './zeroes.ts'

const TAIL_BYTES = 12
const INDEX_TAIL_BYTES = 8
const INDEX_ENTRY_BYTES = 8
/** Where entries of the index begin: in its root, after '.' and '..' and 8 bytes about it; in its other blocks. */
const ROOT_ENTRIES_AT = 32
const NODE_ENTRIES_AT = 8
const BATCH_BYTES = 262_144
const ZERO_WORD = Buffer.alloc(4)

/** Blanks what is left of removed entries in every block of a directory, and notes which inodes it names. */
export async function scrubDirectory(context: ScrubContext, inode: Inode): Promise<void> {
  const { ext4 } = context
  const { blockBytes } = ext4.superblock
  const logicalEnd = checkDirectorySize(ext4, inode)
  if (logicalEnd === 0) throw damaged(`directory ${inode.number} is empty`)
  const blocks = new Array<number>(logicalEnd).fill(0)
  const map = scrubMapBlocks(context, inode)
  for await (const runs of mapBlocks(ext4, inode, { onMapBlock: map.onMapBlock })) {
    for (const { logical, physical, count, isWritten } of runs) {
      claim(context, inode.number, physical, count)
      if (!isWritten) throw damaged(`directory ${inode.number} has blocks that were never written`)
      const kept = Math.min(count, Math.max(0, logicalEnd - logical))
      for (let index = 0; index < kept; index++) blocks[logical + index] = physical + index
      if (kept < count) {
        const offset = (physical + kept) * blockBytes
        await zeroUnused(context, 'preallocated blocks', offset, (count - kept) * blockBytes)
      }
    }
    await map.write()
  }
  const isIndexed = hasFlag(inode, 'index')
  if (isIndexed && (ext4.superblock.features.compat & COMPAT.dirIndex) === 0) {
    throw damaged(`directory ${inode.number} has an index, which this volume does not allow`)
  }
  const indexBlocks = isIndexed ? await scrubIndex(context, inode, blocks) : new Set<number>()
  await scrubLeaves(context, inode, blocks, indexBlocks)
}

/** Reads neighbouring blocks together and writes back those that changed. */
async function scrubLeaves(
  context: ScrubContext,
  inode: Inode,
  blocks: readonly number[],
  indexBlocks: ReadonlySet<number>,
): Promise<void> {
  const { medium, superblock } = context.ext4
  const { blockBytes } = superblock
  for (let start = 0; start < blocks.length; ) {
    const physical = blocks[start] as number
    let end = start + 1
    while (
      physical !== 0 &&
      blocks[end] === physical + (end - start) &&
      (end - start) * blockBytes < BATCH_BYTES
    ) {
      end++
    }
    if (physical !== 0) {
      const bytes = await medium.read(physical * blockBytes, (end - start) * blockBytes)
      for (let logical = start; logical < end; logical++) {
        if (indexBlocks.has(logical)) continue
        const at = (logical - start) * blockBytes
        const block = bytes.subarray(at, at + blockBytes)
        const count = blankLeaf(context, inode, block)
        if (count === 0) continue
        await medium.write(physical * blockBytes + at, block)
        context.tally.add('directory blocks', count)
      }
    }
    start = end
  }
}

/** How many bytes of a block of entries were left over; the checksum is right again. */
function blankLeaf(context: ScrubContext, inode: Inode, block: Buffer): number {
  const { superblock } = context.ext4
  const entries = parseDirectoryBlock(inode, block)
  const tailAt = block.length - TAIL_BYTES
  const checksum = () => crc32c(seedOf(superblock, inode), block, 0, tailAt)
  if (superblock.hasMetadataChecksum) {
    const tail = entries.pop()
    if (tail?.offset !== tailAt || tail.inode !== 0 || tail.nameBytes !== 0 || tail.fileType !== 0xde) {
      throw damaged(`a block of directory ${inode.number} has no checksum`)
    }
    if (checksum() !== block.readUInt32LE(tailAt + 8)) {
      throw damaged(`the checksum of a block of directory ${inode.number} is wrong`)
    }
  }
  // With both, a hash follows the name.
  const hasHash = hasFlag(inode, 'encrypted') && hasFlag(inode, 'casefold')
  let count = 0
  for (const { offset, lengthBytes, inode: number, nameBytes } of entries) {
    const end = offset + lengthBytes
    if (number === 0) {
      count += blank(block, offset + 6, end)
      continue
    }
    const nameEnd = offset + 8 + nameBytes
    const isName = !isDots(block.subarray(offset + 8, nameEnd))
    if (isName) {
      if (number > superblock.inodeCount) throw damaged(`directory ${inode.number} names no inode`)
      context.named.add(number - 1)
    }
    if (!hasHash || !isName) {
      count += blank(block, nameEnd, end)
      continue
    }
    const hashAt = offset + 8 + Math.ceil(nameBytes / 4) * 4
    if (hashAt + 8 > end) throw damaged(`directory ${inode.number} has a broken entry`)
    count += blank(block, nameEnd, hashAt) + blank(block, hashAt + 8, end)
  }
  if (count > 0 && superblock.hasMetadataChecksum) block.writeUInt32LE(checksum(), tailAt + 8)
  return count
}

/** Blanks room of the index that no entry uses. The logical numbers of its blocks; every other block is one of entries. */
async function scrubIndex(
  context: ScrubContext,
  inode: Inode,
  blocks: readonly number[],
): Promise<Set<number>> {
  const { ext4 } = context
  const { medium, superblock } = ext4
  const { blockBytes } = superblock
  const nodes = new Set<number>()
  const leaves = new Uint8Array(blocks.length)
  const bad = () => damaged(`the index of directory ${inode.number} is out of range`)
  const waiting = [{ logical: 0, level: 0 }]
  let levelMax = 0
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    const { logical, level } = node
    const physical = blocks[logical] ?? 0
    if (physical === 0 || nodes.has(logical) || leaves[logical] === 1) throw bad()
    nodes.add(logical)
    const block = await medium.read(physical * blockBytes, blockBytes)
    let count = 0
    if (logical === 0) {
      levelMax = checkIndexRoot(ext4, inode, block)
      count += blank(block, 9, 12) + blank(block, 22, 24)
    } else if (block.readUInt32LE(0) !== 0 || parseDirectoryBlock(inode, block).length !== 1) {
      throw bad()
    }
    const entriesAt = logical === 0 ? ROOT_ENTRIES_AT : NODE_ENTRIES_AT
    count += blankIndexBlock(ext4, inode, block, entriesAt)
    if (count > 0) {
      await medium.write(physical * blockBytes, block)
      context.tally.add('directory blocks', count)
    }
    const entryCount = block.readUInt16LE(entriesAt + 2)
    for (let index = 0; index < entryCount; index++) {
      const child = block.readUInt32LE(entriesAt + INDEX_ENTRY_BYTES * index + 4) & 0x0fffffff
      if (child >= blocks.length) throw bad()
      if (level < levelMax) waiting.push({ logical: child, level: level + 1 })
      else if (leaves[child] === 1 || nodes.has(child)) throw bad()
      else leaves[child] = 1
    }
  }
  for (const [logical, physical] of blocks.entries()) {
    // Entries that the index does not lead to are there for some readers and not for others.
    if (physical !== 0 && !nodes.has(logical) && leaves[logical] === 0) throw bad()
  }
  return nodes
}

/** How many levels of index blocks are below the root. */
function checkIndexRoot(ext4: Ext4, inode: Inode, block: Buffer): number {
  const isLarge = (ext4.superblock.features.incompat & INCOMPAT.largeDirectory) !== 0
  const [dot, dots, ...others] = parseDirectoryBlock(inode, block)
  const levels = block[30] as number
  if (
    dot?.lengthBytes !== 12 ||
    dot.nameBytes !== 1 ||
    dots?.nameBytes !== 2 ||
    others.length > 0 ||
    block[29] !== 8 ||
    levels > (isLarge ? 3 : 2)
  ) {
    throw damaged(`the index of directory ${inode.number} is out of range`)
  }
  return levels
}

function blankIndexBlock(ext4: Ext4, inode: Inode, block: Buffer, entriesAt: number): number {
  const { superblock } = ext4
  const tailBytes = superblock.hasMetadataChecksum ? INDEX_TAIL_BYTES : 0
  const limit = block.readUInt16LE(entriesAt)
  const count = block.readUInt16LE(entriesAt + 2)
  const tailAt = entriesAt + limit * INDEX_ENTRY_BYTES
  const end = entriesAt + count * INDEX_ENTRY_BYTES
  if (count === 0 || count > limit || tailAt + tailBytes > block.length) {
    throw damaged(`the index of directory ${inode.number} is out of range`)
  }
  if (!superblock.hasMetadataChecksum) return blank(block, end, block.length)
  const checksum = () => {
    const crc = crc32c(seedOf(superblock, inode), block, 0, end)
    return crc32c(crc32c(crc, block, tailAt, tailAt + 4), ZERO_WORD)
  }
  if (checksum() !== block.readUInt32LE(tailAt + 4)) {
    throw damaged(`the checksum of the index of directory ${inode.number} is wrong`)
  }
  const changed = blank(block, end, tailAt + 4) + blank(block, tailAt + 8, block.length)
  block.writeUInt32LE(checksum(), tailAt + 4)
  return changed
}
