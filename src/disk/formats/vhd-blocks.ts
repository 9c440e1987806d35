import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'
import { isZero, readInside, refuseTruncated, SECTOR_BYTES, uint64BE } from './numbers.ts'
import {
  refuseFeatures,
  refuseVhd,
  refuseVhdParent,
  VHD_VERSION,
  type VhdFooter,
  vhdChecksum,
} from './vhd-footer.ts'

export const VHD_HEADER_MARK = 'cxsparse'
const HEADER_BYTES = 1024
/** 2 040 GiB of the smallest blocks that tools write (512 KiB); their table takes 16 MiB. */
const ENTRIES_MAX = 2 ** 22
const BLOCK_BYTES_MIN = 4096
const BLOCK_BYTES_MAX = 256 * 1024 * 1024
const UNUSED = 0xffffffff
const TABLE_WINDOW = 16384

/** Checks the second header of a dynamic disk and every entry of its table: each block whole inside, none on another. */
export async function walkVhdBlocks(
  file: ByteSource,
  footer: VhdFooter,
  signal?: AbortSignal,
): Promise<void> {
  if (footer.headerOffset > BigInt(file.sizeBytes)) throw refuseTruncated()
  const headerOffset = Number(footer.headerOffset)
  const header = await readInside(file, headerOffset, HEADER_BYTES, signal)
  const { entryCount, blockBytes, tableOffset } = parseHeader(header)
  if (entryCount > ENTRIES_MAX || entryCount * blockBytes < footer.virtualBytes) throw refuseTables()

  const endOfBlocks = file.sizeBytes - SECTOR_BYTES
  const bitmapBytes = Math.ceil(blockBytes / SECTOR_BYTES / 8 / SECTOR_BYTES) * SECTOR_BYTES
  const taken: [from: number, to: number][] = [
    [0, SECTOR_BYTES],
    [headerOffset, headerOffset + HEADER_BYTES],
    [tableOffset, tableOffset + entryCount * 4],
  ]
  if (tableOffset + entryCount * 4 > endOfBlocks || overlaps(taken)) throw refuseTables()

  const places = await readPlaces(file, tableOffset, entryCount, signal)
  let end = 0
  for (const sector of places) {
    const from = sector * SECTOR_BYTES
    const to = from + bitmapBytes + blockBytes
    if (to > endOfBlocks) throw refuseTruncated()
    if (from < end || taken.some((other) => from < other[1] && other[0] < to)) throw refuseTables()
    end = to
  }
}

/** What the table says, rising: equal blocks overlap only where a neighbour in this order does. */
async function readPlaces(file: ByteSource, tableOffset: number, entryCount: number, signal?: AbortSignal) {
  const places = new Uint32Array(entryCount)
  let count = 0
  for (let first = 0; first < entryCount; first += TABLE_WINDOW) {
    const windowCount = Math.min(TABLE_WINDOW, entryCount - first)
    const window = await readInside(file, tableOffset + first * 4, windowCount * 4, signal)
    for (let index = 0; index < windowCount; index++) {
      const sector = window.readUInt32BE(index * 4)
      if (sector !== UNUSED) places[count++] = sector
    }
  }
  return places.subarray(0, count).sort()
}

function parseHeader(header: Buffer) {
  if (header.toString('latin1', 0, 8) !== VHD_HEADER_MARK) throw refuseVhd()
  if (header.readUInt32BE(36) !== vhdChecksum(header, 36)) throw refuseVhd()
  if (header.readUInt32BE(24) !== VHD_VERSION) throw refuseFeatures()
  // A parent's id and time, its name, and eight places where it might be.
  if (!isZero(header.subarray(40, 60)) || !isZero(header.subarray(64, 768))) throw refuseVhdParent()
  if (!isZero(header.subarray(60, 64)) || !isZero(header.subarray(768))) throw refuseFeatures()
  const blockBytes = header.readUInt32BE(32)
  if (blockBytes < BLOCK_BYTES_MIN || blockBytes > BLOCK_BYTES_MAX || (blockBytes & (blockBytes - 1)) !== 0) {
    throw refuseTables()
  }
  return { entryCount: header.readUInt32BE(28), blockBytes, tableOffset: uint64BE(header, 16) }
}

function overlaps(ranges: readonly [from: number, to: number][]): boolean {
  return ranges.some((one, index) =>
    ranges.slice(index + 1).some((other) => one[0] < other[1] && other[0] < one[1]),
  )
}

function refuseTables() {
  return refuseFile(
    'tables',
    'The table of this VHD leads to places where no data can be: it is damaged, or made to do harm. Export it again.',
  )
}
