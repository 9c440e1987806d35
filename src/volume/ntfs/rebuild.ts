import assert from 'node:assert'
import { damaged, refuse } from '../refuse.ts'
import { eachStretch } from './attributes.ts'
import { roundUp, writeSize } from './bytes.ts'
import { withFixup } from './fixup.ts'
import {
  BLOCK_HEADER_OFFSET,
  ENTRY,
  findIndex,
  type Index,
  type IndexEntry,
  NODE_HEADER_BYTES,
  ROOT_HEADER_OFFSET,
  walkIndex,
} from './index.ts'
import { type Ntfs, type NtfsFile, STRIDE_BYTES } from './model.ts'
import { freeBytesOf, onlyPiece, rawOf, setValue } from './records.ts'

const SEQUENCE_OFFSET = 0x28
const END_BYTES = 16
const NODE_NUMBER_BYTES = 8

/**
 * Takes entries out of the index `name` of file record `number` by packing those that stay anew, in their order, into the
 * blocks the index has; blocks it no longer needs are zero and free. Of any kind of index: nothing is compared.
 * Answers how many went; without any, nothing is written.
 */
export async function dropEntries(
  ntfs: Ntfs,
  number: number,
  name: string,
  isGone: (entry: IndexEntry) => boolean,
): Promise<number> {
  const file = await ntfs.readFile(number)
  const index = findIndex(file, name, ntfs)
  if (index === undefined) return 0
  const kept: Buffer[] = []
  let goneCount = 0
  await walkIndex(ntfs, index, (entry) => {
    if (isGone(entry)) goneCount += 1
    else kept.push(withoutNode(entry))
  })
  if (goneCount > 0) await pack(ntfs, file, index, kept)
  return goneCount
}

async function pack(ntfs: Ntfs, file: NtfsFile, index: Index, kept: readonly Buffer[]): Promise<void> {
  const rootPiece = onlyPiece(index.root, file.record)
  const rootRaw = rawOf(file, rootPiece.record)
  const root = index.root.value as Buffer
  const isLarge = ((root[ROOT_HEADER_OFFSET + 12] ?? 0) & 1) !== 0
  const headBytes = ROOT_HEADER_OFFSET + NODE_HEADER_BYTES
  // Rounded down: the value's length is padded to eight, which the room may not hold.
  const rootBytesMax = Math.floor((root.length + freeBytesOf(rootRaw)) / 8) * 8 - headBytes

  const blocks: Buffer[] = []
  let items = kept
  let below: readonly number[] | undefined
  // One leaf stays as long as there are names, as the systems themselves do it.
  while (isLarge && kept.length > 0 && (below === undefined || bytesOf(items, below) > rootBytesMax)) {
    const level = split(items, below, nodeBytesMax(index), file.record.number)
    const numbers: number[] = []
    for (const group of level.groups) {
      numbers.push(blocks.length)
      blocks.push(makeBlock(index, blocks.length, group.items, group.below))
    }
    items = level.between
    below = numbers
  }
  // Packed they take less than before, unless names that became separators are far longer than those that were.
  if (blocks.length > index.blockCount) {
    throw refuse(
      'full',
      'The index of a directory has no room to be written anew. Move a few files into another directory, then try again.',
    )
  }
  const nodes = makeNode(index, items, below)
  if (nodes.length > rootBytesMax)
    throw damaged(`the index root of file record ${file.record.number} is too short`)

  if (index.allocation !== undefined) await writeBlocks(ntfs, index, blocks)
  await writeBitmap(ntfs, index, blocks.length)
  const value = Buffer.alloc(headBytes + nodes.length)
  root.copy(value, 0, 0, ROOT_HEADER_OFFSET)
  writeHeader(
    value,
    ROOT_HEADER_OFFSET,
    NODE_HEADER_BYTES,
    nodes.length,
    NODE_HEADER_BYTES + nodes.length,
    below !== undefined,
  )
  nodes.copy(value, headBytes)
  setValue(rootRaw, rootPiece.offset, value)
  for (const record of [file.record, ...file.extensions]) await ntfs.writeRecord(record)
}

interface Group {
  readonly items: readonly Buffer[]
  readonly below: readonly number[] | undefined
}

/** Fills one node after the other; the entry for which there is no more room goes up and stands between two of them. */
function split(
  items: readonly Buffer[],
  below: readonly number[] | undefined,
  bytesMax: number,
  number: number,
): { groups: readonly Group[]; between: readonly Buffer[] } {
  const extraBytes = below === undefined ? 0 : NODE_NUMBER_BYTES
  const groups: Buffer[][] = [[]]
  const between: Buffer[] = []
  let usedBytes = END_BYTES + extraBytes
  for (const item of items) {
    const itemBytes = item.length + extraBytes
    const group = groups.at(-1) as Buffer[]
    if (usedBytes + itemBytes <= bytesMax) {
      group.push(item)
      usedBytes += itemBytes
    } else {
      // Room for two in every node, so that none need be left empty.
      if (END_BYTES + extraBytes + 2 * itemBytes > bytesMax || group.length < 2) {
        throw damaged(`an index of file record ${number} has entries that are too long`)
      }
      between.push(item)
      groups.push([])
      usedBytes = END_BYTES + extraBytes
    }
  }
  const last = groups.at(-1) as Buffer[]
  if (last.length === 0 && groups.length > 1) {
    // Nothing was left for the last node: it gets the entry before it, and the one before that stands between.
    last.push(between.pop() as Buffer)
    between.push((groups.at(-2) as Buffer[]).pop() as Buffer)
  }
  let taken = 0
  const numbered = groups.map((group) => {
    const children = below?.slice(taken, taken + group.length + 1)
    taken += group.length + 1
    return { items: group, below: children }
  })
  return { groups: numbered, between }
}

function bytesOf(items: readonly Buffer[], below: readonly number[] | undefined): number {
  const extraBytes = below === undefined ? 0 : NODE_NUMBER_BYTES
  return items.reduce((sum, { length }) => sum + length + extraBytes, END_BYTES + extraBytes)
}

/** Entries with the nodes before each of them, and the end entry with the last. */
function makeNode(index: Index, items: readonly Buffer[], below: readonly number[] | undefined): Buffer {
  const end = Buffer.alloc(END_BYTES)
  end.writeUInt16LE(END_BYTES, 8)
  end.writeUInt16LE(ENTRY.isEnd, 12)
  const all = [...items, end]
  if (below === undefined) return Buffer.concat(all)
  assert(below.length === all.length)
  return Buffer.concat(
    all.map((item, place) => {
      const entry = Buffer.alloc(item.length + NODE_NUMBER_BYTES)
      item.copy(entry)
      entry.writeUInt16LE(entry.length, 8)
      entry.writeUInt16LE(item.readUInt16LE(12) | ENTRY.hasNode, 12)
      writeSize(entry, ((below[place] as number) * index.blockBytes) / index.vcnBytes, item.length)
      return entry
    }),
  )
}

function firstEntryOffset(blockBytes: number): number {
  return roundUp(SEQUENCE_OFFSET + (blockBytes / STRIDE_BYTES + 1) * 2, 8)
}

function nodeBytesMax(index: Index): number {
  return index.blockBytes - firstEntryOffset(index.blockBytes)
}

function makeBlock(
  index: Index,
  block: number,
  items: readonly Buffer[],
  below: readonly number[] | undefined,
): Buffer {
  const { blockBytes } = index
  const bytes = Buffer.alloc(blockBytes)
  const first = firstEntryOffset(blockBytes)
  const nodes = makeNode(index, items, below)
  bytes.write('INDX', 0, 'latin1')
  bytes.writeUInt16LE(SEQUENCE_OFFSET, 4)
  bytes.writeUInt16LE(blockBytes / STRIDE_BYTES + 1, 6)
  writeSize(bytes, (block * blockBytes) / index.vcnBytes, 16)
  writeHeader(
    bytes,
    BLOCK_HEADER_OFFSET,
    first - BLOCK_HEADER_OFFSET,
    nodes.length,
    blockBytes - BLOCK_HEADER_OFFSET,
    below !== undefined,
  )
  nodes.copy(bytes, first)
  return withFixup(bytes)
}

function writeHeader(
  bytes: Buffer,
  offset: number,
  entriesOffset: number,
  entriesBytes: number,
  allocatedBytes: number,
  hasNodes: boolean,
): void {
  bytes.writeUInt32LE(entriesOffset, offset)
  bytes.writeUInt32LE(entriesOffset + entriesBytes, offset + 4)
  bytes.writeUInt32LE(allocatedBytes, offset + 8)
  bytes.writeUInt32LE(hasNodes ? 1 : 0, offset + 12)
}

async function writeBlocks(ntfs: Ntfs, index: Index, blocks: readonly Buffer[]): Promise<void> {
  const { allocation, blockBytes, blockCount } = index
  assert(allocation)
  for (const [block, bytes] of blocks.entries())
    await ntfs.writeAttribute(allocation, block * blockBytes, bytes)
  const { clusterBytes } = ntfs.geometry
  const usedBytes = blocks.length * blockBytes
  for (const { at, lengthBytes } of eachStretch(
    allocation.runs,
    clusterBytes,
    usedBytes,
    blockCount * blockBytes - usedBytes,
  )) {
    assert(at !== null)
    await ntfs.medium.zero(at, lengthBytes)
  }
}

async function writeBitmap(ntfs: Ntfs, index: Index, usedCount: number): Promise<void> {
  const { bitmap, file } = index
  if (bitmap === undefined) {
    if (index.allocation !== undefined)
      throw damaged(`the index of file record ${file.record.number} has no map`)
    return
  }
  if (bitmap.initializedBytes * 8 < usedCount || bitmap.dataBytes > 1024 * 1024) {
    throw damaged(`the index of file record ${file.record.number} has a map of another size`)
  }
  if (bitmap.runs.some(({ lcn }) => lcn === null))
    throw damaged(`the index of file record ${file.record.number} has a map with holes`)
  const bytes = Buffer.alloc(bitmap.initializedBytes)
  for (let block = 0; block < usedCount; block += 1)
    bytes[block >>> 3] = (bytes[block >>> 3] ?? 0) | (1 << (block & 7))
  if (bitmap.value !== undefined) bytes.copy(bitmap.value)
  else await ntfs.writeAttribute(bitmap, 0, bytes)
}

/** A copy as it stands in a leaf. */
function withoutNode({ bytes, flags }: IndexEntry): Buffer {
  if ((flags & ENTRY.hasNode) === 0) return Buffer.from(bytes)
  const entry = Buffer.from(bytes.subarray(0, bytes.length - NODE_NUMBER_BYTES))
  entry.writeUInt16LE(entry.length, 8)
  entry.writeUInt16LE(flags & ~ENTRY.hasNode, 12)
  return entry
}
