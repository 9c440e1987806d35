import { damaged } from '../refuse.ts'
import { crc32c } from './checksum.ts'
import { type Ext4, hasFlag, type Inode, MAP_AT, MAP_BYTES, seedOf } from './inode.ts'
import type { Superblock } from './superblock.ts'

/** `count` blocks of a file from block `logical` on, which lie together on the volume from block `physical` on. */
export interface MappedRun {
  readonly logical: number
  readonly physical: number
  readonly count: number
  /** False for room that is only set aside: it reads as zeroes, whatever its bytes. */
  readonly isWritten: boolean
}

/** A block of the map itself. */
export interface MapBlock {
  readonly block: number
  readonly is: 'extents' | 'pointers'
  readonly bytes: Buffer
}

export interface MapOptions {
  /** Nothing from this logical block on is of interest. */
  readonly logicalEnd?: number
  /** Called for every block of the map, before what it says is yielded. */
  readonly onMapBlock?: (mapBlock: MapBlock) => void
}

export const EXTENT_BYTES = 12
const EXTENT_MAGIC = 0xf30a
const EXTENT_DEPTH_MAX = 5
/** An extent of more blocks is one of `length - 32768` that are not written yet. */
const EXTENT_LENGTH_MAX = 32_768
const LOGICAL_MAX = 2 ** 32

/**
 * The runs of an inode's blocks, in rising logical order, some at a time; holes are left out. Needs an inode that has a map
 * of blocks at all. No block of a map of extents is read twice, however hostile; those of a map of pointers may be, up to
 * `logicalEnd`: who sets none claims every block in `onMapBlock`. Source: kernel.org, "ext4 Data Structures", 4.3.
 */
export function mapBlocks(
  ext4: Ext4,
  inode: Inode,
  options: MapOptions = {},
): AsyncGenerator<readonly MappedRun[]> {
  return hasFlag(inode, 'extents') ? mapExtents(ext4, inode, options) : mapPointers(ext4, inode, options)
}

interface ExtentNode {
  readonly bytes: Buffer
  readonly entryCount: number
  readonly depth: number
  index: number
}

async function* mapExtents(
  ext4: Ext4,
  inode: Inode,
  { logicalEnd = LOGICAL_MAX, onMapBlock }: MapOptions,
): AsyncGenerator<readonly MappedRun[]> {
  const { superblock, medium } = ext4
  const { blockBytes } = superblock
  const root = parseNode(inode, Buffer.from(inode.bytes.subarray(MAP_AT, MAP_AT + MAP_BYTES)))
  const stack: ExtentNode[] = [root]
  let next = 0
  for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
    if (node.depth === 0) {
      const runs = parseExtents(superblock, inode, node, next)
      const last = runs.at(-1)
      if (last !== undefined) next = last.logical + last.count
      if (runs.length > 0) yield runs
      stack.pop()
      continue
    }
    if (node.index === node.entryCount) {
      stack.pop()
      continue
    }
    const at = EXTENT_BYTES * (1 + node.index++)
    const logical = node.bytes.readUInt32LE(at)
    const block = node.bytes.readUInt32LE(at + 4) + node.bytes.readUInt16LE(at + 8) * 2 ** 32
    if (logical < next) throw damaged(`the extents of inode ${inode.number} are out of order`)
    if (logical >= logicalEnd) return
    next = logical
    checkBlocks(superblock, inode, block, 1)
    const bytes = await medium.read(block * blockBytes, blockBytes)
    const child = parseNode(inode, bytes, node.depth - 1)
    checkExtentBlock(superblock, inode, bytes)
    onMapBlock?.({ block, is: 'extents', bytes })
    stack.push(child)
  }
}

/** `depth`: undefined for the root, which has its own. */
function parseNode(inode: Inode, bytes: Buffer, depth?: number): ExtentNode {
  const entryCount = bytes.readUInt16LE(2)
  const entryCountMax = bytes.readUInt16LE(4)
  const ownDepth = bytes.readUInt16LE(6)
  const room = Math.floor((bytes.length - EXTENT_BYTES) / EXTENT_BYTES)
  if (
    bytes.readUInt16LE(0) !== EXTENT_MAGIC ||
    entryCountMax > room ||
    entryCount > entryCountMax ||
    ownDepth > EXTENT_DEPTH_MAX ||
    (depth !== undefined && ownDepth !== depth) ||
    (entryCount === 0 && (depth !== undefined || ownDepth > 0))
  ) {
    throw damaged(`the extents of inode ${inode.number} are out of range`)
  }
  return { bytes, entryCount, depth: ownDepth, index: 0 }
}

function parseExtents(superblock: Superblock, inode: Inode, node: ExtentNode, next: number): MappedRun[] {
  const runs: MappedRun[] = []
  let free = next
  for (let index = 1; index <= node.entryCount; index++) {
    const at = EXTENT_BYTES * index
    const logical = node.bytes.readUInt32LE(at)
    const length = node.bytes.readUInt16LE(at + 4)
    const physical = node.bytes.readUInt32LE(at + 8) + node.bytes.readUInt16LE(at + 6) * 2 ** 32
    const isWritten = length <= EXTENT_LENGTH_MAX
    const count = isWritten ? length : length - EXTENT_LENGTH_MAX
    if (logical < free || count === 0 || logical + count > LOGICAL_MAX) {
      throw damaged(`the extents of inode ${inode.number} are out of order`)
    }
    checkBlocks(superblock, inode, physical, count)
    free = logical + count
    runs.push({ logical, physical, count, isWritten })
  }
  return runs
}

/** Where the checksum of a block of extents lies: after all the entries there is room for. */
export function extentChecksumAt(bytes: Buffer): number {
  return EXTENT_BYTES * (1 + bytes.readUInt16LE(4))
}

function checkExtentBlock(superblock: Superblock, inode: Inode, bytes: Buffer): void {
  if (!superblock.hasMetadataChecksum) return
  const at = extentChecksumAt(bytes)
  if (at + 4 > bytes.length || crc32c(seedOf(superblock, inode), bytes, 0, at) !== bytes.readUInt32LE(at)) {
    throw damaged(`the checksum of the extents of inode ${inode.number} is wrong`)
  }
}

function checkBlocks(superblock: Superblock, inode: Inode, first: number, count: number): void {
  if (first < superblock.firstDataBlock || first + count > superblock.blockCount) {
    throw damaged(`inode ${inode.number} names a block that is not there`)
  }
}

interface PointerNode {
  readonly bytes: Buffer
  /** 0: its pointers are those of data. */
  readonly level: number
  /** Of its first pointer. */
  readonly logical: number
  index: number
}

async function* mapPointers(
  ext4: Ext4,
  inode: Inode,
  { logicalEnd = LOGICAL_MAX, onMapBlock }: MapOptions,
): AsyncGenerator<readonly MappedRun[]> {
  const { superblock, medium } = ext4
  const { blockBytes } = superblock
  const perBlock = blockBytes / 4
  const roots = inode.bytes.subarray(MAP_AT, MAP_AT + MAP_BYTES)
  const direct = parsePointers(superblock, inode, roots.subarray(0, 48), 0)
  if (direct.length > 0) yield direct
  let logical = 12
  for (let level = 0; level < 3; level++) {
    const stack: PointerNode[] = [
      {
        bytes: Buffer.from(roots.subarray(48 + 4 * level, 52 + 4 * level)),
        level: level + 1,
        logical,
        index: 0,
      },
    ]
    for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
      if (node.level === 0) {
        const runs = parsePointers(superblock, inode, node.bytes, node.logical)
        if (runs.length > 0) yield runs
        stack.pop()
        continue
      }
      if (node.index * 4 === node.bytes.length) {
        stack.pop()
        continue
      }
      const index = node.index++
      const block = node.bytes.readUInt32LE(index * 4)
      if (block === 0) continue
      const start = node.logical + index * perBlock ** node.level
      if (start >= logicalEnd) return
      checkBlocks(superblock, inode, block, 1)
      const bytes = await medium.read(block * blockBytes, blockBytes)
      onMapBlock?.({ block, is: 'pointers', bytes })
      stack.push({ bytes, level: node.level - 1, logical: start, index: 0 })
    }
    logical += perBlock ** (level + 1)
  }
}

function parsePointers(superblock: Superblock, inode: Inode, bytes: Buffer, logical: number): MappedRun[] {
  const runs: MappedRun[] = []
  let first = 0
  let count = 0
  let start = 0
  const end = bytes.length / 4
  for (let index = 0; index <= end; index++) {
    const block = index < end ? bytes.readUInt32LE(index * 4) : 0
    if (count > 0 && block === first + count) {
      count++
      continue
    }
    if (count > 0) {
      checkBlocks(superblock, inode, first, count)
      runs.push({ logical: logical + start, physical: first, count, isWritten: true })
    }
    first = block
    start = index
    count = block === 0 ? 0 : 1
  }
  return runs
}
