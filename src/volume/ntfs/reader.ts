import type { DirectoryEntry, FileFacts, FileKind, FileSystem, Path, TreeSize } from '../contract.ts'
import { damaged } from '../refuse.ts'
import { readReference } from './bytes.ts'
import { decompressPrefix } from './compression.ts'
import { findIndex, walkIndex } from './index.ts'
import { ATTRIBUTE, type Attribute, findAttribute, type Ntfs, type NtfsFile, RECORD } from './model.ts'
import { FILE_ATTRIBUTE, foldName, NAMESPACE, parseFileName } from './names.ts'
import { isLinkTag, isSpecialTag, parseLinkTarget, TAG_COMPACT_OS, TAG_DEDUPLICATED } from './reparse.ts'
import { at, makeTable, reach, STATE, type Table } from './table.ts'

/** A name of a directory and what it leads to. */
export interface Child {
  readonly name: string
  readonly record: number
  readonly sequence: number
  readonly kind: FileKind
}

/** A directory's names; of those that differ in case alone (Linux makes such) all are in `byFolded`. */
interface Directory {
  readonly children: readonly Child[]
  readonly byFolded: ReadonlyMap<string, readonly Child[]>
}

/** What begins the content of such a link, and as long as one can be. Source: ntfs-3g, symbolic links. */
const INTERIX_MAGIC = Buffer.from('IntxLNK\x01', 'latin1')
const INTERIX_BYTES_MAX = 8 + 2 * 4096

/** Directories kept in memory, by their names in all. */
const KEPT_NAMES_MAX = 100_000

export class NtfsReader implements FileSystem {
  readonly type = 'ntfs'
  readonly label: string
  readonly uuid: string
  readonly #ntfs: Ntfs
  readonly #kept = new Map<number, Directory>()
  #keptNames = 0
  #table: Promise<Table> | undefined

  constructor(ntfs: Ntfs, label: string) {
    this.#ntfs = ntfs
    this.label = label
    this.uuid = ntfs.geometry.serial
  }

  async list(path: Path): Promise<readonly DirectoryEntry[] | undefined> {
    const child = await this.find(path)
    if (child === undefined) return undefined
    const directory = await this.#directory(child.record)
    return directory?.children.map(({ name, kind }) => ({ name, kind }))
  }

  async stat(path: Path): Promise<FileFacts | undefined> {
    const child = await this.find(path)
    if (child === undefined) return undefined
    const file = await this.#ntfs.readFile(child.record)
    return {
      kind: child.kind,
      sizeBytes: findAttribute(file, ATTRIBUTE.data)?.dataBytes ?? 0,
      linkCount: namesOf(file).filter(({ namespace }) => namespace !== NAMESPACE.dos).length,
    }
  }

  async read(path: Path, bytesMax: number): Promise<Buffer | undefined> {
    const child = await this.find(path)
    if (child === undefined || child.kind !== 'file') return undefined
    const file = await this.#ntfs.readFile(child.record)
    const tag = await this.#tagOf(file)
    if (tag === TAG_COMPACT_OS || tag === TAG_DEDUPLICATED) return undefined
    const data = findAttribute(file, ATTRIBUTE.data)
    if (data === undefined || data.isEncrypted) return undefined
    return await readStream(this.#ntfs, data, Math.min(bytesMax, data.dataBytes))
  }

  async readLink(path: Path): Promise<string | undefined> {
    const child = await this.find(path)
    if (child?.kind !== 'link') return undefined
    const value = await this.#reparseValue(await this.#ntfs.readFile(child.record))
    return value === undefined
      ? await this.#interixTarget(child.record)
      : parseLinkTarget(value, child.record)
  }

  async measure(path: Path): Promise<TreeSize> {
    const top = await this.find(path)
    if (top === undefined) return { fileCount: 0, directoryCount: 0, bytes: 0 }
    const table = await this.table()
    const isRoot = top.record === RECORD.root
    const seen = reach(table, [top.record], (link) => isRoot && at(table.linkRecord, link) < RECORD.firstUser)
    let fileCount = 0
    let directoryCount = 0
    let bytes = 0
    for (let record = 0; record < table.recordCount; record += 1) {
      if (at(seen, record) === 0) continue
      const state = at(table.state, record)
      if ((state & STATE.directory) !== 0 && (state & STATE.link) === 0) directoryCount += 1
      else fileCount += 1
      bytes += at(table.bytes, record)
    }
    return { fileCount, directoryCount, bytes }
  }

  /** Made once. */
  table(): Promise<Table> {
    this.#table ??= makeTable(this.#ntfs)
    return this.#table
  }

  /** The names in a directory, its own files of the root left out; undefined if it is none. */
  async children(record: number): Promise<readonly Child[] | undefined> {
    return (await this.#directory(record))?.children
  }

  /** What a path leads to, links not followed; undefined if there is nothing. */
  async find(path: Path): Promise<Child | undefined> {
    let child: Child = { name: '', record: RECORD.root, sequence: RECORD.root, kind: 'directory' }
    for (const name of path) {
      if (child.kind === 'link') return undefined
      const directory = await this.#directory(child.record)
      const sames = directory?.byFolded.get(foldName(name, this.#ntfs.upcase))
      const next = sames?.find((one) => one.name === name) ?? sames?.[0]
      if (next === undefined) return undefined
      child = next
    }
    return child
  }

  async #directory(record: number): Promise<Directory | undefined> {
    const kept = this.#kept.get(record)
    if (kept !== undefined) return kept
    const file = await this.#ntfs.readFile(record)
    const index = file.record.isDirectory ? findIndex(file, '$I30', this.#ntfs) : undefined
    if (index === undefined) return undefined
    const found: {
      name: string
      reference: { record: number; sequence: number }
      attributes: number
      tag: number
    }[] = []
    await walkIndex(this.#ntfs, index, ({ bytes, key }) => {
      const { name, namespace, fileAttributes, reparseTag, parent } = parseFileName(key, record)
      const reference = readReference(bytes, 0)
      if (namespace === NAMESPACE.dos || isHidden(record, reference.record)) return
      if (parent.record !== record)
        throw damaged(`the directory of file record ${record} names the file of another`)
      found.push({ name, reference, attributes: fileAttributes, tag: reparseTag })
    })
    const children: Child[] = []
    const byFolded = new Map<string, Child[]>()
    for (const { name, reference, attributes, tag } of found) {
      const kind = await this.#kindOf(reference.record, attributes, tag)
      const child = { name, ...reference, kind }
      children.push(child)
      const folded = foldName(name, this.#ntfs.upcase)
      const sames = byFolded.get(folded)
      if (sames === undefined) byFolded.set(folded, [child])
      else sames.push(child)
    }
    const directory = { children, byFolded }
    this.#keep(record, directory)
    return directory
  }

  #keep(record: number, directory: Directory): void {
    this.#kept.set(record, directory)
    this.#keptNames += directory.children.length + 1
    for (const [oldest, { children }] of this.#kept) {
      if (this.#keptNames <= KEPT_NAMES_MAX || oldest === record) break
      this.#kept.delete(oldest)
      this.#keptNames -= children.length + 1
    }
  }

  async #kindOf(record: number, attributes: number, tag: number): Promise<FileKind> {
    const plain = (attributes & FILE_ATTRIBUTE.directory) !== 0 ? 'directory' : 'file'
    if ((attributes & FILE_ATTRIBUTE.reparsePoint) === 0) {
      const mayBe = plain === 'file' && (attributes & FILE_ATTRIBUTE.system) !== 0
      return mayBe && (await this.#interixTarget(record)) !== undefined ? 'link' : plain
    }
    // Not every system writes the tag into the directory; a small number there is the size of extended attributes.
    const known = tag > 0xffff ? tag : await this.#tagOf(await this.#ntfs.readFile(record))
    if (known === undefined) return plain
    return isLinkTag(known) ? 'link' : isSpecialTag(known) ? 'other' : plain
  }

  /** Where a symbolic link as Unix programs made it on NTFS before there were reparse points for it points; undefined for other files. */
  async #interixTarget(record: number): Promise<string | undefined> {
    const data = findAttribute(await this.#ntfs.readFile(record), ATTRIBUTE.data)
    if (data === undefined || data.isEncrypted || data.dataBytes > INTERIX_BYTES_MAX) return undefined
    const bytes = await readStream(this.#ntfs, data, data.dataBytes)
    const isLink = bytes?.subarray(0, INTERIX_MAGIC.length).equals(INTERIX_MAGIC) ?? false
    return isLink ? bytes?.toString('utf16le', INTERIX_MAGIC.length) : undefined
  }

  async #tagOf(file: NtfsFile): Promise<number | undefined> {
    return (await this.#reparseValue(file))?.readUInt32LE(0)
  }

  /** 16 KiB at most, by the format. */
  async #reparseValue(file: NtfsFile): Promise<Buffer | undefined> {
    const point = findAttribute(file, ATTRIBUTE.reparsePoint)
    if (point === undefined) return undefined
    if (point.dataBytes < 8 || point.dataBytes > 16_384)
      throw damaged(`the link of file record ${file.record.number} is wrong`)
    return await this.#ntfs.readAttribute(point, 0, point.dataBytes)
  }
}

/** The first bytes of a stream, or undefined where it is compressed in a form that is not read. */
export async function readStream(
  ntfs: Ntfs,
  data: Attribute,
  lengthBytes: number,
): Promise<Buffer | undefined> {
  if (data.isCompressed && !data.isResident) return await decompressPrefix(ntfs, data, lengthBytes)
  return await ntfs.readAttribute(data, 0, lengthBytes)
}

export function namesOf(file: NtfsFile) {
  return file.attributes
    .filter(({ type, value }) => type === ATTRIBUTE.fileName && value !== undefined)
    .map(({ value }) => parseFileName(value as Buffer, file.record.number))
}

/** NTFS's own files stand in the root; `.` is the root in itself. */
function isHidden(directory: number, record: number): boolean {
  return directory === RECORD.root && record < RECORD.firstUser
}
