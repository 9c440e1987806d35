import type { Medium } from '../contract.ts'
import { damaged } from '../refuse.ts'
import { crc16, crc32c, crc32cWord } from './checksum.ts'
import { COMPAT, INCOMPAT, RO_COMPAT } from './features.ts'
import type { Superblock } from './superblock.ts'

const CHECKSUM_AT = 0x1e

export interface Group {
  readonly blockBitmap: number
  readonly inodeBitmap: number
  readonly inodeTable: number
  /** Its block bitmap was never written: only metadata of the group is in use. */
  readonly isBlockUninit: boolean
  /** Its inode bitmap and table were never written: no inode is in use. */
  readonly isInodeUninit: boolean
  /** Inodes at the end of the table that were never in use. */
  readonly unusedInodeCount: number
  /** With metadata_csum: of the bitmaps; their lower 16 bits where the descriptor is small. */
  readonly blockBitmapChecksum: number
  readonly inodeBitmapChecksum: number
}

/** The group descriptors of a volume, each checked when it was read. */
export class Groups {
  readonly #superblock: Superblock
  readonly #bytes: Buffer

  private constructor(superblock: Superblock, bytes: Buffer) {
    this.#superblock = superblock
    this.#bytes = bytes
  }

  /** Checksums are not asked for while the journal is still to be replayed. */
  static async read(medium: Medium, superblock: Superblock): Promise<Groups> {
    const { blockBytes, descriptorBytes, groupCount } = superblock
    const perBlock = blockBytes / descriptorBytes
    const blockCount = Math.ceil(groupCount / perBlock)
    const parts: Buffer[] = []
    const oldCount = Math.min(blockCount, superblock.firstMetaGroup)
    const first = superblock.firstDataBlock + 1
    if (first + oldCount > superblock.blockCount) throw damaged('its group descriptors lie outside')
    if (oldCount > 0) parts.push(await medium.read(first * blockBytes, oldCount * blockBytes))
    for (let index = oldCount; index < blockCount; index++) {
      const group = index * perBlock
      const block = firstBlockOf(superblock, group) + (hasSuperblock(superblock, group) ? 1 : 0)
      if (block >= superblock.blockCount) throw damaged('its group descriptors lie outside')
      parts.push(await medium.read(block * blockBytes, blockBytes))
    }
    const groups = new Groups(superblock, Buffer.concat(parts))
    for (let index = 0; index < groupCount; index++) groups.#check(index)
    return groups
  }

  get(index: number): Group {
    const { descriptorBytes, hasGroupChecksum } = this.#superblock
    const bytes = this.#bytes.subarray(index * descriptorBytes, (index + 1) * descriptorBytes)
    const isWide = descriptorBytes >= 64
    const high = (at: number) => (isWide ? bytes.readUInt32LE(at) * 2 ** 32 : 0)
    const high16 = (at: number) => (isWide ? bytes.readUInt16LE(at) * 2 ** 16 : 0)
    const flags = hasGroupChecksum ? bytes.readUInt16LE(0x12) : 0
    return {
      blockBitmap: bytes.readUInt32LE(0x00) + high(0x20),
      inodeBitmap: bytes.readUInt32LE(0x04) + high(0x24),
      inodeTable: bytes.readUInt32LE(0x08) + high(0x28),
      isInodeUninit: (flags & 1) !== 0,
      isBlockUninit: (flags & 2) !== 0,
      unusedInodeCount: hasGroupChecksum ? bytes.readUInt16LE(0x1c) + high16(0x32) : 0,
      blockBitmapChecksum: bytes.readUInt16LE(0x18) + high16(0x38),
      inodeBitmapChecksum: bytes.readUInt16LE(0x1a) + high16(0x3a),
    }
  }

  #check(index: number): void {
    const { firstDataBlock, blockCount, tableBlocks, inodesPerGroup, needsReplay } = this.#superblock
    const group = this.get(index)
    const isInside = (block: number, count: number) => block >= firstDataBlock && block + count <= blockCount
    if (
      !isInside(group.blockBitmap, 1) ||
      !isInside(group.inodeBitmap, 1) ||
      !isInside(group.inodeTable, tableBlocks) ||
      group.unusedInodeCount > inodesPerGroup
    ) {
      throw damaged(`the descriptor of block group ${index} is out of range`)
    }
    if (!needsReplay && !this.#isChecksumRight(index)) {
      throw damaged(`the checksum of block group ${index} is wrong`)
    }
  }

  #isChecksumRight(index: number): boolean {
    const { descriptorBytes, hasMetadataChecksum, hasGroupChecksum, checksumSeed, uuidBytes } =
      this.#superblock
    if (!hasGroupChecksum) return true
    const bytes = this.#bytes.subarray(index * descriptorBytes, (index + 1) * descriptorBytes)
    const stored = bytes.readUInt16LE(CHECKSUM_AT)
    if (hasMetadataChecksum) {
      let crc = crc32c(crc32cWord(checksumSeed, index), bytes, 0, CHECKSUM_AT)
      crc = crc32c(crc, Buffer.alloc(2))
      return (crc32c(crc, bytes, CHECKSUM_AT + 2) & 0xffff) === stored
    }
    const number = Buffer.alloc(4)
    number.writeUInt32LE(index)
    const crc = crc16(crc16(crc16(0xffff, uuidBytes), number), bytes.subarray(0, CHECKSUM_AT))
    return crc16(crc, bytes.subarray(CHECKSUM_AT + 2)) === stored
  }
}

export function firstBlockOf(superblock: Superblock, group: number): number {
  return superblock.firstDataBlock + group * superblock.blocksPerGroup
}

/** Whether the group begins with the superblock or a backup of it. */
export function hasSuperblock(superblock: Superblock, group: number): boolean {
  if (group === 0) return true
  if ((superblock.features.compat & COMPAT.sparseSuper2) !== 0) return superblock.backupGroups.includes(group)
  if ((superblock.features.roCompat & RO_COMPAT.sparseSuper) === 0 || group === 1) return true
  return [3, 5, 7].some((base) => {
    let power = base
    while (power < group) power *= base
    return power === group
  })
}

/** What a group begins with, in blocks: the superblock or its backup, group descriptors, room for more of them. */
export function headOf(superblock: Superblock, group: number) {
  const hasSuper = hasSuperblock(superblock, group)
  const perBlock = superblock.blockBytes / superblock.descriptorBytes
  const hasMetaGroups = (superblock.features.incompat & INCOMPAT.metaBg) !== 0
  const metaGroup = Math.floor(group / perBlock)
  if (!hasMetaGroups || metaGroup < superblock.firstMetaGroup) {
    return hasSuper
      ? {
          superblocks: 1,
          descriptors: superblock.firstMetaGroup,
          reserved: superblock.reservedDescriptorBlocks,
        }
      : { superblocks: 0, descriptors: 0, reserved: 0 }
  }
  const within = group % perBlock
  const isHolder = within <= 1 || within === perBlock - 1
  return { superblocks: hasSuper ? 1 : 0, descriptors: isHolder ? 1 : 0, reserved: 0 }
}
