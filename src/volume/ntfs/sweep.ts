import { damaged } from '../refuse.ts'
import { readReference } from './bytes.ts'
import { withFixup } from './fixup.ts'
import type { IndexEntry } from './index.ts'
import type { Removal } from './mark.ts'
import { ATTRIBUTE, type Ntfs, RECORD } from './model.ts'
import { hashName, parseFileName } from './names.ts'
import { dropEntries } from './rebuild.ts'
import { blankRecord, dropPieces, nextSequence } from './records.ts'
import { at, isBase, type Table } from './table.ts'

const RECORDS_AT_ONCE_MAX = 256

/** Carries out what was marked: clusters, names, directories, records. The bitmaps are the caller's to write. */
export async function sweep(ntfs: Ntfs, removal: Removal): Promise<void> {
  await freeClusters(ntfs, removal)
  // Entries first: directories are read by their records.
  await dropFromDirectories(ntfs, removal)
  await dropFromTables(ntfs, removal)
  await dropNames(ntfs, removal)
  await freeRecords(ntfs, removal)
}

/** Those that follow one another at once: there may be a million. */
async function freeRecords(ntfs: Ntfs, { table, isGoing }: Removal): Promise<void> {
  const { recordBytes } = ntfs.geometry
  const map = await ntfs.records()
  for (let first = 0; first < table.recordCount; first += 1) {
    const blanks: Buffer[] = []
    for (let record = first; blanks.length < RECORDS_AT_ONCE_MAX && isGoing(record); record += 1) {
      blanks.push(withFixup(blankRecord(record, nextSequence(at(table.sequence, record)), recordBytes)))
    }
    if (blanks.length === 0) continue
    await ntfs.writeSlot(first, Buffer.concat(blanks))
    map.set(first, blanks.length, false)
    first += blanks.length - 1
  }
}

async function freeClusters(ntfs: Ntfs, { freed }: Removal): Promise<void> {
  const map = await ntfs.clusters()
  const { clusterBytes } = ntfs.geometry
  for (let from = freed.next(0, true); from < freed.bitCount; from = freed.next(from, true)) {
    const end = freed.next(from, false)
    map.set(from, end - from, false)
    await ntfs.medium.zero(from * clusterBytes, (end - from) * clusterBytes)
    from = end
  }
}

/** A name that goes while its file stays, or goes too: by an edit, or with the directory it is in. */
function isLinkGone({ table, isCut, stays, isGoing }: Removal, link: number): boolean {
  if (at(isCut, link) === 1 || isGoing(at(table.linkRecord, link))) return true
  return at(table.linkIsDead, link) === 0 && at(stays, at(table.linkParent, link)) === 0
}

async function dropFromDirectories(ntfs: Ntfs, removal: Removal): Promise<void> {
  const { table, stays, isGoing } = removal
  const directories = new Set<number>()
  for (let link = 0; link < table.linkCount; link += 1) {
    const parent = at(table.linkParent, link)
    if (at(table.linkIsDead, link) === 0 && at(stays, parent) === 1 && isLinkGone(removal, link))
      directories.add(parent)
  }
  for (const directory of directories) {
    await dropEntries(ntfs, directory, '$I30', ({ bytes, key }: IndexEntry) => {
      const { record } = readReference(bytes, 0)
      if (record >= table.recordCount) return false
      return isGoing(record) || isNameGone(removal, record, key)
    })
  }
}

/** `name`: the value of a $FILE_NAME of `record`. */
function isNameGone(removal: Removal, record: number, name: Buffer): boolean {
  const { table } = removal
  const { parent, namespace } = parseFileName(name, record)
  const hash = hashName(name)
  for (let link = at(table.firstLink, record); link !== -1; link = at(table.nextOfRecord, link)) {
    const isSame =
      at(table.linkParent, link) === parent.record &&
      at(table.linkHash, link) === hash &&
      at(table.linkNamespace, link) === namespace
    if (isSame && isLinkGone(removal, link)) return true
  }
  return false
}

/** The volume's own tables of object ids and of reparse points name records. */
async function dropFromTables(ntfs: Ntfs, { isGoing }: Removal): Promise<void> {
  const directory = await ntfs.readFile(RECORD.extend)
  if (!directory.record.isDirectory) return
  for (const { record, name } of await tablesOf(ntfs)) {
    if (isGoing(record)) continue
    if (name === '$ObjId') {
      await dropEntries(ntfs, record, '$O', ({ bytes }) => {
        const offset = bytes.readUInt16LE(0)
        const lengthBytes = bytes.readUInt16LE(2)
        if (lengthBytes < 8 || offset + lengthBytes > bytes.length)
          throw damaged('the table of object ids is wrong')
        return isGoing(readReference(bytes, offset).record)
      })
    } else if (name === '$Reparse') {
      await dropEntries(ntfs, record, '$R', ({ key }) => {
        if (key.length < 12) throw damaged('the table of reparse points is wrong')
        return isGoing(readReference(key, 4).record)
      })
    }
  }
}

async function tablesOf(ntfs: Ntfs): Promise<{ record: number; name: string }[]> {
  const found: { record: number; name: string }[] = []
  // `dropEntries` with nothing to drop is a walk that writes nothing.
  await dropEntries(ntfs, RECORD.extend, '$I30', ({ bytes, key }) => {
    found.push({ record: readReference(bytes, 0).record, name: parseFileName(key, RECORD.extend).name })
    return false
  })
  return found
}

/** Names of files that stay: out of their records, and the count of names is right again. */
async function dropNames(ntfs: Ntfs, removal: Removal): Promise<void> {
  const { table } = removal
  for (const record of filesThatLoseNames(removal, table)) {
    const file = await ntfs.readFile(record)
    const gone = file.attributes.filter(
      ({ type, value }) =>
        type === ATTRIBUTE.fileName && value !== undefined && isNameGone(removal, record, value),
    )
    const { raw } = file.record
    raw.writeUInt16LE(Math.max(1, raw.readUInt16LE(0x12) - gone.length), 0x12)
    await dropPieces(
      ntfs,
      file,
      gone.flatMap(({ pieces }) => pieces),
    )
  }
}

function filesThatLoseNames(removal: Removal, table: Table): Set<number> {
  const files = new Set<number>()
  for (let link = 0; link < table.linkCount; link += 1) {
    const record = at(table.linkRecord, link)
    if (isBase(table, record) && !removal.isGoing(record) && isLinkGone(removal, link)) files.add(record)
  }
  return files
}
