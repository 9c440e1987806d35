import { damaged, refuse } from '../refuse.ts'
import { isIndexBytes } from './boot.ts'
import { readSize } from './bytes.ts'
import { undoFixup } from './fixup.ts'
import { ATTRIBUTE, type Attribute, findAttribute, type Ntfs, type NtfsFile, STRIDE_BYTES } from './model.ts'

export const ENTRY = { hasNode: 1, isEnd: 2 } as const

/** Of the header of a node: within an index root, and within an index block. */
export const ROOT_HEADER_OFFSET = 16
export const BLOCK_HEADER_OFFSET = 0x18
export const NODE_HEADER_BYTES = 16

/** A B-tree of 512-byte blocks with four billion entries has fewer levels. */
const DEPTH_MAX = 24

/** A sorted table of a file: of a directory the names ('$I30'), of others what their kind says. */
export interface Index {
  readonly file: NtfsFile
  readonly name: string
  readonly root: Attribute
  /** Undefined while everything has room in the root. */
  readonly allocation: Attribute | undefined
  readonly bitmap: Attribute | undefined
  readonly blockBytes: number
  /** What one in a block number's sub-node number counts: clusters, or strides where blocks are smaller than clusters. */
  readonly vcnBytes: number
  readonly blockCount: number
}

/** An entry as it stands in a node. `key` and `bytes` are views. */
export interface IndexEntry {
  /** The first eight bytes: in a directory a reference to the file, else where its data stands. */
  readonly bytes: Buffer
  readonly key: Buffer
  readonly flags: number
}

/** Undefined if the file has no index of that name. */
export function findIndex(file: NtfsFile, name: string, ntfs: Ntfs): Index | undefined {
  const { number } = file.record
  const root = findAttribute(file, ATTRIBUTE.indexRoot, name)
  if (root === undefined) return undefined
  if (root.value === undefined || root.value.length < ROOT_HEADER_OFFSET + NODE_HEADER_BYTES) {
    throw damaged(`the index root of file record ${number} is wrong`)
  }
  const blockBytes = root.value.readUInt32LE(8)
  const allocation = findAttribute(file, ATTRIBUTE.indexAllocation, name)
  if (!isIndexBytes(blockBytes)) throw damaged(`the index of file record ${number} has an odd block size`)
  if (allocation?.isResident || allocation?.runs.some(({ lcn }) => lcn === null)) {
    throw damaged(`the index of file record ${number} has no clusters`)
  }
  const { clusterBytes } = ntfs.geometry
  return {
    file,
    name,
    root,
    allocation,
    bitmap: findAttribute(file, ATTRIBUTE.bitmap, name),
    blockBytes,
    vcnBytes: clusterBytes <= blockBytes ? clusterBytes : STRIDE_BYTES,
    blockCount: allocation === undefined ? 0 : Math.floor(allocation.initializedBytes / blockBytes),
  }
}

/**
 * The entries of a node, the end entry last. `header`: where the node's header stands in `bytes`. Every entry is checked to
 * lie in the node and every key in its entry.
 */
export function parseNode(bytes: Buffer, header: number, number: number): IndexEntry[] {
  const wrong = () => damaged(`an index node of file record ${number} is wrong`)
  if (header + NODE_HEADER_BYTES > bytes.length) throw wrong()
  const first = bytes.readUInt32LE(header)
  const used = bytes.readUInt32LE(header + 4)
  if (first < NODE_HEADER_BYTES || first % 8 !== 0 || used > bytes.length - header || first > used)
    throw wrong()
  const entries: IndexEntry[] = []
  const end = header + used
  for (let offset = header + first; ; ) {
    if (offset + 16 > end) throw wrong()
    const lengthBytes = bytes.readUInt16LE(offset + 8)
    const keyBytes = bytes.readUInt16LE(offset + 10)
    const flags = bytes.readUInt16LE(offset + 12)
    const tailBytes = (flags & ENTRY.hasNode) !== 0 ? 8 : 0
    if (lengthBytes < 16 + tailBytes || lengthBytes % 8 !== 0 || offset + lengthBytes > end) throw wrong()
    const isEnd = (flags & ENTRY.isEnd) !== 0
    if (!isEnd && 16 + keyBytes + tailBytes > lengthBytes) throw wrong()
    entries.push({
      bytes: bytes.subarray(offset, offset + lengthBytes),
      key: bytes.subarray(offset + 16, offset + 16 + (isEnd ? 0 : keyBytes)),
      flags,
    })
    if (isEnd) return entries
    offset += lengthBytes
  }
}

/** Block `block` of an index with its update sequence undone. */
export async function readBlock(ntfs: Ntfs, index: Index, block: number): Promise<Buffer> {
  const { number } = index.file.record
  if (index.allocation === undefined || block >= index.blockCount) {
    throw damaged(`the index of file record ${number} points outside of itself`)
  }
  const bytes = await ntfs.readAttribute(index.allocation, block * index.blockBytes, index.blockBytes)
  if (bytes.toString('latin1', 0, 4) !== 'INDX' || !undoFixup(bytes)) {
    throw damaged(`index block ${block} of file record ${number} cannot be read`)
  }
  if (readSize(bytes, 16, 'a block number') * index.vcnBytes !== block * index.blockBytes) {
    throw damaged(`index block ${block} of file record ${number} is that of another place`)
  }
  return bytes
}

/** The block a sub-node entry points to. */
export function blockOf(index: Index, entry: IndexEntry): number {
  const vcn = readSize(entry.bytes, entry.bytes.length - 8, 'a block number')
  const block = (vcn * index.vcnBytes) / index.blockBytes
  if (!Number.isInteger(block) || block >= index.blockCount) {
    throw damaged(`the index of file record ${index.file.record.number} points outside of itself`)
  }
  return block
}

/** Where an entry stands: in the root if `block` is undefined. `node` is the whole block or the value of the root. */
export interface Node {
  readonly block: number | undefined
  readonly node: Buffer
}

/** Every entry but the end ones, in order. Each block is seen once, so circles end. */
export async function walkIndex(
  ntfs: Ntfs,
  index: Index,
  visit: (entry: IndexEntry, node: Node) => void,
): Promise<void> {
  const { number } = index.file.record
  const seen = new Set<number>()
  const root = index.root.value as Buffer
  const stack = [
    {
      where: { block: undefined, node: root } as Node,
      entries: parseNode(root, ROOT_HEADER_OFFSET, number),
      at: 0,
      isDown: false,
    },
  ]
  let count = 0
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const entry = top.entries[top.at]
    if (entry === undefined) {
      stack.pop()
      continue
    }
    if (!top.isDown && (entry.flags & ENTRY.hasNode) !== 0) {
      top.isDown = true
      const block = blockOf(index, entry)
      if (seen.has(block) || stack.length > DEPTH_MAX)
        throw damaged(`the index of file record ${number} goes in circles`)
      seen.add(block)
      const node = await readBlock(ntfs, index, block)
      stack.push({
        where: { block, node },
        entries: parseNode(node, BLOCK_HEADER_OFFSET, number),
        at: 0,
        isDown: false,
      })
      continue
    }
    top.at += 1
    top.isDown = false
    if ((entry.flags & ENTRY.isEnd) !== 0) continue
    count += 1
    if (count > 2_000_000)
      throw refuse(
        'too-large',
        'A directory of the volume has more entries than can be cleaned. Leave this disk out.',
      )
    visit(entry, top.where)
  }
}
