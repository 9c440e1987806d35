import { damaged } from '../refuse.ts'
import { crc32c, crc32cWord } from './checksum.ts'
import type { Inode } from './inode.ts'
import { claim, type ScrubContext } from './scrub-context.ts'
import { blank } from './zeroes.ts'

const MAGIC = 0xea020000
const HEADER_BYTES = 32
const CHECKSUM_AT = 0x10
const ENTRY_BYTES = 16

export function hasAttributes(bytes: Buffer, at: number): boolean {
  return at + 4 <= bytes.length && bytes.readUInt32LE(at) === MAGIC
}

/**
 * Blanks what belongs to no attribute in the bytes from `entriesAt` to the end; values are counted from `valuesAt` on.
 * How many bytes were not zero.
 */
export function blankAttributes(inode: Inode, bytes: Buffer, entriesAt: number, valuesAt: number): number {
  const bad = () => damaged(`the attributes of inode ${inode.number} are out of range`)
  const kept: [number, number][] = []
  let at = entriesAt
  for (;;) {
    if (at + 4 > bytes.length) throw bad()
    if (bytes.readUInt32LE(at) === 0) break
    if (at + ENTRY_BYTES > bytes.length) throw bad()
    const nameBytes = bytes[at] as number
    const valueAt = valuesAt + bytes.readUInt16LE(at + 2)
    const isElsewhere = bytes.readUInt32LE(at + 4) !== 0
    const valueBytes = bytes.readUInt32LE(at + 8)
    const next = at + ENTRY_BYTES + roundUp(nameBytes)
    if (next > bytes.length) throw bad()
    kept.push([at, at + ENTRY_BYTES + nameBytes])
    if (!isElsewhere && valueBytes > 0) {
      // With its padding, which counts in the value's hash.
      const valueEnd = valueAt + roundUp(valueBytes)
      if (valueAt < entriesAt || valueEnd > bytes.length) throw bad()
      kept.push([valueAt, valueEnd])
    }
    at = next
  }
  kept.sort(([a], [b]) => a - b)
  let count = 0
  let free = entriesAt
  for (const [start, end] of kept) {
    count += blank(bytes, free, start)
    free = Math.max(free, end)
  }
  return count + blank(bytes, free, bytes.length)
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / 4) * 4
}

/** The block of attributes that `inode` names. It may be another's too, and is looked at once. */
export async function scrubAttributeBlock(context: ScrubContext, inode: Inode): Promise<void> {
  const { superblock, medium } = context.ext4
  const { blockBytes } = superblock
  const block = inode.attributeBlock
  // An attribute block that another inode shares is no double use; a data block would be.
  if (!context.attributeBlocks.add(block - superblock.firstDataBlock)) return
  claim(context, inode.number, block, 1)
  const bytes = await medium.read(block * blockBytes, blockBytes)
  if (!hasAttributes(bytes, 0) || bytes.readUInt32LE(8) !== 1) {
    throw damaged(`the attribute block of inode ${inode.number} is no such block`)
  }
  const checksum = () => {
    const seed = crc32cWord(crc32cWord(superblock.checksumSeed, block), Math.floor(block / 2 ** 32))
    const head = crc32c(crc32c(seed, bytes, 0, CHECKSUM_AT), Buffer.alloc(4))
    return crc32c(head, bytes, CHECKSUM_AT + 4)
  }
  if (superblock.hasMetadataChecksum && checksum() !== bytes.readUInt32LE(CHECKSUM_AT)) {
    throw damaged(`the checksum of the attribute block of inode ${inode.number} is wrong`)
  }
  const count = blankAttributes(inode, bytes, HEADER_BYTES, 0)
  if (count === 0) return
  if (superblock.hasMetadataChecksum) bytes.writeUInt32LE(checksum(), CHECKSUM_AT)
  await medium.write(block * blockBytes, bytes)
  context.tally.add('attribute blocks', count)
}
