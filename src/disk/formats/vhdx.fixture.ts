import { vhdxChecksum } from './vhdx-checksum.ts'

const MIB = 1024 * 1024
const LOG = MIB
const METADATA = 2 * MIB
const BLOCKS = 3 * MIB
const ITEMS = 0x10000

export interface VhdxShape {
  readonly virtualBytes?: number
  readonly blockBytes?: number
  readonly logicalSectorBytes?: number
  /** Of the file parameters: 1 leave allocated, 2 has a parent. */
  readonly flags?: number
  /** Content of whole blocks by their place on the disk. */
  readonly blocks?: ReadonlyMap<number, Buffer>
  /** Before the checksums are made. */
  readonly patchHeader?: (header: Buffer, index: number) => void
  readonly patchRegions?: (table: Buffer) => void
  readonly patchMetadata?: (region: Buffer) => void
  readonly patchBlocks?: (table: Buffer) => void
}

/** A VHDX by hand: 4 MiB, mostly zeros, and what its blocks take. */
export function buildVhdx(shape: VhdxShape = {}): Buffer {
  const blockBytes = shape.blockBytes ?? MIB
  const blocks = shape.blocks ?? new Map()
  const file = Buffer.alloc(BLOCKS + MIB + blocks.size * blockBytes)
  file.write('vhdxfile', 0, 'latin1')
  for (const index of [0, 1]) {
    const header = file.subarray(0x10000 * (1 + index), 0x10000 * (1 + index) + 4096)
    header.write('head', 0, 'latin1')
    header.writeBigUInt64LE(BigInt(7 + index), 8)
    header.writeUInt16LE(1, 66)
    header.writeUInt32LE(MIB, 68)
    header.writeBigUInt64LE(BigInt(LOG), 72)
    shape.patchHeader?.(header, index)
    header.writeUInt32LE(vhdxChecksum(header, 4), 4)
  }
  const regions = Buffer.alloc(0x10000)
  regions.write('regi', 0, 'latin1')
  regions.writeUInt32LE(2, 8)
  writeRegion(regions, 16, '6677c22d23f600429d64115e9bfd4a08', BLOCKS)
  writeRegion(regions, 48, '06a27c8b90479a4bb8fe575f050f886e', METADATA)
  shape.patchRegions?.(regions)
  regions.writeUInt32LE(vhdxChecksum(regions, 4), 4)
  regions.copy(file, 0x30000)
  regions.copy(file, 0x40000)
  writeMetadata(file.subarray(METADATA, METADATA + MIB), shape)

  const table = file.subarray(BLOCKS, BLOCKS + MIB)
  let at = BLOCKS + MIB
  for (const [block, content] of blocks) {
    const ratio = (2 ** 23 * (shape.logicalSectorBytes ?? 512)) / blockBytes
    table.writeBigUInt64LE(BigInt(at) | 6n, (block + Math.floor(block / ratio)) * 8)
    content.copy(file, at)
    at += blockBytes
  }
  shape.patchBlocks?.(table)
  return file
}

/** Adds an item to the table of the region: `flags` 4 is 'required'. */
export function writeVhdxItem(region: Buffer, id: string, content: Buffer, flags = 4): void {
  const count = region.readUInt16LE(10)
  const offset = ITEMS + count * 64
  const entry = 32 + count * 32
  region.write(id, entry, 'hex')
  region.writeUInt32LE(offset, entry + 16)
  region.writeUInt32LE(content.length, entry + 20)
  region.writeUInt32LE(flags, entry + 24)
  content.copy(region, offset)
  region.writeUInt16LE(count + 1, 10)
}

export function writeRegion(table: Buffer, at: number, id: string, offset: number, isRequired = true): void {
  table.write(id, at, 'hex')
  table.writeBigUInt64LE(BigInt(offset), at + 16)
  table.writeUInt32LE(MIB, at + 24)
  table.writeUInt32LE(isRequired ? 1 : 0, at + 28)
}

function writeMetadata(region: Buffer, shape: VhdxShape): void {
  region.write('metadata', 0, 'latin1')
  const parameters = Buffer.alloc(8)
  parameters.writeUInt32LE(shape.blockBytes ?? MIB, 0)
  parameters.writeUInt32LE(shape.flags ?? 0, 4)
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(shape.virtualBytes ?? 4 * MIB), 0)
  const logical = Buffer.alloc(4)
  logical.writeUInt32LE(shape.logicalSectorBytes ?? 512)
  const physical = Buffer.alloc(4)
  physical.writeUInt32LE(4096)
  writeVhdxItem(region, '3767a1ca36fa434db3b633f0aa44e76b', parameters)
  writeVhdxItem(region, '2442a52f1bcd7648b2115dbed83bf4b8', size)
  writeVhdxItem(region, 'ab12cabee6b2234593efc309e000c746', Buffer.alloc(16, 5))
  writeVhdxItem(region, '1dbf41816fa90947ba47f233a8faab5f', logical)
  writeVhdxItem(region, 'c748a3cd5d4471449cc9e9885251c556', physical)
  shape.patchMetadata?.(region)
}
