import { damaged, refuse } from '../refuse.ts'
import { ATTRIBUTE, type Ntfs, RECORD } from './model.ts'
import { hashName, parseFileName } from './names.ts'
import { parseParts } from './parts.ts'
import { isLinkTag } from './reparse.ts'

/** About 140 MB of tables. */
const LINKS_MAX = 6_000_000

export const STATE = { inUse: 1, directory: 2, extension: 4, link: 8 } as const

/**
 * All records and all names of a volume in typed arrays: what stands where, under which parent, how long. A *link* is one
 * $FILE_NAME of a file; those of extension records count as their base's. Lists go by `next…` and end with -1.
 */
export interface Table {
  readonly recordCount: number
  /** Bits of STATE. */
  readonly state: Uint8Array
  readonly sequence: Uint16Array
  /** Of an extension record: the record it extends. */
  readonly base: Uint32Array
  /** Of an extension record: the sequence its base must have. */
  readonly baseSequence: Uint16Array
  /** Of all streams together. */
  readonly bytes: Float64Array
  readonly firstLink: Int32Array
  readonly firstChild: Int32Array
  readonly linkCount: number
  readonly linkRecord: Uint32Array
  readonly linkParent: Uint32Array
  readonly linkNamespace: Uint8Array
  readonly linkHash: Uint32Array
  readonly nextOfRecord: Int32Array
  readonly nextOfParent: Int32Array
  /** 1 where the parent is no directory any more, or another than it was. */
  readonly linkIsDead: Uint8Array
}

/** One pass over the MFT. Refuses records in use that cannot be read: their clusters could not be told from free ones. */
export async function makeTable(ntfs: Ntfs): Promise<Table> {
  const { recordCount } = ntfs
  const map = await ntfs.records()
  const state = new Uint8Array(recordCount)
  const sequence = new Uint16Array(recordCount)
  const base = new Uint32Array(recordCount)
  const baseSequence = new Uint16Array(recordCount)
  const bytes = new Float64Array(recordCount)
  const links = new Links()
  await ntfs.scan((slot) => {
    if (slot.is !== 'record') {
      // The first ones are marked in use without being so.
      if (slot.number >= RECORD.firstUser && map.has(slot.number)) {
        throw damaged(`file record ${slot.number} cannot be read`)
      }
      return
    }
    const { record } = slot
    const { number } = record
    sequence[number] = record.sequence
    if (!record.isInUse) return
    if (!map.has(number)) throw damaged(`file record ${number} is in use and marked free`)
    let bits: number = STATE.inUse
    if (record.isDirectory) bits |= STATE.directory
    if (record.isExtension) {
      if (record.base >= recordCount) throw damaged(`file record ${number} extends one beyond the MFT`)
      bits |= STATE.extension
      base[number] = record.base
      baseSequence[number] = record.baseSequence
    }
    const owner = record.isExtension ? record.base : number
    for (const part of parseParts(record, ntfs.geometry)) {
      if (part.type === ATTRIBUTE.fileName && part.value !== undefined) {
        const { parent, namespace } = parseFileName(part.value, number)
        links.add(owner, parent.record, parent.sequence, namespace, hashName(part.value))
      } else if (part.type === ATTRIBUTE.data && part.lowestVcn === 0) {
        bytes[owner] = (bytes[owner] ?? 0) + part.dataBytes
      } else if (part.type === ATTRIBUTE.reparsePoint && part.value !== undefined && part.value.length >= 4) {
        if (isLinkTag(part.value.readUInt32LE(0))) state[owner] = (state[owner] ?? 0) | STATE.link
      }
    }
    state[number] = (state[number] ?? 0) | bits
  })
  const firstLink = new Int32Array(recordCount).fill(-1)
  const firstChild = new Int32Array(recordCount).fill(-1)
  const nextOfRecord = new Int32Array(links.count)
  const nextOfParent = new Int32Array(links.count)
  const linkIsDead = new Uint8Array(links.count)
  for (let link = 0; link < links.count; link += 1) {
    const record = at(links.record, link)
    const parent = at(links.parent, link)
    nextOfRecord[link] = at(firstLink, record)
    firstLink[record] = link
    const wanted = at(links.parentSequence, link)
    const isAlive =
      parent < recordCount &&
      (at(state, parent) & (STATE.inUse | STATE.directory | STATE.extension)) ===
        (STATE.inUse | STATE.directory) &&
      // Zero in a reference means any.
      (wanted === 0 || wanted === at(sequence, parent))
    if (isAlive) {
      nextOfParent[link] = at(firstChild, parent)
      firstChild[parent] = link
    } else {
      nextOfParent[link] = -1
      linkIsDead[link] = 1
    }
  }
  return {
    recordCount,
    state,
    sequence,
    base,
    baseSequence,
    bytes,
    firstLink,
    firstChild,
    linkCount: links.count,
    linkRecord: links.record,
    linkParent: links.parent,
    linkNamespace: links.namespace,
    linkHash: links.hash,
    nextOfRecord,
    nextOfParent,
    linkIsDead,
  }
}

/** An element that is known to be there. */
export function at(
  array: Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array,
  index: number,
): number {
  return array[index] as number
}

/** Whether a record in use is a base record: a file or directory of its own. */
export function isBase(table: Table, record: number): boolean {
  return (at(table.state, record) & (STATE.inUse | STATE.extension)) === STATE.inUse
}

/** Whether an extension record still belongs to a file that is there. */
export function isExtensionOfLiving(table: Table, record: number): boolean {
  const base = at(table.base, record)
  return isBase(table, base) && at(table.baseSequence, record) === at(table.sequence, base)
}

/** Everything that can be reached from `seeds` through links of which `isCut` is not true: 1 per record. */
export function reach(table: Table, seeds: Iterable<number>, isCut: (link: number) => boolean): Uint8Array {
  const seen = new Uint8Array(table.recordCount)
  const stack: number[] = []
  for (const seed of seeds) {
    if (seed < table.recordCount && isBase(table, seed) && at(seen, seed) === 0) {
      seen[seed] = 1
      stack.push(seed)
    }
  }
  for (let record = stack.pop(); record !== undefined; record = stack.pop()) {
    for (let link = at(table.firstChild, record); link !== -1; link = at(table.nextOfParent, link)) {
      const child = at(table.linkRecord, link)
      if (at(seen, child) === 1 || !isBase(table, child) || isCut(link)) continue
      seen[child] = 1
      if ((at(table.state, child) & STATE.directory) !== 0) stack.push(child)
    }
  }
  return seen
}

/** The records that are there whether a directory names them or not. */
export function systemRecords(): number[] {
  return Array.from({ length: RECORD.firstUser }, (_, record) => record)
}

/** Columns that grow. */
class Links {
  count = 0
  record = new Uint32Array(1024)
  parent = new Uint32Array(1024)
  parentSequence = new Uint16Array(1024)
  namespace = new Uint8Array(1024)
  hash = new Uint32Array(1024)

  add(record: number, parent: number, parentSequence: number, namespace: number, hash: number): void {
    if (this.count === this.record.length) this.#grow()
    this.record[this.count] = record
    // Beyond any MFT we take: never alive.
    this.parent[this.count] = Math.min(parent, 0xffff_ffff)
    this.parentSequence[this.count] = parentSequence
    this.namespace[this.count] = namespace
    this.hash[this.count] = hash
    this.count += 1
  }

  #grow(): void {
    const length = Math.min(this.count * 2, LINKS_MAX)
    if (length === this.count) {
      throw refuse('too-large', 'The volume has more names than can be cleaned. Leave this disk out.')
    }
    const wider = <T extends Uint8Array | Uint16Array | Uint32Array>(old: T, fresh: T): T => {
      fresh.set(old)
      return fresh
    }
    this.record = wider(this.record, new Uint32Array(length))
    this.parent = wider(this.parent, new Uint32Array(length))
    this.parentSequence = wider(this.parentSequence, new Uint16Array(length))
    this.namespace = wider(this.namespace, new Uint8Array(length))
    this.hash = wider(this.hash, new Uint32Array(length))
  }
}
