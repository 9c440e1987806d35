import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeByHand, plantInJournal } from './linux-changes.ts'
import { fillData, fillLinux, ROOT_UUID } from './linux-content.ts'
import { copyInto, fixedIsFine, makeFile, run } from './programs.ts'
import { writeSwapHeader } from './swap.ts'
import { full, type Tokens } from './tokens.ts'
import { type Tree, treeOf } from './tree.ts'

const MIB = 1024 ** 2
const SECTOR_BYTES = 512

export interface LinuxOptions {
  readonly path: string
  readonly sizeBytes: number
  readonly tokens: Tokens
  /** ext4 in blocks of 4 KiB without more. */
  readonly type?: 'ext2' | 'ext3' | 'ext4'
  readonly blockBytes?: number
  /** As `mke2fs -O` has them. */
  readonly features?: string
  /** A swap partition behind the root. Without one the file system is the whole disk. */
  readonly swapBytes?: number
  /** A data disk: no system, a folder of data alone. */
  readonly isData?: boolean
  readonly fileCount?: number
  /** Puts tokens on the bare disk first, everywhere, as a former file system leaves them. */
  readonly hasHistory?: boolean
  /** The last changes are in the journal alone, as after a power cut. */
  readonly needsReplay?: boolean
}

export interface LinuxContent {
  /** Gone with everything beneath. */
  readonly removed: readonly string[]
  /** Everything in them goes, they stay with owner and mode. */
  readonly emptied: readonly string[]
  /** Written, emptied or blanked: they have other bytes afterwards. */
  readonly changed: readonly string[]
}

export interface LinuxDisk {
  readonly path: string
  readonly offset: number
  readonly sizeBytes: number
  readonly content: LinuxContent
  readonly kept: Tree
  /** Where the swap partition is. */
  readonly swap?: { readonly offset: number; readonly sizeBytes: number }
}

const isBeneath = (path: string, top: string) => path === top || path.startsWith(`${top}/`)

export const isLeftOut = (content: LinuxContent, path: string): boolean =>
  [...content.removed, ...content.changed].some((top) => isBeneath(path, top)) ||
  content.emptied.some((top) => path !== top && isBeneath(path, top))

/** How e2fsprogs name a file system inside a disk. */
export const at = (path: string, offset: number) => (offset === 0 ? path : `${path}?offset=${offset}`)

/** Everything in a file system that nobody mounts. */
export async function linuxTree(
  path: string,
  offset: number,
  leaveOut: (path: string) => boolean = () => false,
): Promise<Tree> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-ext4-'))
  try {
    await run('debugfs', ['-R', `rdump / ${folder}`, at(path, offset)])
    return await treeOf(folder, { isLeftOut: leaveOut, withOwners: true })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * A disk as a Linux has it, with tokens in everything that has to go and in what was deleted before, and others in what
 * has to stay. The same seed makes the same names and contents.
 */
export async function buildLinux(options: LinuxOptions): Promise<LinuxDisk> {
  const { path, sizeBytes, tokens, swapBytes } = options
  const offset = swapBytes === undefined ? 0 : MIB
  const rootBytes = sizeBytes - (swapBytes === undefined ? 0 : swapBytes + 3 * MIB)
  const volume = swapBytes === undefined ? path : `${path}.volume`
  const { content, kept } = await buildVolume(options, volume, rootBytes)
  if (swapBytes === undefined) return { path, offset, sizeBytes: rootBytes, content, kept }
  await makeFile(path, sizeBytes)
  await copyInto(volume, path, offset)
  await rm(volume)
  const swap = { offset: offset + rootBytes, sizeBytes: swapBytes }
  await addSwap(path, swap, rootBytes, tokens)
  return { path, offset, sizeBytes: rootBytes, content, kept, swap }
}

/** The file system alone, in a file of its own: e2fsck replays no journal inside a disk. */
async function buildVolume(options: LinuxOptions, path: string, sizeBytes: number) {
  const { tokens } = options
  const tree = await mkdtemp(join(tmpdir(), 'calo-tree-'))
  try {
    await makeFile(path, sizeBytes)
    if (options.hasHistory === true) await plantHistory(path, sizeBytes, tokens)
    const hasJournal = options.type !== 'ext2'
    const { content, owners } =
      options.isData === true
        ? await fillData(tree, tokens, hasJournal)
        : await fillLinux(tree, tokens, hasJournal, options.fileCount)
    await format({ ...options, path }, tree, owners)
    await changeByHand(path, tokens, options.isData === true ? 'data' : 'opt')
    if (hasJournal) await plantInJournal(path, tokens, options.needsReplay === true)
    return { content, kept: await treeAfterReplay(path, options.needsReplay === true, content) }
  } finally {
    await rm(tree, { recursive: true, force: true })
  }
}

/** What is in the journal alone counts: it is seen in a copy in which the journal is replayed. */
async function treeAfterReplay(path: string, needsReplay: boolean, content: LinuxContent): Promise<Tree> {
  const leaveOut = (one: string) => isLeftOut(content, one)
  if (!needsReplay) return linuxTree(path, 0, leaveOut)
  const copy = `${path}.replayed`
  try {
    await run('cp', ['--sparse=always', path, copy])
    await run('e2fsck', ['-fy', copy]).catch(fixedIsFine)
    return await linuxTree(copy, 0, leaveOut)
  } finally {
    await rm(copy, { force: true })
  }
}

async function plantHistory(path: string, sizeBytes: number, tokens: Tokens): Promise<void> {
  const page = full(tokens.newGone('history'), 4096)
  const file = await open(path, 'r+')
  try {
    // Every other page near the front, where the tables are, and some of the rest.
    for (let at = 0; at + 4096 <= sizeBytes; at += at < 24 * MIB ? 8192 : 64 * 1024)
      await file.write(page, 0, page.length, at)
  } finally {
    await file.close()
  }
}

async function format(options: LinuxOptions, tree: string, owners: readonly string[]): Promise<void> {
  const { path, type = 'ext4', blockBytes = 4096, features } = options
  // Tables and journal are left as the disk was, as they are on a disk that was used before.
  const extended = `lazy_itable_init=1,lazy_journal_init=1,nodiscard,hash_seed=${ROOT_UUID}`
  const words = ['-q', '-F', '-t', type, '-b', `${blockBytes}`, '-U', ROOT_UUID, '-L', 'root', '-d', tree]
  const more = features === undefined ? [] : ['-O', features]
  const place = ['-E', extended, path]
  const script =
    'cd "$1" && chown -R 0:0 . && while read -r owner path; do chown -h "$owner" "$path"; done <<< "$2"; shift 2; exec mke2fs "$@"'
  const program = ['bash', '-euc', script, 'mke2fs', tree, owners.join('\n'), ...words, ...more, ...place]
  const [first = '', ...rest] = process.getuid?.() === 0 ? program : ['fakeroot', ...program]
  await run(first, rest)
}

async function addSwap(
  path: string,
  swap: { readonly offset: number; readonly sizeBytes: number },
  rootBytes: number,
  tokens: Tokens,
): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const bytes = full(tokens.newGone('swap'), swap.sizeBytes - 64 * 1024)
    await file.write(bytes, 0, bytes.length, swap.offset + 4096)
  } finally {
    await file.close()
  }
  await writeSwapHeader(path, swap.offset, swap.sizeBytes)
  const part = (start: number, size: number, type: string) =>
    `start=${start / SECTOR_BYTES}, size=${size / SECTOR_BYTES}, type=${type}\n`
  const table = `label: dos\nlabel-id: 0x0ca10764\n${part(MIB, rootBytes, '83')}${part(swap.offset, swap.sizeBytes, '82')}`
  await run('sfdisk', ['--quiet', path], table)
}
