import { damaged } from '../refuse.ts'
import { BLOCK_HEADER_OFFSET, ENTRY, type IndexEntry, NODE_HEADER_BYTES, parseNode } from './index.ts'

/**
 * Zeroes what earlier entries have left in a node of an index, in place: from `gap` to its entries, behind the last one, and
 * between the key and the end of each. Of indexes that are not of names the ends of entries stay: there are data.
 */
export function zeroNodeSlack(
  bytes: Buffer,
  header: number,
  gap: number,
  entries: readonly IndexEntry[],
  isOfNames: boolean,
): void {
  let end = header + bytes.readUInt32LE(header)
  bytes.fill(0, gap, end)
  for (const { bytes: entry, key, flags } of entries) {
    end += entry.length
    if (!isOfNames && (flags & ENTRY.isEnd) === 0) continue
    const tailBytes = (flags & ENTRY.hasNode) === 0 ? 0 : 8
    entry.fill(0, 16 + key.length, entry.length - tailBytes)
  }
  bytes.fill(0, end)
}

/** A copy of an index block, its update sequence undone, without slack. Throws refuse('damaged') where its entries do not fit. */
export function blockWithoutSlack(block: Buffer, isOfNames: boolean, number: number): Buffer {
  const bytes = Buffer.from(block)
  const entries = parseNode(bytes, BLOCK_HEADER_OFFSET, number)
  const sequence = bytes.readUInt16LE(4)
  const sequenceEnd = sequence + bytes.readUInt16LE(6) * 2
  const first = BLOCK_HEADER_OFFSET + bytes.readUInt32LE(BLOCK_HEADER_OFFSET)
  // It stands between header and entries, and must not be lost with what is there.
  if (sequence < BLOCK_HEADER_OFFSET + NODE_HEADER_BYTES || sequenceEnd > first)
    throw damaged(`the head of an index block of file record ${number} is wrong`)
  zeroNodeSlack(bytes, BLOCK_HEADER_OFFSET, sequenceEnd, entries, isOfNames)
  return bytes
}
