import type { FileKind } from '../contract.ts'
import { damaged } from '../refuse.ts'
import type { CachedMedium } from './cached-medium.ts'
import { crc32c, crc32cWord } from './checksum.ts'
import { INCOMPAT } from './features.ts'
import type { Groups } from './groups.ts'
import type { Superblock } from './superblock.ts'

/** What every part of the room works on. */
export interface Ext4 {
  readonly medium: CachedMedium
  readonly superblock: Superblock
  readonly groups: Groups
}

export const ROOT_INODE = 2

export const INODE_FLAG = {
  encrypted: 0x800,
  index: 0x1000,
  extents: 0x80000,
  verity: 0x100000,
  attributeValue: 0x200000,
  inlineData: 0x10000000,
  casefold: 0x40000000,
} as const

/** Where the block map, or a short link's target, lies in an inode. */
export const MAP_AT = 0x28
export const MAP_BYTES = 60
const CHECKSUM_LOW_AT = 0x7c
const CHECKSUM_HIGH_AT = 0x82

export type InodeType = 'none' | 'fifo' | 'character' | 'directory' | 'block' | 'file' | 'link' | 'socket'

const TYPES = new Map<number, InodeType>([
  [0x0, 'none'],
  [0x1, 'fifo'],
  [0x2, 'character'],
  [0x4, 'directory'],
  [0x6, 'block'],
  [0x8, 'file'],
  [0xa, 'link'],
  [0xc, 'socket'],
])

export interface Inode {
  readonly number: number
  /** As it lies in the table, a view where it was read in bulk. */
  readonly bytes: Buffer
  readonly type: InodeType
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  readonly linkCount: number
  readonly flags: number
  /** The block with extended attributes; 0 if there is none. */
  readonly attributeBlock: number
  /** The target of a link is in the inode itself. */
  readonly isFastLink: boolean
}

export function kindOf(type: InodeType): FileKind {
  return type === 'file' || type === 'directory' || type === 'link' ? type : 'other'
}

export function parseInode(superblock: Superblock, number: number, bytes: Buffer): Inode {
  const mode = bytes.readUInt16LE(0x00)
  const type = TYPES.get(mode >>> 12)
  if (type === undefined) throw damaged(`inode ${number} is of no type`)
  const flags = bytes.readUInt32LE(0x20)
  // A directory's upper half is another field on older volumes, and none of ours is that long.
  const sizeHigh = type === 'file' ? bytes.readUInt32LE(0x6c) : 0
  if (sizeHigh >= 0x10000) throw damaged(`the size of inode ${number} is out of range`)
  const sizeBytes = sizeHigh * 2 ** 32 + bytes.readUInt32LE(0x04)
  const is64bit = (superblock.features.incompat & INCOMPAT.is64bit) !== 0
  const attributeBlock = bytes.readUInt32LE(0x68) + (is64bit ? bytes.readUInt16LE(0x76) * 2 ** 32 : 0)
  const isOutside = attributeBlock < superblock.firstDataBlock || attributeBlock >= superblock.blockCount
  if (attributeBlock !== 0 && isOutside) throw damaged(`inode ${number} names a block that is not there`)
  const sectorsOfAttributes = attributeBlock === 0 ? 0 : superblock.blockBytes / 512
  const sectorCount = bytes.readUInt32LE(0x1c) + bytes.readUInt16LE(0x74) * 2 ** 32
  const hasLargeAttributes = (superblock.features.incompat & INCOMPAT.eaInode) !== 0
  if ((flags & INODE_FLAG.inlineData) !== 0)
    throw damaged(`inode ${number} has data inside, which this volume does not allow`)
  return {
    number,
    bytes,
    type,
    mode,
    uid: bytes.readUInt16LE(0x02) + bytes.readUInt16LE(0x78) * 2 ** 16,
    gid: bytes.readUInt16LE(0x18) + bytes.readUInt16LE(0x7a) * 2 ** 16,
    sizeBytes,
    linkCount: bytes.readUInt16LE(0x1a),
    flags,
    attributeBlock,
    // Large attribute values count as sectors of the inode, so with them its size alone can tell.
    isFastLink:
      type === 'link' &&
      (flags & INODE_FLAG.extents) === 0 &&
      sizeBytes < MAP_BYTES &&
      (hasLargeAttributes || sectorCount === sectorsOfAttributes),
  }
}

export function hasFlag(inode: Inode, flag: keyof typeof INODE_FLAG): boolean {
  return (inode.flags & INODE_FLAG[flag]) !== 0
}

/** Throws a refusal for a number that no inode has. */
export async function readInode(ext4: Ext4, number: number): Promise<Inode> {
  const { superblock, groups, medium } = ext4
  if (number < 1 || number > superblock.inodeCount) throw damaged(`inode ${number} is not there`)
  const group = groups.get(Math.floor((number - 1) / superblock.inodesPerGroup))
  const index = (number - 1) % superblock.inodesPerGroup
  const offset = group.inodeTable * superblock.blockBytes + index * superblock.inodeBytes
  return parseInode(superblock, number, await medium.read(offset, superblock.inodeBytes))
}

/** What the checksums of an inode, its extents and directory blocks begin with. */
export function seedOf(superblock: Superblock, inode: Inode): number {
  const seed = crc32cWord(superblock.checksumSeed, inode.number)
  return crc32cWord(seed, inode.bytes.readUInt32LE(0x64))
}

/** Bytes of the fields after the first 128. Throws a refusal where they do not fit. */
export function extraBytesOf(inode: Inode): number {
  if (inode.bytes.length === 128) return 0
  const extraBytes = inode.bytes.readUInt16LE(0x80)
  if (extraBytes % 4 !== 0 || 128 + extraBytes > inode.bytes.length) {
    throw damaged(`the extra fields of inode ${inode.number} are out of range`)
  }
  return extraBytes
}

/** True where volumes have no such checksums, and for an inode of zeroes alone, as reserved ones are. */
export function isInodeChecksumRight(superblock: Superblock, inode: Inode): boolean {
  if (!superblock.hasMetadataChecksum) return true
  const { bytes } = inode
  const isWide = hasWideChecksum(bytes)
  const crc = inodeChecksum(superblock, inode, isWide)
  const isRight =
    bytes.readUInt16LE(CHECKSUM_LOW_AT) === (crc & 0xffff) &&
    (!isWide || bytes.readUInt16LE(CHECKSUM_HIGH_AT) === crc >>> 16)
  return isRight || bytes.every((byte) => byte === 0)
}

/** Makes the checksum right for what the bytes say now. */
export function sealInode(superblock: Superblock, inode: Inode): void {
  if (!superblock.hasMetadataChecksum) return
  const isWide = hasWideChecksum(inode.bytes)
  const crc = inodeChecksum(superblock, inode, isWide)
  inode.bytes.writeUInt16LE(crc & 0xffff, CHECKSUM_LOW_AT)
  if (isWide) inode.bytes.writeUInt16LE(crc >>> 16, CHECKSUM_HIGH_AT)
}

function hasWideChecksum(bytes: Buffer): boolean {
  return bytes.length > 128 && bytes.readUInt16LE(0x80) >= 4
}

const ZEROES = Buffer.alloc(2)

/** Over the whole inode with zeroes where the checksum itself is. */
function inodeChecksum(superblock: Superblock, inode: Inode, isWide: boolean): number {
  const { bytes } = inode
  let crc = crc32c(seedOf(superblock, inode), bytes, 0, CHECKSUM_LOW_AT)
  crc = crc32c(crc, ZEROES)
  if (!isWide) return crc32c(crc, bytes, CHECKSUM_LOW_AT + 2)
  crc = crc32c(crc, bytes, CHECKSUM_LOW_AT + 2, CHECKSUM_HIGH_AT)
  crc = crc32c(crc, ZEROES)
  return crc32c(crc, bytes, CHECKSUM_HIGH_AT + 2)
}
