import { VDI_MARK } from './vdi.ts'

const MIB = 1024 * 1024
const MAP_OFFSET = 512

export interface VdiShape {
  readonly type?: number
  readonly sizeBytes?: number
  /** The block's place in the file by its place on the disk; what is in them is told by `fill`. */
  readonly places?: ReadonlyMap<number, number>
  readonly fill?: number
  readonly patch?: (header: Buffer) => void
}

/** A VDI by hand: 1 KiB where no block is asked for, as its blocks have 1 MiB each. */
export function buildVdi(shape: VdiShape = {}): Buffer {
  const sizeBytes = shape.sizeBytes ?? 2 * MIB
  const places = shape.places ?? new Map()
  const blockCount = Math.ceil(sizeBytes / MIB)
  const dataOffset = MAP_OFFSET + Math.ceil((blockCount * 4) / 512) * 512
  const storedCount = Math.max(-1, ...places.values()) + 1
  const file = Buffer.alloc(dataOffset + storedCount * MIB, shape.fill ?? 3)
  file.fill(0, 0, MAP_OFFSET)
  file.fill(0xff, MAP_OFFSET, dataOffset)
  file.write('<<< VDI by hand >>>\n', 0, 'latin1')
  file.writeUInt32LE(VDI_MARK, 64)
  file.writeUInt32LE(0x00010001, 68)
  file.writeUInt32LE(0x190, 72)
  file.writeUInt32LE(shape.type ?? 1, 76)
  file.writeUInt32LE(MAP_OFFSET, 340)
  file.writeUInt32LE(dataOffset, 344)
  file.writeUInt32LE(512, 360)
  file.writeBigUInt64LE(BigInt(sizeBytes), 368)
  file.writeUInt32LE(MIB, 376)
  file.writeUInt32LE(blockCount, 384)
  file.writeUInt32LE(places.size, 388)
  file.fill(9, 392, 408)
  for (const [block, place] of places) file.writeUInt32LE(place, MAP_OFFSET + block * 4)
  shape.patch?.(file)
  return file
}
