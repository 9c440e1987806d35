import type { DirectoryEntry, FileFacts, FileKind, FileSystem, Path, TreeSize } from '../volume/contract.ts'
import type { GuestVolume } from './contract.ts'

/** A file by its content, a directory by what is in it. */
export type MemoryNode =
  | string
  | Buffer
  | MemoryTree
  | {
      readonly is: 'link' | 'file' | 'directory' | 'other'
      readonly target?: string
      readonly content?: string | Buffer
      readonly sizeBytes?: number
      readonly uid?: number
      readonly gid?: number
      readonly mode?: number
      readonly in?: MemoryTree
    }
export interface MemoryTree {
  readonly [name: string]: MemoryNode
}

interface Node {
  readonly kind: FileKind
  readonly target: string
  readonly content: Buffer
  readonly sizeBytes: number
  readonly uid: number
  readonly gid: number
  readonly mode: number
  readonly inside: ReadonlyMap<string, { readonly name: string; readonly node: Node }>
}

export function link(target: string, uid = 0): MemoryNode {
  return { is: 'link', target, uid }
}

export function owned(uid: number, tree: MemoryTree): MemoryNode {
  return { is: 'directory', uid, in: tree }
}

export interface MemoryFilesOptions {
  readonly type?: FileSystem['type']
  readonly label?: string
  readonly uuid?: string
}

/** A file system of plain objects. Counts what is read. */
export class MemoryFiles implements FileSystem {
  readonly type: FileSystem['type']
  readonly label: string
  readonly uuid: string
  readBytes = 0
  readonly #root: Node

  constructor(tree: MemoryTree, options: MemoryFilesOptions = {}) {
    this.type = options.type ?? 'ext4'
    this.label = options.label ?? ''
    this.uuid = options.uuid ?? ''
    this.#root = this.#make(tree)
  }

  async list(path: Path): Promise<readonly DirectoryEntry[] | undefined> {
    const node = this.#find(path)
    if (node?.kind !== 'directory') return undefined
    return Array.from(node.inside.values(), ({ name, node: { kind } }) => ({ name, kind }))
  }

  async stat(path: Path): Promise<FileFacts | undefined> {
    const node = this.#find(path)
    if (node === undefined) return undefined
    const { kind, sizeBytes, uid, gid, mode } = node
    return { kind, sizeBytes, linkCount: 1, ...(this.type === 'ext4' ? { uid, gid, mode } : {}) }
  }

  async read(path: Path, bytesMax: number): Promise<Buffer | undefined> {
    const node = this.#find(path)
    if (node?.kind !== 'file') return undefined
    const bytes = node.content.subarray(0, bytesMax)
    this.readBytes += bytes.length
    return bytes
  }

  async readLink(path: Path): Promise<string | undefined> {
    const node = this.#find(path)
    return node?.kind === 'link' ? node.target : undefined
  }

  async measure(path: Path): Promise<TreeSize> {
    const size = { fileCount: 0, directoryCount: 0, bytes: 0 }
    const first = this.#find(path)
    const todo = first === undefined ? [] : [first]
    for (const node of todo) {
      if (node.kind === 'directory') size.directoryCount += 1
      else size.fileCount += 1
      size.bytes += node.sizeBytes
      for (const inner of node.inside.values()) todo.push(inner.node)
    }
    return size
  }

  /** NTFS compares by a table that knows more letters than A to Z; the tests need no others. */
  #key(name: string): string {
    return this.type === 'ext4' ? name : name.toLowerCase()
  }

  #find(path: Path): Node | undefined {
    let node: Node | undefined = this.#root
    for (const name of path) node = node?.inside.get(this.#key(name))?.node
    return node
  }

  #make(from: MemoryNode): Node {
    const plain = { target: '', content: Buffer.alloc(0), sizeBytes: 0, uid: 0, gid: 0, mode: 0o755 }
    const inside = new Map<string, { readonly name: string; readonly node: Node }>()
    if (typeof from === 'string' || Buffer.isBuffer(from)) {
      const content = Buffer.from(from)
      return { ...plain, kind: 'file', content, sizeBytes: content.length, inside }
    }
    if (!isSpecial(from)) {
      for (const [name, node] of Object.entries(from)) {
        inside.set(this.#key(name), { name, node: this.#make(node) })
      }
      return { ...plain, kind: 'directory', inside }
    }
    const { is, target = '', uid = 0, gid = uid, mode = 0o755 } = from
    const content = Buffer.from(from.content ?? '')
    const base = this.#make(from.in ?? {})
    return {
      kind: is,
      target,
      content,
      sizeBytes: from.sizeBytes ?? content.length,
      uid,
      gid,
      mode,
      inside: base.inside,
    }
  }
}

function isSpecial(node: MemoryNode): node is Exclude<MemoryNode, string | Buffer | MemoryTree> {
  return typeof node === 'object' && 'is' in node && typeof node.is === 'string'
}

/** Volumes of the machine, each a partition of its disk in the order given. */
export function guestVolumes(
  ...volumes: readonly (MemoryFiles | { readonly diskIndex: number; readonly files: MemoryFiles })[]
): readonly GuestVolume[] {
  const counts = new Map<number, number>()
  return volumes.map((one, index) => {
    const { diskIndex, files } = one instanceof MemoryFiles ? { diskIndex: 0, files: one } : one
    const partition = (counts.get(diskIndex) ?? 0) + 1
    counts.set(diskIndex, partition)
    return { index, diskIndex, partition, files }
  })
}
