import type { DirectoryEntry, FileFacts, FileSystem, Path, TreeSize } from '../contract.ts'
import type { FatEntry } from './directory.ts'
import { type FatDirectory, type FatTree, ROOT } from './tree.ts'

type Named = FatEntry & { readonly kind: 'file' | 'directory' }

/** Without the volume's label, '.' and '..'. */
export function namesOf(directory: FatDirectory): readonly Named[] {
  return directory.entries.filter((one): one is Named => one.kind === 'file' || one.kind === 'directory')
}

export class FatFiles implements FileSystem {
  readonly type = 'vfat'
  readonly label: string
  readonly uuid: string
  readonly #tree: FatTree

  constructor(tree: FatTree, label: string) {
    this.#tree = tree
    this.label = label
    this.uuid = tree.geometry.uuid
  }

  async list(path: Path): Promise<readonly DirectoryEntry[] | undefined> {
    const cluster = await this.#directoryAt(path)
    if (cluster === undefined) return undefined
    return namesOf(await this.#tree.directory(cluster)).map(({ name, kind }) => ({ name, kind }))
  }

  async stat(path: Path): Promise<FileFacts | undefined> {
    if (path.length === 0) return { kind: 'directory', sizeBytes: 0, linkCount: 1 }
    const entry = (await this.#tree.find(path))?.entry
    if (entry === undefined) return undefined
    return entry.kind === 'directory'
      ? { kind: 'directory', sizeBytes: 0, linkCount: 1 }
      : { kind: 'file', sizeBytes: entry.sizeBytes, linkCount: 1 }
  }

  async read(path: Path, bytesMax: number): Promise<Buffer | undefined> {
    const entry = (await this.#tree.find(path))?.entry
    if (entry === undefined || entry.kind !== 'file') return undefined
    let rest = Math.min(entry.sizeBytes, bytesMax)
    const parts: Buffer[] = []
    for (const { offset, lengthBytes } of this.#tree.runs(entry.firstCluster)) {
      if (rest === 0) break
      const part = Math.min(rest, lengthBytes)
      parts.push(await this.#tree.medium.read(offset, part))
      rest -= part
    }
    return Buffer.concat(parts)
  }

  /** FAT has no links. */
  async readLink(): Promise<undefined> {
    return undefined
  }

  async measure(path: Path): Promise<TreeSize> {
    const size = { fileCount: 0, directoryCount: 0, bytes: 0 }
    const facts = await this.stat(path)
    if (facts === undefined) return size
    if (facts.kind === 'file') return { fileCount: 1, directoryCount: 0, bytes: facts.sizeBytes }
    const cluster = await this.#directoryAt(path)
    if (cluster === undefined) return size
    for await (const directory of this.#tree.directories(cluster)) {
      size.directoryCount++
      for (const { kind, sizeBytes } of namesOf(directory)) {
        if (kind !== 'file') continue
        size.fileCount++
        size.bytes += sizeBytes
      }
    }
    return size
  }

  async #directoryAt(path: Path): Promise<number | undefined> {
    if (path.length === 0) return ROOT
    const entry = (await this.#tree.find(path))?.entry
    return entry?.kind === 'directory' ? entry.firstCluster : undefined
  }
}
