import assert from 'node:assert'
import type { Edit } from '../contract.ts'
import { damaged, refuse } from '../refuse.ts'
import { BitArray } from './bits.ts'
import { ATTRIBUTE, type Ntfs, RECORD } from './model.ts'
import { hashName, NAMESPACE, parseFileName } from './names.ts'
import { parseParts } from './parts.ts'
import type { NtfsReader } from './reader.ts'
import { at, isBase, isExtensionOfLiving, reach, STATE, systemRecords, type Table } from './table.ts'

/** So many lost files or clusters are what a volume may have; more mean that it is damaged, or that we misread it. */
const LOST_COUNT_MIN = 100
const LOST_CLUSTERS_MIN = 4096
const LOST_SHARE_MAX = 0.01

/** What goes, by number. */
export interface Removal {
  readonly table: Table
  /** By link: its name goes, by an edit. */
  readonly isCut: Uint8Array
  /** By record: it stays. */
  readonly stays: Uint8Array
  /** Whether a record in use goes: a file, or one that extends it. False for numbers beyond the MFT. */
  isGoing(record: number): boolean
  /** Clusters of what goes, and those that belong to nothing. */
  readonly freed: BitArray
}

/** Finds all that goes, and checks that none of it is shared with what stays. Changes nothing. */
export async function planRemoval(ntfs: Ntfs, reader: NtfsReader, edits: readonly Edit[]): Promise<Removal> {
  const table = await reader.table()
  const isCut = new Uint8Array(table.linkCount)
  for (const edit of edits) await cutEdit(ntfs, reader, table, isCut, edit)
  for (const child of (await reader.children(RECORD.extend)) ?? []) {
    if (child.name === '$UsnJrnl') await cutName(ntfs, table, isCut, RECORD.extend, child.record, child.name)
    // Files deleted while somebody had them open wait here for the last to close them.
    else if (child.name === '$Deleted') cutChildren(table, isCut, child.record)
  }
  refuseLost(table)
  const stays = reach(table, systemRecords(), (link) => at(isCut, link) === 1)
  const isGoing = (record: number) => {
    if (record >= table.recordCount) return false
    const state = at(table.state, record)
    if ((state & STATE.inUse) === 0) return false
    const owner = (state & STATE.extension) === 0 ? record : at(table.base, record)
    if (owner !== record && !isExtensionOfLiving(table, record)) return true
    return at(stays, owner) === 0
  }
  return { table, isCut, stays, isGoing, freed: await claim(ntfs, isGoing) }
}

async function cutEdit(
  ntfs: Ntfs,
  reader: NtfsReader,
  table: Table,
  isCut: Uint8Array,
  edit: Edit,
): Promise<void> {
  if (edit.is !== 'remove' && edit.is !== 'empty') return
  const child = await reader.find(edit.path)
  assert(child !== undefined)
  if (edit.is === 'empty') {
    if (child.kind === 'directory') cutChildren(table, isCut, child.record)
    return
  }
  const parent = await reader.find(edit.path.slice(0, -1))
  assert(parent !== undefined && edit.path.length > 0)
  await cutName(ntfs, table, isCut, parent.record, child.record, child.name)
}

function cutChildren(table: Table, isCut: Uint8Array, directory: number): void {
  for (let link = at(table.firstChild, directory); link !== -1; link = at(table.nextOfParent, link)) {
    if (at(table.linkRecord, link) >= RECORD.firstUser) isCut[link] = 1
  }
}

/** One name of a file, with the short name that belongs to it. */
async function cutName(
  ntfs: Ntfs,
  table: Table,
  isCut: Uint8Array,
  directory: number,
  record: number,
  name: string,
): Promise<void> {
  if (record < RECORD.firstUser || record >= table.recordCount)
    throw damaged(`a directory names file record ${record}`)
  const file = await ntfs.readFile(record)
  let isFound = false
  for (const { type, value } of file.attributes) {
    if (type !== ATTRIBUTE.fileName || value === undefined) continue
    const one = parseFileName(value, record)
    if (one.parent.record !== directory || one.name !== name) continue
    const hash = hashName(value)
    for (let link = at(table.firstLink, record); link !== -1; link = at(table.nextOfRecord, link)) {
      if (at(table.linkParent, link) !== directory || at(table.linkIsDead, link) === 1) continue
      const namespace = at(table.linkNamespace, link)
      const isPaired = one.namespace === NAMESPACE.win32 && namespace === NAMESPACE.dos
      if (at(table.linkHash, link) !== hash && !isPaired) continue
      isCut[link] = 1
      isFound = true
    }
  }
  if (!isFound) throw damaged(`file record ${record} does not have the name that its directory gives it`)
}

function refuseLost(table: Table): void {
  const seen = reach(table, systemRecords(), () => false)
  let usedCount = 0
  let lostCount = 0
  for (let record = 0; record < table.recordCount; record += 1) {
    if ((at(table.state, record) & STATE.inUse) === 0) continue
    usedCount += 1
    const isLost = isBase(table, record) ? at(seen, record) === 0 : !isExtensionOfLiving(table, record)
    if (isLost) lostCount += 1
  }
  if (lostCount > LOST_COUNT_MIN && lostCount > usedCount * LOST_SHARE_MAX) {
    throw damaged(`${lostCount} files are in no directory`)
  }
}

/**
 * One pass over all runs of all records. Every cluster must be marked in use and belong to one stream alone, else freeing some
 * would take bytes from others. Answers the clusters of what goes and, as long as they are few, those that nothing claims.
 */
async function claim(ntfs: Ntfs, isGoing: (record: number) => boolean): Promise<BitArray> {
  const map = await ntfs.clusters()
  const { clusterCount } = ntfs.geometry
  const claimed = new BitArray(clusterCount)
  const freed = new BitArray(clusterCount)
  await ntfs.scan((slot) => {
    if (slot.is !== 'record' || !slot.record.isInUse) return
    const { record } = slot
    const goes = isGoing(record.number)
    for (const part of parseParts(record, ntfs.geometry)) {
      for (const { lcn, length } of part.runs) {
        if (lcn === null) continue
        if (!map.isAll(lcn, length, true))
          throw damaged(`clusters of file record ${record.number} are marked free`)
        if (!claimed.isAll(lcn, length, false))
          throw damaged(`clusters of file record ${record.number} are another file's too`)
        claimed.set(lcn, length, true)
        if (goes) freed.set(lcn, length, true)
      }
    }
  })
  let lostCount = 0
  for (let from = map.next(0, true); from < clusterCount; from = map.next(from, true)) {
    const end = map.next(from, false)
    // Unclaimed stretches within the used one.
    for (let cluster = claimed.next(from, false); cluster < end; ) {
      const stop = Math.min(claimed.next(cluster, true), end)
      freed.set(cluster, stop - cluster, true)
      lostCount += stop - cluster
      cluster = claimed.next(stop, false)
    }
    from = end
  }
  if (lostCount > LOST_CLUSTERS_MIN && lostCount > clusterCount * LOST_SHARE_MAX) {
    throw refuse(
      'damaged',
      'Much of the volume is marked in use and belongs to no file. Run chkdsk /f inside the machine, then try again.',
    )
  }
  return freed
}
