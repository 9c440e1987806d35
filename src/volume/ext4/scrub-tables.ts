import { damaged } from '../refuse.ts'
import { crc32c } from './checksum.ts'
import type { Group } from './groups.ts'
import { isInodeChecksumRight, parseInode } from './inode.ts'
import { type ScrubContext, zeroUnused } from './scrub-context.ts'
import { blankInode, scrubInode } from './scrub-inode.ts'
import { isZero } from './zeroes.ts'

const CHUNK_BYTES = 1_048_576
const PIECE_BYTES = 4096

/** Zeroes inodes that are not in use, and goes into every one that is. */
export async function scrubTables(context: ScrubContext): Promise<void> {
  const { superblock, groups } = context.ext4
  const { blockBytes, inodeBytes, inodesPerGroup, tableBlocks } = superblock
  for (let index = 0; index < superblock.groupCount; index++) {
    const group = groups.get(index)
    const usedCount = group.isInodeUninit ? 0 : inodesPerGroup - group.unusedInodeCount
    const start = group.inodeTable * blockBytes
    if (usedCount > 0) {
      const bitmap = await readBitmap(context, index, group, usedCount)
      const perChunk = Math.floor(CHUNK_BYTES / inodeBytes)
      for (let first = 0; first < usedCount; first += perChunk) {
        const chunk = { group: index, first, count: Math.min(perChunk, usedCount - first), bitmap }
        await scrubChunk(context, start + first * inodeBytes, chunk)
        if (!context.ends.isFull) continue
        await context.pool.drain()
        await context.ends.flush(context.pool)
      }
    }
    const rest = start + usedCount * inodeBytes
    await context.pool.run(() =>
      zeroUnused(context, 'free inodes', rest, start + tableBlocks * blockBytes - rest),
    )
  }
  await context.pool.drain()
  await context.ends.flush(context.pool)
  checkNames(context)
}

async function readBitmap(
  context: ScrubContext,
  index: number,
  group: Group,
  usedCount: number,
): Promise<Buffer> {
  const { superblock, medium } = context.ext4
  const { inodesPerGroup, descriptorBytes } = superblock
  const bitmap = await medium.read(group.inodeBitmap * superblock.blockBytes, inodesPerGroup / 8)
  if (superblock.hasMetadataChecksum) {
    const crc = crc32c(superblock.checksumSeed, bitmap)
    if ((descriptorBytes >= 64 ? crc : crc & 0xffff) !== group.inodeBitmapChecksum) {
      throw damaged(`the checksum of the inode bitmap of group ${index} is wrong`)
    }
  }
  for (let bit = usedCount; bit < inodesPerGroup; bit++) {
    if (isSet(bitmap, bit)) throw damaged(`group ${index} has inodes in use beyond its last one`)
  }
  return bitmap
}

function isSet(bitmap: Buffer, bit: number): boolean {
  return ((bitmap[bit >>> 3] as number) & (1 << (bit & 7))) !== 0
}

interface Chunk {
  readonly group: number
  /** Of its inodes in the group. */
  readonly first: number
  readonly count: number
  readonly bitmap: Buffer
}

async function scrubChunk(context: ScrubContext, offset: number, chunk: Chunk): Promise<void> {
  const { superblock, medium } = context.ext4
  const { inodeBytes, inodesPerGroup } = superblock
  const bytes = await medium.readPast(offset, chunk.count * inodeBytes)
  const changed = new Uint8Array(Math.ceil(bytes.length / PIECE_BYTES))
  const change = (start: number, end: number) =>
    changed.fill(1, Math.floor(start / PIECE_BYTES), Math.ceil(end / PIECE_BYTES))
  for (let index = 0; index < chunk.count; index++) {
    const at = index * inodeBytes
    const end = at + inodeBytes
    if (!isSet(chunk.bitmap, chunk.first + index)) {
      if (isZero(bytes, at, end)) continue
      bytes.fill(0, at, end)
      change(at, end)
      context.tally.add('free inodes', inodeBytes)
      continue
    }
    const number = chunk.group * inodesPerGroup + chunk.first + index + 1
    if (number >= superblock.firstInode) context.inUse.add(number - 1)
    const inode = parseInode(superblock, number, bytes.subarray(at, end))
    if (!isInodeChecksumRight(superblock, inode)) throw damaged(`the checksum of inode ${number} is wrong`)
    const count = blankInode(context, inode)
    if (count > 0) change(at, end)
    context.tally.add('inode ends', count)
    await context.pool.run(() => scrubInode(context, inode))
  }
  for (let piece = 0; piece < changed.length; piece++) {
    if (changed[piece] === 0) continue
    const start = piece * PIECE_BYTES
    while (changed[piece + 1] === 1) piece++
    const end = Math.min(bytes.length, (piece + 1) * PIECE_BYTES)
    if (isZero(bytes, start, end)) await medium.zero(offset + start, end - start)
    else await medium.write(offset + start, bytes.subarray(start, end))
  }
}

/** What is in use has a name and what has a name is in use; a file system check would mend it otherwise. */
function checkNames(context: ScrubContext): void {
  const { groupCount, inodesPerGroup, firstInode } = context.ext4.superblock
  for (let group = 0; group < groupCount; group++) {
    const inUse = context.inUse.page(group)
    const named = context.named.page(group)
    if (inUse === undefined && named === undefined) continue
    for (let byte = 0; byte < inodesPerGroup / 8; byte++) {
      if ((inUse?.[byte] ?? 0) === (named?.[byte] ?? 0)) continue
      for (let bit = byte * 8; bit < byte * 8 + 8; bit++) {
        const number = group * inodesPerGroup + bit + 1
        const mask = 1 << (bit & 7)
        const isSame = (((inUse?.[byte] ?? 0) ^ (named?.[byte] ?? 0)) & mask) === 0
        if (isSame || number < firstInode) continue
        throw damaged(`inode ${number} is in use without a name, or has a name without being in use`)
      }
    }
  }
}
