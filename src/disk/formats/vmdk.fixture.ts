import { deflateSync } from 'node:zlib'

const SECTOR = 512
const TABLE_SECTORS = 4
const DESCRIPTOR_SECTORS = 4

export interface VmdkShape {
  readonly kind?: 'monolithicSparse' | 'streamOptimized'
  readonly version?: number
  readonly capacitySectors?: number
  readonly grainSectors?: number
  /** Content by grain; the rest is not allocated. */
  readonly grains?: ReadonlyMap<number, Buffer>
  /** Where a stream's directory is told; the header does otherwise. */
  readonly hasFooter?: boolean
  /** The whole text, in place of one that fits. */
  readonly descriptor?: string
  /** Lines behind those that fit. */
  readonly moreDescriptor?: string
  readonly patchHeader?: (header: Buffer) => void
  readonly patchFooter?: (footer: Buffer) => void
  /** Of the data of a grain as it is stored in a stream. */
  readonly packGrain?: (content: Buffer) => Buffer
}

/** A VMDK by hand, a few KiB where nothing else is asked for. */
export function buildVmdk(shape: VmdkShape = {}): Buffer {
  const parts = partsOf(shape)
  const { header, descriptor, kind } = parts
  const file = kind === 'streamOptimized' ? stream(shape, parts) : sparse(parts)
  descriptor.copy(file, SECTOR)
  const bytes = file.subarray(0, SECTOR)
  header.copy(bytes)
  shape.patchHeader?.(bytes)
  return file
}

export function vmdkDescriptor(kind: string, extents: readonly string[], more = ''): string {
  return [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    'parentCID=ffffffff',
    `createType="${kind}"`,
    '# Extent description',
    ...extents,
    'ddb.virtualHWVersion = "4"',
    'ddb.adapterType = "ide"',
    more,
  ].join('\n')
}

interface Parts {
  readonly kind: 'monolithicSparse' | 'streamOptimized'
  readonly header: Buffer
  readonly descriptor: Buffer
  readonly grainSectors: number
  readonly tableCount: number
  readonly directorySectors: number
  readonly overheadSectors: number
  readonly grains: ReadonlyMap<number, Buffer>
}

function partsOf(shape: VmdkShape): Parts {
  const kind = shape.kind ?? 'monolithicSparse'
  const capacity = shape.capacitySectors ?? 128
  const grainSectors = shape.grainSectors ?? 8
  const tableCount = Math.ceil(capacity / grainSectors / 512)
  const directorySectors = Math.ceil((tableCount * 4) / SECTOR)
  const tablesEnd = 1 + DESCRIPTOR_SECTORS + directorySectors + tableCount * TABLE_SECTORS
  const overheadSectors = Math.ceil(tablesEnd / grainSectors) * grainSectors
  const isStream = kind === 'streamOptimized'

  const header = Buffer.alloc(SECTOR)
  header.write('KDMV', 0, 'latin1')
  header.writeUInt32LE(shape.version ?? (isStream ? 3 : 1), 4)
  header.writeUInt32LE(isStream ? 0x30001 : 1, 8)
  header.writeBigUInt64LE(BigInt(capacity), 12)
  header.writeBigUInt64LE(BigInt(grainSectors), 20)
  header.writeBigUInt64LE(1n, 28)
  header.writeBigUInt64LE(BigInt(DESCRIPTOR_SECTORS), 36)
  header.writeUInt32LE(512, 44)
  header.writeBigUInt64LE(BigInt(1 + DESCRIPTOR_SECTORS), 56)
  header.writeBigUInt64LE(BigInt(overheadSectors), 64)
  header.write('\n \r\n', 73, 'latin1')
  header.writeUInt16LE(isStream ? 1 : 0, 77)

  const text =
    shape.descriptor ?? vmdkDescriptor(kind, [`RW ${capacity} SPARSE "disk.vmdk"`], shape.moreDescriptor)
  const descriptor = Buffer.alloc(DESCRIPTOR_SECTORS * SECTOR)
  descriptor.write(text, 0, 'latin1')
  return {
    kind,
    header,
    descriptor,
    grainSectors,
    tableCount,
    directorySectors,
    overheadSectors,
    grains: shape.grains ?? new Map([[0, Buffer.alloc(grainSectors * SECTOR, 1)]]),
  }
}

/** Header, description, directory, tables, grains. */
function sparse({ tableCount, directorySectors, overheadSectors, grainSectors, grains }: Parts): Buffer {
  const file = Buffer.alloc((overheadSectors + grains.size * grainSectors) * SECTOR)
  const directory = (1 + DESCRIPTOR_SECTORS) * SECTOR
  const tables = 1 + DESCRIPTOR_SECTORS + directorySectors
  for (let index = 0; index < tableCount; index++) {
    file.writeUInt32LE(tables + index * TABLE_SECTORS, directory + index * 4)
  }
  let at = overheadSectors
  for (const [grain, content] of grains) {
    file.writeUInt32LE(at, tables * SECTOR + grain * 4)
    content.copy(file, at * SECTOR)
    at += grainSectors
  }
  return file
}

/** Header, description, grains with their markers, tables and directory with theirs, footer. */
function stream(shape: VmdkShape, parts: Parts): Buffer {
  const pieces: Buffer[] = [Buffer.alloc(parts.overheadSectors * SECTOR)]
  let at = parts.overheadSectors
  const push = (bytes: Buffer): number => {
    const sector = at
    const padded = Buffer.alloc(Math.ceil(bytes.length / SECTOR) * SECTOR)
    bytes.copy(padded)
    pieces.push(padded)
    at += padded.length / SECTOR
    return sector
  }
  const table = Buffer.alloc(parts.tableCount * TABLE_SECTORS * SECTOR)
  for (const [grain, content] of parts.grains) {
    const packed = (shape.packGrain ?? ((bytes) => deflateSync(bytes)))(content)
    const marker = Buffer.alloc(12)
    marker.writeBigUInt64LE(BigInt(grain * parts.grainSectors), 0)
    marker.writeUInt32LE(packed.length, 8)
    table.writeUInt32LE(push(Buffer.concat([marker, packed])), grain * 4)
  }
  push(marker(table.length / SECTOR, 1))
  const tables = push(table)
  const directory = Buffer.alloc(parts.directorySectors * SECTOR)
  for (let index = 0; index < parts.tableCount; index++) {
    directory.writeUInt32LE(tables + index * TABLE_SECTORS, index * 4)
  }
  push(marker(parts.directorySectors, 2))
  parts.header.writeBigUInt64LE(BigInt(push(directory)), 56)
  if (shape.hasFooter ?? true) {
    const footer = Buffer.from(parts.header)
    parts.header.writeBigUInt64LE(0xffffffffffffffffn, 56)
    shape.patchFooter?.(footer)
    push(marker(1, 3))
    push(footer)
  }
  push(marker(0, 0))
  return Buffer.concat(pieces)
}

function marker(sectors: number, type: number): Buffer {
  const bytes = Buffer.alloc(SECTOR)
  bytes.writeBigUInt64LE(BigInt(sectors), 0)
  bytes.writeUInt32LE(type, 12)
  return bytes
}
