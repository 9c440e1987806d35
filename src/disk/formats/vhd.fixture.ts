import { vhdChecksum } from './vhd-footer.ts'

const SECTOR = 512

export interface VhdShape {
  readonly type?: 'fixed' | 'dynamic'
  readonly sizeBytes?: number
  /** Four characters. */
  readonly creator?: string
  /** Cylinders, heads and sectors in place of the largest, which stand for no geometry. */
  readonly geometry?: readonly [number, number, number]
  readonly blockBytes?: number
  /** Content by block, of a dynamic disk; of a fixed one the disk begins with block 0's. */
  readonly blocks?: ReadonlyMap<number, Buffer>
  /** Before the checksums are made. */
  readonly patchFooter?: (footer: Buffer) => void
  readonly patchHeader?: (header: Buffer) => void
}

/** A VHD by hand, a few KiB where nothing else is asked for. */
export function buildVhd(shape: VhdShape = {}): Buffer {
  const sizeBytes = shape.sizeBytes ?? 16384
  const blockBytes = shape.blockBytes ?? 4096
  const blocks = shape.blocks ?? new Map([[1, Buffer.alloc(blockBytes, 2)]])
  const footer = vhdFooter(shape, sizeBytes)
  if ((shape.type ?? 'dynamic') === 'fixed') {
    const disk = Buffer.alloc(sizeBytes)
    for (const [index, content] of blocks) content.copy(disk, index * blockBytes)
    return Buffer.concat([disk, footer])
  }
  const entryCount = Math.ceil(sizeBytes / blockBytes)
  const header = Buffer.alloc(1024)
  header.write('cxsparse', 0, 'latin1')
  header.writeBigUInt64BE(0xffffffffffffffffn, 8)
  header.writeBigUInt64BE(BigInt(SECTOR + header.length), 16)
  header.writeUInt32BE(0x00010000, 24)
  header.writeUInt32BE(entryCount, 28)
  header.writeUInt32BE(blockBytes, 32)
  shape.patchHeader?.(header)
  header.writeUInt32BE(vhdChecksum(header, 36), 36)

  const table = Buffer.alloc(Math.ceil((entryCount * 4) / SECTOR) * SECTOR, 0xff)
  const pieces = [footer, header, table]
  const bitmapBytes = Math.ceil(blockBytes / SECTOR / 8 / SECTOR) * SECTOR
  let at = (SECTOR + header.length + table.length) / SECTOR
  for (const [index, content] of blocks) {
    table.writeUInt32BE(at, index * 4)
    pieces.push(Buffer.alloc(bitmapBytes, 0xff), content)
    at += (bitmapBytes + blockBytes) / SECTOR
  }
  return Buffer.concat([...pieces, footer])
}

function vhdFooter(shape: VhdShape, sizeBytes: number): Buffer {
  const [cylinders, heads, sectors] = shape.geometry ?? [65535, 16, 255]
  const isFixed = shape.type === 'fixed'
  const footer = Buffer.alloc(SECTOR)
  footer.write('conectix', 0, 'latin1')
  footer.writeUInt32BE(2, 8)
  footer.writeUInt32BE(0x00010000, 12)
  footer.writeBigUInt64BE(isFixed ? 0xffffffffffffffffn : BigInt(SECTOR), 16)
  footer.write(shape.creator ?? 'win ', 28, 'latin1')
  footer.write('Wi2k', 36, 'latin1')
  footer.writeBigUInt64BE(BigInt(sizeBytes), 40)
  footer.writeBigUInt64BE(BigInt(sizeBytes), 48)
  footer.writeUInt16BE(cylinders, 56)
  footer.writeUInt8(heads, 58)
  footer.writeUInt8(sectors, 59)
  footer.writeUInt32BE(isFixed ? 2 : 3, 60)
  footer.fill(7, 68, 84)
  shape.patchFooter?.(footer)
  footer.writeUInt32BE(vhdChecksum(footer, 64), 64)
  return footer
}
