import type { DirectoryEntry, FileFacts, FileSystem, Path, TreeSize } from '../contract.ts'
import { damaged } from '../refuse.ts'
import { mapBlocks } from './block-map.ts'
import { type NamedEntry, readEntries } from './directory.ts'
import { type Ext4, hasFlag, type Inode, kindOf, MAP_AT, ROOT_INODE, readInode } from './inode.ts'
import { decodeName } from './names.ts'
import { SparseBits } from './sparse-bits.ts'
import { untilNul } from './superblock.ts'

/** Names kept in memory over all directories that were looked at last. */
const CACHED_NAMES_MAX = 100_000
const READ_BYTES = 1_048_576

type Names = ReadonlyMap<string, NamedEntry>

/** The files of an ext4 volume, for reading. */
export class Ext4Files implements FileSystem {
  readonly type = 'ext4'
  readonly label: string
  readonly uuid: string
  readonly #ext4: Ext4
  readonly #directories = new Map<number, Names>()
  #cachedNames = 0

  constructor(ext4: Ext4) {
    this.#ext4 = ext4
    this.label = ext4.superblock.label
    this.uuid = ext4.superblock.uuid
  }

  async list(path: Path): Promise<readonly DirectoryEntry[] | undefined> {
    const inode = await this.find(path)
    if (inode?.type !== 'directory') return undefined
    const entries: DirectoryEntry[] = []
    for (const { name, inode: number, kind } of (await this.#names(inode)).values()) {
      entries.push({ name, kind: kind ?? kindOf((await readInode(this.#ext4, number)).type) })
    }
    return entries
  }

  async stat(path: Path): Promise<FileFacts | undefined> {
    const inode = await this.find(path)
    if (inode === undefined) return undefined
    const { type, sizeBytes, linkCount, uid, gid, mode } = inode
    return { kind: kindOf(type), sizeBytes, linkCount, uid, gid, mode: mode & 0o7777 }
  }

  async read(path: Path, bytesMax: number): Promise<Buffer | undefined> {
    const inode = await this.find(path)
    if (inode?.type !== 'file' || hasFlag(inode, 'encrypted')) return undefined
    return await this.#readBytes(inode, bytesMax)
  }

  async readLink(path: Path): Promise<string | undefined> {
    const inode = await this.find(path)
    if (inode?.type !== 'link' || hasFlag(inode, 'encrypted')) return undefined
    if (inode.isFastLink) {
      return decodeName(untilNul(inode.bytes.subarray(MAP_AT, MAP_AT + inode.sizeBytes)))
    }
    return decodeName(untilNul(await this.#readBytes(inode, this.#ext4.superblock.blockBytes)))
  }

  async measure(path: Path): Promise<TreeSize> {
    const size = { fileCount: 0, directoryCount: 0, bytes: 0 }
    const start = await this.find(path)
    if (start === undefined) return size
    const { inodeCount, inodesPerGroup } = this.#ext4.superblock
    const seen = new SparseBits(inodeCount, inodesPerGroup)
    seen.add(start.number - 1)
    const waiting: number[] = []
    const count = (inode: Inode) => {
      if (inode.type === 'directory') {
        size.directoryCount++
        waiting.push(inode.number)
      } else {
        size.fileCount++
        size.bytes += inode.sizeBytes
      }
    }
    count(start)
    for (let number = waiting.pop(); number !== undefined; number = waiting.pop()) {
      const directory = await readInode(this.#ext4, number)
      for await (const entries of readEntries(this.#ext4, directory)) {
        for (const entry of entries) {
          const isNew = seen.add(entry.inode - 1)
          if (isNew) count(await readInode(this.#ext4, entry.inode))
          else if (entry.kind === 'directory') throw damaged(`directory ${entry.inode} has two names`)
        }
      }
    }
    return size
  }

  /** The inode a path leads to; links on the way are not followed. */
  async find(path: Path): Promise<Inode | undefined> {
    let inode = await readInode(this.#ext4, ROOT_INODE)
    if (inode.type !== 'directory') throw damaged('its root is no directory')
    for (const name of path) {
      if (inode.type !== 'directory') return undefined
      const entry: NamedEntry | undefined = (await this.#names(inode)).get(name)
      if (entry === undefined) return undefined
      inode = await readInode(this.#ext4, entry.inode)
    }
    return inode
  }

  async #names(inode: Inode): Promise<Names> {
    const cached = this.#directories.get(inode.number)
    if (cached !== undefined) return cached
    const names = new Map<string, NamedEntry>()
    for await (const entries of readEntries(this.#ext4, inode)) {
      for (const entry of entries) names.set(entry.name, entry)
    }
    this.#directories.set(inode.number, names)
    this.#cachedNames += names.size + 1
    for (const [number, oldest] of this.#directories) {
      if (this.#cachedNames <= CACHED_NAMES_MAX || number === inode.number) break
      this.#directories.delete(number)
      this.#cachedNames -= oldest.size + 1
    }
    return names
  }

  async #readBytes(inode: Inode, bytesMax: number): Promise<Buffer> {
    const { medium, superblock } = this.#ext4
    const { blockBytes } = superblock
    const lengthBytes = Math.min(inode.sizeBytes, bytesMax)
    const bytes = Buffer.alloc(lengthBytes)
    const logicalEnd = Math.ceil(lengthBytes / blockBytes)
    for await (const runs of mapBlocks(this.#ext4, inode, { logicalEnd })) {
      for (const run of runs) {
        const start = run.logical * blockBytes
        const end = Math.min(lengthBytes, start + run.count * blockBytes)
        if (!run.isWritten) continue
        for (let at = start; at < end; at += READ_BYTES) {
          const take = Math.min(READ_BYTES, end - at)
          const piece = await medium.read(run.physical * blockBytes + (at - start), take)
          piece.copy(bytes, at)
        }
      }
    }
    return bytes
  }
}
