import type { Medium, Run } from './contract.ts'
import { damaged, refuse } from './refuse.ts'
import { isInside } from './slice.ts'
import { isZeroBytes } from './wipe.ts'

/** MBR tables count in sectors of this size; that of a disk with larger ones is not read, its partitions look unknown. */
export const MBR_SECTOR_BYTES = 512
const LOGICAL_MAX = 128
const EXTENDED_TYPES: readonly number[] = [0x05, 0x0f, 0x85]

/** Covers the disk so that software which knows no GPT keeps off. */
export const PROTECTIVE_TYPE = 0xee

export interface MbrPartition extends Run {
  readonly number: number
  readonly type: number
}

export interface Mbr {
  /** Without the extended one. */
  readonly partitions: readonly MbrPartition[]
  /** The sectors that hold tables. */
  readonly tables: readonly Run[]
}

/**
 * The four entries of a table that are in use, or undefined if these bytes are none: a boot sector of a file system ends
 * in the same two bytes, with code where the table would be.
 */
export function readMbrEntries(sector: Buffer, sizeBytes: number): readonly MbrPartition[] | undefined {
  if (sector.length < MBR_SECTOR_BYTES || sector.readUInt16LE(510) !== 0xaa55) return undefined
  const entries: MbrPartition[] = []
  for (let index = 0; index < 4; index++) {
    const at = 446 + index * 16
    const flag = sector.readUInt8(at)
    if (flag !== 0 && flag !== 0x80) return undefined
    const type = sector.readUInt8(at + 4)
    const first = sector.readUInt32LE(at + 8)
    const count = sector.readUInt32LE(at + 12)
    if (type === 0 || count === 0) continue
    if (first === 0 || first * MBR_SECTOR_BYTES >= sizeBytes) return undefined
    entries.push({
      number: index + 1,
      type,
      offset: first * MBR_SECTOR_BYTES,
      lengthBytes: count * MBR_SECTOR_BYTES,
    })
  }
  return entries
}

/** All partitions behind the entries of the first sector, the logical ones too (5 and up). Throws refusals 'damaged' and 'unsupported'. */
export async function readMbr(medium: Medium, entries: readonly MbrPartition[]): Promise<Mbr> {
  const partitions = entries.filter(({ type }) => !EXTENDED_TYPES.includes(type))
  const extended = entries.filter(({ type }) => EXTENDED_TYPES.includes(type))
  const tables: Run[] = [{ offset: 0, lengthBytes: MBR_SECTOR_BYTES }]
  for (const { number, offset, lengthBytes } of entries) {
    if (!isInside(medium.sizeBytes, offset, lengthBytes))
      throw damaged(`partition ${number} ends behind the disk`)
  }
  if (extended.length > 1) {
    throw refuse('unsupported', 'The disk has two extended partitions. Keep one, then try again.')
  }
  const [whole] = extended
  if (whole === undefined) return { partitions, tables }
  const logical = await readLogical(medium, whole)
  return { partitions: [...partitions, ...logical.partitions], tables: [...tables, ...logical.tables] }
}

/** The chain of tables in an extended partition. Each may name one partition, and the next table. */
async function readLogical(medium: Medium, whole: MbrPartition): Promise<Mbr> {
  const partitions: MbrPartition[] = []
  const tables: Run[] = []
  const end = whole.offset + whole.lengthBytes
  const seen = new Set<number>()
  let next: number | undefined = whole.offset
  while (next !== undefined) {
    const here: number = next
    if (seen.has(here) || seen.size >= LOGICAL_MAX)
      throw damaged('the chain of logical partitions has no end')
    if (!isInside(end, here, MBR_SECTOR_BYTES))
      throw damaged('a logical partition lies outside of its extended one')
    seen.add(here)
    const sector = await medium.read(here, MBR_SECTOR_BYTES)
    // An extended partition that nobody has put anything in yet.
    if (seen.size === 1 && isZeroBytes(sector)) break
    if (sector.readUInt16LE(510) !== 0xaa55) throw damaged('a table of logical partitions is none')
    tables.push({ offset: here, lengthBytes: MBR_SECTOR_BYTES })
    next = undefined
    for (let index = 0; index < 4; index++) {
      const at = 446 + index * 16
      const type = sector.readUInt8(at + 4)
      const first = sector.readUInt32LE(at + 8) * MBR_SECTOR_BYTES
      const lengthBytes = sector.readUInt32LE(at + 12) * MBR_SECTOR_BYTES
      if (type === 0 || lengthBytes === 0) continue
      if (index >= 2) throw damaged('a table of logical partitions has more than two entries')
      if (EXTENDED_TYPES.includes(type)) {
        if (next !== undefined) throw damaged('a table of logical partitions goes on at two places')
        next = whole.offset + first
        continue
      }
      const number = 5 + partitions.length
      const offset = here + first
      if (first === 0 || offset < whole.offset || !isInside(end, offset, lengthBytes)) {
        throw damaged(`partition ${number} lies outside of its extended one`)
      }
      partitions.push({ number, type, offset, lengthBytes })
    }
  }
  return { partitions, tables }
}
