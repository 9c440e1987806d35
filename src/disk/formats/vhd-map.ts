import { cachedSource } from './cached-source.ts'
import type { ByteSource } from './contract.ts'
import { fileChanged, type UnitTable } from './disk-map.ts'
import { isInside, readInside, SECTOR_BYTES, uint64BE } from './numbers.ts'
import { parseVhdFooter, VHD_FIXED } from './vhd-footer.ts'

const HEADER_BYTES = 1024
const UNUSED = 0xffffffff
const BLOCK_BYTES_MIN = 4096
const BLOCK_BYTES_MAX = 256 * 1024 * 1024
/** Of a fixed disk, which has no blocks: any will do. */
const FIXED_UNIT_BYTES = 2 * 1024 * 1024

/** The blocks of a VHD that `inspectVhd` accepted, fixed or dynamic. */
export async function openVhdTable(source: ByteSource, signal?: AbortSignal): Promise<UnitTable> {
  const file = cachedSource(source)
  const endOfBlocks = source.sizeBytes - SECTOR_BYTES
  const footer = parseVhdFooter(await readInside(file, endOfBlocks, SECTOR_BYTES, signal))
  const { virtualBytes: sizeBytes } = footer
  if (footer.type === VHD_FIXED) return fixedTable(sizeBytes, endOfBlocks)
  const headerOffset = Number(footer.headerOffset)
  const header = await readInside(file, headerOffset, HEADER_BYTES, signal)
  const tableOffset = uint64BE(header, 16)
  const entryCount = header.readUInt32BE(28)
  const blockBytes = header.readUInt32BE(32)
  const isBlockSize =
    blockBytes >= BLOCK_BYTES_MIN && blockBytes <= BLOCK_BYTES_MAX && blockBytes % SECTOR_BYTES === 0
  const tableBytes = entryCount * 4
  if (!isBlockSize || entryCount * blockBytes < sizeBytes || !isInside(source, tableOffset, tableBytes)) {
    throw fileChanged()
  }
  // Which sectors of a block were written says only something about a parent: of the others the block holds zeroes.
  const bitmapBytes = Math.ceil(blockBytes / SECTOR_BYTES / 8 / SECTOR_BYTES) * SECTOR_BYTES
  const taken = [
    { from: 0, to: SECTOR_BYTES },
    { from: headerOffset, to: headerOffset + HEADER_BYTES },
    { from: tableOffset, to: tableOffset + tableBytes },
  ]

  return {
    sizeBytes,
    unitBytes: blockBytes,
    async read(first, places) {
      const entries = await file.read(tableOffset + first * 4, places.length * 4)
      for (let index = 0; index < places.length; index++) {
        const sector = entries.readUInt32BE(index * 4)
        if (sector === UNUSED) continue
        const from = sector * SECTOR_BYTES
        const to = from + bitmapBytes + blockBytes
        if (to > endOfBlocks || taken.some((other) => from < other.to && other.from < to)) throw fileChanged()
        places[index] = from + bitmapBytes
      }
    },
  }
}

/** The disk as it is, with the footer behind it. */
function fixedTable(sizeBytes: number, endOfBlocks: number): UnitTable {
  if (sizeBytes > endOfBlocks) throw fileChanged()
  return {
    sizeBytes,
    unitBytes: FIXED_UNIT_BYTES,
    async read(first, places) {
      for (let index = 0; index < places.length; index++) places[index] = (first + index) * FIXED_UNIT_BYTES
    },
  }
}
