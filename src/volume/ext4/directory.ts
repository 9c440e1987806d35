import type { FileKind } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { mapBlocks } from './block-map.ts'
import { INCOMPAT } from './features.ts'
import { type Ext4, hasFlag, type Inode } from './inode.ts'
import { decodeName } from './names.ts'

/** What its names take in memory is a few times as much. */
const DIRECTORY_BYTES_MAX = 128 * 2 ** 20
const READ_BYTES = 262_144

/** An entry as it lies in its block; `inode` 0: there is none any more. */
export interface RawEntry {
  readonly offset: number
  readonly lengthBytes: number
  readonly inode: number
  readonly nameBytes: number
  readonly fileType: number
}

export interface NamedEntry {
  readonly name: string
  readonly inode: number
  /** Undefined where only the inode can tell. */
  readonly kind: FileKind | undefined
}

/** The entries that fill a block of `inode`, a directory. A block of its index looks like one entry without an inode. */
export function parseDirectoryBlock(inode: Inode, block: Buffer): RawEntry[] {
  const entries: RawEntry[] = []
  for (let offset = 0; offset < block.length; ) {
    if (offset + 8 > block.length) throw damaged(`directory ${inode.number} has a broken entry`)
    const lengthBytes = recordBytes(block.readUInt16LE(offset + 4), block.length)
    const number = block.readUInt32LE(offset)
    const nameBytes = block[offset + 6] as number
    if (
      lengthBytes < 12 ||
      lengthBytes % 4 !== 0 ||
      offset + lengthBytes > block.length ||
      (number !== 0 && (nameBytes === 0 || 8 + nameBytes > lengthBytes))
    ) {
      throw damaged(`directory ${inode.number} has a broken entry`)
    }
    entries.push({ offset, lengthBytes, inode: number, nameBytes, fileType: block[offset + 7] as number })
    offset += lengthBytes
  }
  return entries
}

/** Lengths of 64 KiB do not fit their field. */
function recordBytes(stored: number, blockBytes: number): number {
  if (blockBytes < 65_536) return stored
  if (stored === 0 || stored === 65_535) return blockBytes
  return (stored & 65_532) | ((stored & 3) << 16)
}

/** The physical block of every logical one, 0 for a hole; refuses a directory that is too long or not in whole blocks. */
export function checkDirectorySize(ext4: Ext4, inode: Inode): number {
  const { blockBytes } = ext4.superblock
  if (inode.sizeBytes % blockBytes !== 0)
    throw damaged(`the size of directory ${inode.number} is out of range`)
  if (inode.sizeBytes > DIRECTORY_BYTES_MAX) {
    throw refuse(
      'too-large',
      `Directory ${inode.number} of the ext4 file system is too large to be cleaned. Spread its files over several, or ask for best-effort.`,
    )
  }
  return inode.sizeBytes / blockBytes
}

/** Every name but '.' and '..', block by block. */
export async function* readEntries(ext4: Ext4, inode: Inode): AsyncGenerator<readonly NamedEntry[]> {
  const { medium, superblock } = ext4
  const { blockBytes } = superblock
  const logicalEnd = checkDirectorySize(ext4, inode)
  let blockCount = 0
  for await (const runs of mapBlocks(ext4, inode, { logicalEnd })) {
    for (const run of runs) {
      const count = Math.min(run.count, logicalEnd - run.logical)
      if (count <= 0 || !run.isWritten) continue
      // Pointers may all lead to the same block.
      blockCount += count
      if (blockCount > logicalEnd) throw damaged(`directory ${inode.number} has more blocks than it is long`)
      const step = Math.max(1, READ_BYTES / blockBytes)
      for (let index = 0; index < count; index += step) {
        const take = Math.min(step, count - index)
        const bytes = await medium.read((run.physical + index) * blockBytes, take * blockBytes)
        for (let at = 0; at < bytes.length; at += blockBytes) {
          yield namesOf(ext4, inode, bytes.subarray(at, at + blockBytes))
        }
      }
    }
  }
}

function namesOf(ext4: Ext4, inode: Inode, block: Buffer): NamedEntry[] {
  const hasTypes = (ext4.superblock.features.incompat & INCOMPAT.filetype) !== 0
  const isEncrypted = hasFlag(inode, 'encrypted')
  const names: NamedEntry[] = []
  for (const entry of parseDirectoryBlock(inode, block)) {
    if (entry.inode === 0) continue
    if (entry.inode > ext4.superblock.inodeCount) throw damaged(`directory ${inode.number} names no inode`)
    const bytes = block.subarray(entry.offset + 8, entry.offset + 8 + entry.nameBytes)
    if (isDots(bytes)) continue
    // Encrypted names are any bytes; others would be taken for another path.
    if (!isEncrypted && (bytes.includes(0) || bytes.includes(0x2f))) {
      throw damaged(`directory ${inode.number} has an impossible name`)
    }
    names.push({
      name: decodeName(bytes),
      inode: entry.inode,
      kind: hasTypes ? kindOfFileType(entry.fileType) : undefined,
    })
  }
  return names
}

export function isDots(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))
}

function kindOfFileType(fileType: number): FileKind | undefined {
  if (fileType === 1) return 'file'
  if (fileType === 2) return 'directory'
  if (fileType === 7) return 'link'
  return fileType >= 3 && fileType <= 6 ? 'other' : undefined
}
