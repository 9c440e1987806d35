import type { PackId } from '../image/ids.ts'
import { ID_BYTES } from '../store/hashes.ts'
import { findDomainId } from '../store/names.ts'
import type { ChunkTable, PackRef } from '../store/source.ts'

const HEAD_BYTES = 8
const DOMAIN_BYTES_MAX = 64
const COLUMNS = ['packIndex', 'offset', 'storedBytes', 'plainBytes', 'crc32'] as const
/** Stands for the -1 of a chunk that is not there. */
const NOWHERE = 0xffffffff

/** The longest that a table of so many chunks can be. */
export const tableBytesMax = (count: number): number =>
  HEAD_BYTES + count * (ID_BYTES + 1 + DOMAIN_BYTES_MAX + 4 * COLUMNS.length)

/**
 * A table as it goes over the wire: number of chunks (4), of packs (4); for each pack its id (32), the length of its
 * domain's name (1), that name; then the columns, one behind the other: pack or 2³²−1, offset, stored bytes, plain bytes,
 * CRC-32, 4 each. Numbers are little-endian.
 */
export function encodeTable(table: ChunkTable): Buffer {
  const count = table.packIndex.length
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32LE(count, 0)
  head.writeUInt32LE(table.packs.length, 4)
  const packs = table.packs.flatMap(({ id, domain }) => [
    Buffer.from(id, 'hex'),
    Buffer.from([domain.length]),
    Buffer.from(domain),
  ])
  const columns = Buffer.alloc(4 * count * COLUMNS.length)
  for (const [index, column] of COLUMNS.entries()) {
    for (let i = 0; i < count; i++) {
      columns.writeUInt32LE((table[column][i] as number) >>> 0, 4 * (index * count + i))
    }
  }
  return Buffer.concat([head, ...packs, columns])
}

/** Undefined for anything that `encodeTable` does not write of so many chunks. */
export function decodeTable(bytes: Buffer, count: number): ChunkTable | undefined {
  if (bytes.length < HEAD_BYTES || bytes.readUInt32LE(0) !== count) return undefined
  const packCount = bytes.readUInt32LE(4)
  if (packCount > count) return undefined
  const packs: PackRef[] = []
  let at = HEAD_BYTES
  for (let i = 0; i < packCount; i++) {
    const lengthBytes = bytes[at + ID_BYTES]
    if (lengthBytes === undefined) return undefined
    const nameAt = at + ID_BYTES + 1
    const domain = findDomainId(bytes.toString('latin1', nameAt, nameAt + lengthBytes))
    if (domain === undefined || domain.length !== lengthBytes) return undefined
    packs.push({ id: bytes.toString('hex', at, at + ID_BYTES) as PackId, domain })
    at = nameAt + lengthBytes
  }
  if (bytes.length !== at + 4 * count * COLUMNS.length) return undefined
  const table = {
    packs,
    packIndex: new Int32Array(count),
    offset: new Uint32Array(count),
    storedBytes: new Uint32Array(count),
    plainBytes: new Uint32Array(count),
    crc32: new Uint32Array(count),
  }
  for (const [index, column] of COLUMNS.entries()) {
    for (let i = 0; i < count; i++) table[column][i] = bytes.readUInt32LE(at + 4 * (index * count + i))
  }
  for (let i = 0; i < count; i++) {
    const pack = bytes.readUInt32LE(at + 4 * i)
    if (pack !== NOWHERE && pack >= packCount) return undefined
  }
  return table
}

/** Tables of ids that were asked for one run after the other, as one. */
export function joinTables(tables: readonly ChunkTable[]): ChunkTable {
  const [first] = tables
  if (first !== undefined && tables.length === 1) return first
  const count = tables.reduce((sum, one) => sum + one.packIndex.length, 0)
  const packs: PackRef[] = []
  const positions = new Map<string, number>()
  const joined = {
    packs,
    packIndex: new Int32Array(count),
    offset: new Uint32Array(count),
    storedBytes: new Uint32Array(count),
    plainBytes: new Uint32Array(count),
    crc32: new Uint32Array(count),
  }
  let at = 0
  for (const table of tables) {
    const moved = table.packs.map((pack) => {
      const key = `${pack.id} ${pack.domain}`
      const position = positions.get(key) ?? packs.push(pack) - 1
      positions.set(key, position)
      return position
    })
    joined.packIndex.set(
      table.packIndex.map((index) => moved[index] ?? -1),
      at,
    )
    for (const column of COLUMNS.slice(1)) joined[column].set(table[column], at)
    at += table.packIndex.length
  }
  return joined
}
