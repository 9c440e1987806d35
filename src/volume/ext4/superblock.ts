import type { Medium } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { crc32c } from './checksum.ts'
import { COMPAT, checkFeatures, type Features, INCOMPAT, RO_COMPAT } from './features.ts'

const SUPERBLOCK_OFFSET = 1024
export const SUPERBLOCK_BYTES = 1024
const MAGIC = 0xef53
const CHECKSUM_AT = 0x3fc

/** One bit a block is what a scrub keeps in memory: 256 MiB at most. */
const BLOCK_COUNT_MAX = 2 ** 31
const GROUP_COUNT_MAX = 2 ** 18

/** What a superblock says, checked. Source: kernel.org, "ext4 Data Structures and Algorithms", 2.4 The Super Block. */
export interface Superblock {
  readonly features: Features
  readonly blockBytes: number
  readonly blockCount: number
  readonly firstDataBlock: number
  readonly blocksPerGroup: number
  readonly groupCount: number
  readonly inodeCount: number
  readonly inodesPerGroup: number
  readonly inodeBytes: number
  /** Blocks of one group's inode table. */
  readonly tableBlocks: number
  /** The first inode that is no file of the file system's own. */
  readonly firstInode: number
  readonly descriptorBytes: number
  readonly reservedDescriptorBlocks: number
  readonly firstMetaGroup: number
  /** With sparse_super2: the only groups with backups. */
  readonly backupGroups: readonly number[]
  readonly journalInode: number
  /** The multi-mount protection's; 0 if there is none. */
  readonly mmpBlock: number
  /** In use without a name: quota files and the orphan file. */
  readonly namelessInodes: readonly number[]
  readonly hasMetadataChecksum: boolean
  /** Group descriptors are guarded by a checksum, and may call bitmaps and tables uninitialised. */
  readonly hasGroupChecksum: boolean
  readonly checksumSeed: number
  readonly uuidBytes: Buffer
  readonly uuid: string
  readonly label: string
  readonly freeBlockCount: number
  /** It was not unmounted cleanly: the journal or the orphans have to be gone through first. */
  readonly needsReplay: boolean
}

/** Throws a refusal for what is no ext2, ext3 or ext4, contradicts itself or has a feature we do not handle. */
export async function readSuperblock(medium: Medium): Promise<Superblock> {
  if (medium.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES)
    throw damaged('it is too small for a superblock')
  const bytes = await medium.read(SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES)
  if (bytes.readUInt16LE(0x38) !== MAGIC) throw damaged('the superblock has no ext4 signature')
  const revision = bytes.readUInt32LE(0x4c)
  const isDynamic = revision >= 1
  const features: Features = {
    compat: isDynamic ? bytes.readUInt32LE(0x5c) : 0,
    incompat: isDynamic ? bytes.readUInt32LE(0x60) : 0,
    roCompat: isDynamic ? bytes.readUInt32LE(0x64) : 0,
  }
  const hasMetadataChecksum = (features.roCompat & RO_COMPAT.metadataChecksum) !== 0
  if (hasMetadataChecksum) {
    if (bytes[0x175] !== 1)
      throw refuse('unsupported', 'The ext4 file system has checksums of an unknown kind.')
    if (crc32c(0xffffffff, bytes, 0, CHECKSUM_AT) !== bytes.readUInt32LE(CHECKSUM_AT)) {
      throw damaged('the checksum of the superblock is wrong')
    }
  }
  checkFeatures(features)
  if (bytes.readUInt32LE(0x48) !== 0) {
    throw refuse(
      'unsupported',
      'The file system was made by a system other than Linux and cannot be cleaned.',
    )
  }
  const state = bytes.readUInt16LE(0x3a)
  if ((state & 2) !== 0) throw damaged('it is marked as having errors')
  const geometry = parseGeometry(bytes, features, isDynamic, medium.sizeBytes)
  const uuidBytes = Buffer.from(bytes.subarray(0x68, 0x78))
  const hasJournal = (features.compat & COMPAT.hasJournal) !== 0
  const journalInode = hasJournal ? bytes.readUInt32LE(0xe0) : 0
  if (hasJournal && (journalInode === 0 || bytes.readUInt32LE(0xe4) !== 0)) {
    throw refuse(
      'unsupported',
      'The journal of the ext4 file system is on another disk. Bring it inside with tune2fs, then try again.',
    )
  }
  const quotaInodes = [bytes.readUInt32LE(0x240), bytes.readUInt32LE(0x244), bytes.readUInt32LE(0x26c)]
  const hasQuota = (features.roCompat & RO_COMPAT.quota) !== 0
  const hasOrphanFile = (features.compat & COMPAT.orphanFile) !== 0
  const namelessInodes = [
    ...(hasQuota ? quotaInodes : []),
    ...(hasOrphanFile ? [bytes.readUInt32LE(0x280)] : []),
  ].filter((inode) => inode !== 0)
  for (const inode of [journalInode, ...namelessInodes]) {
    if (inode > geometry.inodeCount) throw damaged('the superblock names an inode that is not there')
  }
  const mmpBlock = (features.incompat & INCOMPAT.mmp) !== 0 ? Number(bytes.readBigUInt64LE(0x168)) : 0
  if (mmpBlock >= geometry.blockCount) throw damaged('the superblock names a block that is not there')
  const hasSeed = (features.incompat & INCOMPAT.checksumSeed) !== 0
  const hex = uuidBytes.toString('hex')
  const freeBlockCount = join64(bytes, 0x0c, 0x158, features)
  if (freeBlockCount > geometry.blockCount) throw damaged('it counts more free blocks than it has')
  return {
    features,
    ...geometry,
    journalInode,
    mmpBlock,
    namelessInodes,
    hasMetadataChecksum,
    hasGroupChecksum: hasMetadataChecksum || (features.roCompat & RO_COMPAT.groupChecksum) !== 0,
    checksumSeed: hasSeed ? bytes.readUInt32LE(0x270) : crc32c(0xffffffff, uuidBytes),
    uuidBytes,
    uuid: /^0*$/.test(hex) ? '' : hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    label: untilNul(bytes.subarray(0x78, 0x88)).toString('utf8'),
    freeBlockCount,
    needsReplay:
      (features.incompat & INCOMPAT.needsRecovery) !== 0 ||
      (features.roCompat & RO_COMPAT.orphanPresent) !== 0 ||
      bytes.readUInt32LE(0xe8) !== 0 ||
      (state & 4) !== 0 ||
      (state & 1) === 0,
  }
}

function parseGeometry(bytes: Buffer, features: Features, isDynamic: boolean, sizeBytes: number) {
  const logBlock = bytes.readUInt32LE(0x18)
  if (logBlock > 6) throw damaged('its block size is out of range')
  const blockBytes = 1024 << logBlock
  const blockCount = join64(bytes, 0x04, 0x150, features)
  const firstDataBlock = bytes.readUInt32LE(0x14)
  if (firstDataBlock !== (logBlock === 0 ? 1 : 0)) throw damaged('its first block is out of place')
  if (blockCount <= firstDataBlock) throw damaged('it has no blocks')
  if (blockCount * blockBytes > sizeBytes) throw damaged('it is larger than its partition')
  const blocksPerGroup = bytes.readUInt32LE(0x20)
  if (blocksPerGroup < 64 || blocksPerGroup > 8 * blockBytes || blocksPerGroup % 8 !== 0) {
    throw damaged('the size of its block groups is out of range')
  }
  const groupCount = Math.ceil((blockCount - firstDataBlock) / blocksPerGroup)
  if (blockCount > BLOCK_COUNT_MAX || groupCount > GROUP_COUNT_MAX) {
    throw refuse(
      'too-large',
      'The ext4 file system has more blocks than can be cleaned. Make it smaller, or ask for best-effort to leave it as it is.',
    )
  }
  const inodeBytes = isDynamic ? bytes.readUInt16LE(0x58) : 128
  if (inodeBytes < 128 || inodeBytes > blockBytes || (inodeBytes & (inodeBytes - 1)) !== 0) {
    throw damaged('the size of its inodes is out of range')
  }
  const inodesPerGroup = bytes.readUInt32LE(0x28)
  const inodeCount = bytes.readUInt32LE(0x00)
  const tableBlocks = Math.ceil((inodesPerGroup * inodeBytes) / blockBytes)
  if (
    inodesPerGroup === 0 ||
    inodesPerGroup > 8 * blockBytes ||
    inodesPerGroup % 8 !== 0 ||
    inodeCount !== groupCount * inodesPerGroup ||
    tableBlocks >= blocksPerGroup
  ) {
    throw damaged('the number of its inodes is out of range')
  }
  const firstInode = isDynamic ? bytes.readUInt32LE(0x54) : 11
  if (firstInode < 11 || firstInode > inodeCount) throw damaged('its first inode is out of range')
  const is64bit = (features.incompat & INCOMPAT.is64bit) !== 0
  const descriptorBytes = is64bit ? bytes.readUInt16LE(0xfe) : 32
  if (
    is64bit &&
    (descriptorBytes < 64 || descriptorBytes > 1024 || (descriptorBytes & (descriptorBytes - 1)) !== 0)
  ) {
    throw damaged('the size of its group descriptors is out of range')
  }
  const hasMetaGroups = (features.incompat & INCOMPAT.metaBg) !== 0
  const reservedDescriptorBlocks = (features.compat & COMPAT.resizeInode) !== 0 ? bytes.readUInt16LE(0xce) : 0
  const descriptorBlocks = Math.ceil((groupCount * descriptorBytes) / blockBytes)
  const firstMetaGroup = hasMetaGroups ? bytes.readUInt32LE(0x104) : descriptorBlocks
  if (firstMetaGroup > descriptorBlocks) throw damaged('its first meta group is out of range')
  if (1 + firstMetaGroup + reservedDescriptorBlocks > blocksPerGroup) {
    throw damaged('its group descriptors do not fit their group')
  }
  return {
    blockBytes,
    blockCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount,
    inodeCount,
    inodesPerGroup,
    inodeBytes,
    tableBlocks,
    firstInode,
    descriptorBytes,
    reservedDescriptorBlocks,
    firstMetaGroup,
    backupGroups: [bytes.readUInt32LE(0x24c), bytes.readUInt32LE(0x250)],
  }
}

function join64(bytes: Buffer, lowAt: number, highAt: number, features: Features): number {
  const high = (features.incompat & INCOMPAT.is64bit) !== 0 ? bytes.readUInt32LE(highAt) : 0
  return high * 2 ** 32 + bytes.readUInt32LE(lowAt)
}

export function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end === -1 ? bytes : bytes.subarray(0, end)
}
