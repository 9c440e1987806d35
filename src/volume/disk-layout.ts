import type { DiskLayout, FoundVolume, Medium, Run } from './contract.ts'
import { readGpt } from './gpt.ts'
import { MBR_SECTOR_BYTES, type MbrPartition, PROTECTIVE_TYPE, readMbr, readMbrEntries } from './mbr.ts'
import { type Probed, probe } from './probe.ts'
import { findMemberAtEnd } from './probe-members.ts'
import { damaged, refuse } from './refuse.ts'
import { slice } from './slice.ts'
import { isZeroBytes, isZeroRange } from './wipe.ts'

/** Boot loaders lie between the table and the first partition, which begins here at the latest. */
const BOOT_BYTES = 1024 * 1024
/** Of the first sector, before the disk's signature and the table. */
const MBR_CODE_BYTES = 440

const UNKNOWN: Probed = { kind: 'other', title: 'an unknown file system', reason: 'unsupported' }
const DYNAMIC: Probed = { kind: 'other', title: 'a Windows dynamic disk', reason: 'unsupported' }
const BOOT_CODE: Probed = { kind: 'boot-code', title: 'boot code' }

const DYNAMIC_MBR_TYPE = 0x42
const MBR_TYPES: ReadonlyMap<number, Probed> = new Map([[0x41, BOOT_CODE]])

/** What the type of a partition says where its bytes say nothing. Source: UEFI 2.10, table 5.7, and each system's own list. */
const GPT_TYPES: ReadonlyMap<string, Probed> = new Map<string, Probed>([
  ['E3C9E316-0B5C-4DB8-817D-F92DF00215AE', { kind: 'empty', title: 'Microsoft reserved' }],
  ['21686148-6449-6E6F-744E-656564454649', BOOT_CODE],
  ['9E1A2D38-C612-4316-AA26-8B49528E521A', BOOT_CODE],
])

/** Partitions of these types are parts of something larger, whatever their own bytes look like. */
const GPT_FOREIGN_TYPES: ReadonlyMap<string, Probed> = new Map<string, Probed>([
  ['5808C8AA-7E8F-42E0-85D2-E1E90434CFB3', DYNAMIC],
  ['AF9B60A0-1431-4F62-BC68-3311714A69AD', DYNAMIC],
  [
    'E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D',
    { kind: 'other', title: 'Windows storage spaces', reason: 'unsupported' },
  ],
])

interface Partition extends Run {
  readonly number: number
  /** Wins over what its bytes say. */
  readonly foreign: Probed | undefined
  /** Counts where its bytes say nothing. */
  readonly fallback: Probed | undefined
}

/** What is on a disk. Reads the tables, and of each volume so much as tells its kind. Throws refusals 'damaged' and 'unsupported'. */
export async function findVolumes(medium: Medium): Promise<DiskLayout> {
  const sector = await medium.read(0, Math.min(MBR_SECTOR_BYTES, medium.sizeBytes))
  const entries = readMbrEntries(sector, medium.sizeBytes)
  if (entries === undefined || entries.length === 0) return await withoutTable(medium, entries !== undefined)
  const atStart = await probe(medium)
  // A table of partitions where a file system would have its code: nobody can tell which of the two counts.
  if (atStart !== undefined) return whole(medium, atStart)
  if (entries.some(({ type }) => type === DYNAMIC_MBR_TYPE)) return whole(medium, DYNAMIC)
  const isGpt = entries.some(({ type }) => type === PROTECTIVE_TYPE)
  const layout = isGpt ? await withGpt(medium, entries) : await withMbr(medium, entries)
  const [member] = await findMemberAtEnd(medium)
  // What lies in the last partition was found there; outside of all it is the disk's own, and takes the whole of it.
  const isDisks =
    member !== undefined &&
    layout.gaps.some(({ offset, lengthBytes }) => offset + lengthBytes > medium.sizeBytes - 131072)
  return isDisks ? whole(medium, { kind: 'other', title: member, reason: 'unsupported' }) : layout
}

function whole(medium: Medium, found: Probed): DiskLayout {
  return {
    scheme: 'none',
    volumes: [{ offset: 0, lengthBytes: medium.sizeBytes, partition: 0, ...found }],
    gaps: [],
  }
}

async function withoutTable(medium: Medium, hasEmptyTable: boolean): Promise<DiskLayout> {
  const found = await probe(medium)
  if (found !== undefined) return whole(medium, found)
  const start = hasEmptyTable ? Math.min(BOOT_BYTES, medium.sizeBytes) : 0
  const rest = { offset: start, lengthBytes: medium.sizeBytes - start }
  // With data behind an empty table it may as well be a file system we do not know.
  if (!(await isZeroRange(medium, rest))) return whole(medium, UNKNOWN)
  if (!hasEmptyTable) return whole(medium, { kind: 'empty', title: 'empty' })
  return { scheme: 'mbr', volumes: [], gaps: rest.lengthBytes === 0 ? [] : [rest] }
}

async function withGpt(medium: Medium, entries: readonly MbrPartition[]): Promise<DiskLayout> {
  const gpt = await readGpt(medium)
  const agrees = entries.every(
    (entry) =>
      entry.type === PROTECTIVE_TYPE ||
      gpt.partitions.some(
        ({ offset, lengthBytes }) => offset === entry.offset && lengthBytes === entry.lengthBytes,
      ),
  )
  // Windows goes by the MBR of such a disk, Linux by the GPT.
  if (!agrees) {
    throw refuse(
      'unsupported',
      'The two partition tables of the disk contradict each other. Make its MBR a protective one inside the machine, then try again.',
    )
  }
  const partitions = gpt.partitions.map(({ number, type, offset, lengthBytes }) => ({
    number,
    offset,
    lengthBytes,
    foreign: GPT_FOREIGN_TYPES.get(type),
    fallback: GPT_TYPES.get(type),
  }))
  // Boot loaders have a partition of their own there; where the first table is lost, nobody knows what is in its place.
  const isTableThere = gpt.tables.some(({ offset }) => offset < BOOT_BYTES)
  const bootBytes = isTableThere ? MBR_SECTOR_BYTES : BOOT_BYTES
  const boot = bootArea(medium, bootBytes)
  return await laidOut(medium, 'gpt', partitions, gpt.tables, gpt.sectorBytes, boot)
}

async function withMbr(medium: Medium, entries: readonly MbrPartition[]): Promise<DiskLayout> {
  const mbr = await readMbr(medium, entries)
  const partitions = mbr.partitions.map(({ number, type, offset, lengthBytes }) => ({
    number,
    offset,
    lengthBytes,
    foreign: undefined,
    fallback: MBR_TYPES.get(type),
  }))
  // Without code in the first sector nothing can be loaded from behind it.
  const hasCode = !isZeroBytes(await medium.read(0, Math.min(MBR_CODE_BYTES, medium.sizeBytes)))
  const boot = bootArea(medium, hasCode ? BOOT_BYTES : MBR_SECTOR_BYTES)
  return await laidOut(medium, 'mbr', partitions, mbr.tables, MBR_SECTOR_BYTES, boot)
}

const bootArea = (medium: Medium, lengthBytes: number): Run => ({
  offset: 0,
  lengthBytes: Math.min(lengthBytes, medium.sizeBytes),
})

async function laidOut(
  medium: Medium,
  scheme: 'gpt' | 'mbr',
  partitions: readonly Partition[],
  tables: readonly Run[],
  sectorBytes: number,
  boot: Run,
): Promise<DiskLayout> {
  const sorted = [...partitions].sort((a, b) => a.offset - b.offset)
  let end = 0
  for (const { number, offset, lengthBytes } of sorted) {
    if (offset < end) throw damaged(`partition ${number} overlaps another`)
    end = offset + lengthBytes
    if (end > medium.sizeBytes) throw damaged(`partition ${number} ends behind the disk`)
    if (tables.some((table) => table.offset < end && offset < table.offset + table.lengthBytes)) {
      throw damaged(`partition ${number} lies over a partition table`)
    }
  }
  const volumes: FoundVolume[] = []
  for (const partition of sorted) {
    const { number, offset, lengthBytes } = partition
    volumes.push({ offset, lengthBytes, partition: number, ...(await kindOf(medium, partition)) })
  }
  return { scheme, volumes, gaps: between([boot, ...tables, ...sorted], medium.sizeBytes, sectorBytes) }
}

async function kindOf(medium: Medium, { foreign, fallback, ...run }: Partition): Promise<Probed> {
  if (foreign !== undefined) return foreign
  const part = slice(medium, run)
  const found = (await probe(part)) ?? fallback
  if (found !== undefined) return found
  const isEmpty = await isZeroRange(part, { offset: 0, lengthBytes: part.sizeBytes })
  return isEmpty ? { kind: 'empty', title: 'empty' } : UNKNOWN
}

/** What of [0, sizeBytes) none of the runs covers; less than a sector is not worth a word. */
function between(runs: readonly Run[], sizeBytes: number, sectorBytes: number): readonly Run[] {
  const gaps: Run[] = []
  let end = 0
  const behind = { offset: sizeBytes, lengthBytes: 0 }
  for (const { offset, lengthBytes } of [...runs, behind].sort((a, b) => a.offset - b.offset)) {
    if (offset - end >= sectorBytes) gaps.push({ offset: end, lengthBytes: offset - end })
    end = Math.max(end, offset + lengthBytes)
  }
  return gaps
}
