import { crc32 } from 'node:zlib'
import type { Medium, Run } from './contract.ts'
import { damaged } from './refuse.ts'
import { isInside } from './slice.ts'

const SECTOR_BYTES_CHOICES = [512, 4096] as const
const ENTRIES_MAX = 1024
const ENTRY_BYTES_MAX = 4096
const EMPTY_TYPE = '00000000-0000-0000-0000-000000000000'

export interface GptPartition extends Run {
  readonly number: number
  /** Upper case, with dashes. */
  readonly type: string
}

export interface Gpt {
  readonly sectorBytes: number
  readonly partitions: readonly GptPartition[]
  /** Where headers and tables of partitions lie, as far as they are sound. */
  readonly tables: readonly Run[]
}

interface Header {
  readonly at: Run
  readonly table: Run
  readonly entryBytes: number
  readonly firstUsable: number
  readonly lastUsable: number
  readonly alternate: number
  readonly entries: Buffer
}

/**
 * The GUID partition table: the first copy, or the last one where the first does not check. Throws refusals 'damaged' if
 * neither does. To be called only for a disk with a protective MBR. Source: UEFI 2.10, 5.3.
 */
export async function readGpt(medium: Medium): Promise<Gpt> {
  for (const sectorBytes of SECTOR_BYTES_CHOICES) {
    const first = await readHeader(medium, sectorBytes, 1)
    const last = Math.floor(medium.sizeBytes / sectorBytes) - 1
    const header = first ?? (await readHeader(medium, sectorBytes, last))
    if (header === undefined) continue
    const other = first === undefined ? undefined : await readHeader(medium, sectorBytes, header.alternate)
    const tables = [header, ...(other === undefined ? [] : [other])].flatMap(({ at, table }) => [at, table])
    return { sectorBytes, partitions: readEntries(header, sectorBytes), tables }
  }
  throw damaged('neither copy of the GUID partition table is sound')
}

/** Undefined if there is no sound header with a sound table at that sector. */
async function readHeader(medium: Medium, sectorBytes: number, sector: number): Promise<Header | undefined> {
  const offset = sector * sectorBytes
  if (sector < 1 || !isInside(medium.sizeBytes, offset, sectorBytes)) return undefined
  const bytes = await medium.read(offset, sectorBytes)
  if (bytes.toString('latin1', 0, 8) !== 'EFI PART') return undefined
  const headerBytes = bytes.readUInt32LE(12)
  if (headerBytes < 92 || headerBytes > sectorBytes) return undefined
  const summed = Buffer.from(bytes.subarray(0, headerBytes))
  summed.writeUInt32LE(0, 16)
  if (crc32(summed) !== bytes.readUInt32LE(16)) return undefined
  const number = (at: number): number => Number(bytes.readBigUInt64LE(at))
  if (number(24) !== sector) return undefined
  const count = bytes.readUInt32LE(80)
  const entryBytes = bytes.readUInt32LE(84)
  if (count > ENTRIES_MAX || entryBytes < 128 || entryBytes > ENTRY_BYTES_MAX || entryBytes % 8 !== 0) {
    return undefined
  }
  const table: Run = { offset: number(72) * sectorBytes, lengthBytes: count * entryBytes }
  if (number(72) < 1 || !isInside(medium.sizeBytes, table.offset, table.lengthBytes)) return undefined
  const entries = await medium.read(table.offset, table.lengthBytes)
  if (crc32(entries) !== bytes.readUInt32LE(88)) return undefined
  return {
    at: { offset, lengthBytes: sectorBytes },
    table,
    entryBytes,
    firstUsable: number(40),
    lastUsable: number(48),
    alternate: number(32),
    entries,
  }
}

function readEntries(header: Header, sectorBytes: number): readonly GptPartition[] {
  const partitions: GptPartition[] = []
  for (let at = 0; at + header.entryBytes <= header.entries.length; at += header.entryBytes) {
    const type = readGuid(header.entries, at)
    if (type === EMPTY_TYPE) continue
    const number = at / header.entryBytes + 1
    const first = Number(header.entries.readBigUInt64LE(at + 32))
    const last = Number(header.entries.readBigUInt64LE(at + 40))
    if (first < header.firstUsable || last > header.lastUsable || last < first) {
      throw damaged(`partition ${number} lies outside of what the GUID partition table may use`)
    }
    partitions.push({
      number,
      type,
      offset: first * sectorBytes,
      lengthBytes: (last - first + 1) * sectorBytes,
    })
  }
  return partitions
}

/** The first three fields of a GUID are little-endian. */
function readGuid(bytes: Buffer, at: number): string {
  const hex = (from: number, to: number): string => bytes.toString('hex', at + from, at + to)
  const little = (from: number, to: number): string =>
    Buffer.from(bytes.subarray(at + from, at + to))
      .reverse()
      .toString('hex')
  return [little(0, 4), little(4, 6), little(6, 8), hex(8, 10), hex(10, 16)].join('-').toUpperCase()
}
