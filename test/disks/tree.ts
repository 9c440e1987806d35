import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * What a file system holds, as it is mounted or unpacked in a folder: kind and content of everything by its path, '/'
 * between the names. Files with several names that are there say which one they are with.
 */
export type Tree = ReadonlyMap<string, string>

export interface TreeOptions {
  /** Of these paths, and of what is beneath them, nothing is told. */
  isLeftOut?(path: string): boolean
  /** Paths of streams ('a/b:stream') to be told too. */
  readonly streams?: readonly string[]
  /** Tells permissions too, and owners where this process may make files of others. */
  readonly withOwners?: boolean
}

/** Most files are read at once, which takes a tenth of the time. */
const SMALL_BYTES = 1024 ** 2
const isRoot = process.getuid?.() === 0
/** Paths are bytes: names need not be UTF-8. Each letter of these strings is one byte. */
const bytesOf = (path: string) => Buffer.from(path, 'latin1')
const shown = (path: string) => bytesOf(path).toString('utf8')

export async function treeOf(folder: string, options: TreeOptions = {}): Promise<Tree> {
  const tree = new Map<string, string>()
  const firstNames = new Map<number, string>()
  const top = Buffer.from(folder).toString('latin1')
  const left = ['']
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    const names = await readdir(bytesOf(join(top, path)), { encoding: 'latin1' })
    for (const name of names.sort()) {
      const inner = path === '' ? name : `${path}/${name}`
      const key = shown(inner)
      if (options.isLeftOut?.(key) === true) continue
      const at = bytesOf(join(top, inner))
      const facts = await lstat(at).catch(() => undefined)
      if (facts === undefined) {
        tree.set(key, 'unreadable')
        continue
      }
      const owner = isRoot ? ` ${facts.uid}:${facts.gid}` : ''
      const more = options.withOwners === true ? ` ${(facts.mode & 0o7777).toString(8)}${owner}` : ''
      if (facts.isSymbolicLink()) {
        const target = await readlink(at).catch(() => 'unreadable')
        tree.set(key, `link ${target.replace(folder, '')}`)
      } else if (facts.isDirectory()) {
        tree.set(key, `directory${more}`)
        left.push(inner)
      } else {
        const first = firstNames.get(facts.ino)
        if (facts.nlink > 1 && first === undefined) firstNames.set(facts.ino, key)
        const same = first === undefined ? '' : ` same as ${first}`
        const digest = facts.isFile() ? await digestOf(at) : 'special'
        tree.set(key, `file ${facts.size} ${digest}${same}${more}`)
      }
    }
  }
  for (const stream of options.streams ?? []) {
    if (options.isLeftOut?.(stream) !== true)
      tree.set(stream, `stream ${await digestOf(join(folder, stream))}`)
  }
  return tree
}

export async function digestOf(path: string | Buffer): Promise<string> {
  const { size } = await stat(path)
  const hash = createHash('sha256')
  if (size <= SMALL_BYTES) return hash.update(await readFile(path)).digest('hex')
  for await (const bytes of createReadStream(path, { highWaterMark: 1024 ** 2 })) hash.update(bytes as Buffer)
  return hash.digest('hex')
}

/** What differs, a line each: '-' for what only the first has, '+' for what only the second has. */
export function treeChanges(before: Tree, after: Tree): readonly string[] {
  const lines: string[] = []
  for (const [path, what] of before) if (after.get(path) !== what) lines.push(`- ${path}: ${what}`)
  for (const [path, what] of after) if (before.get(path) !== what) lines.push(`+ ${path}: ${what}`)
  return lines
}
