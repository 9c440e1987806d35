import { open, rename, rm } from 'node:fs/promises'
import { withNtfs } from './mounted.ts'
import { fillNtfs } from './ntfs-content.ts'
import { plantJournal } from './ntfs-journal.ts'
import { copyInto, makeFile, run } from './programs.ts'
import { full, type Tokens } from './tokens.ts'
import { type Tree, treeOf } from './tree.ts'

const MIB = 1024 ** 2
const SECTOR_BYTES = 512
const PARTITION_MIB = 1
/** Behind the last partition: the table's second copy, and a gap with bytes of somebody. */
const TAIL_MIB = 2

export interface NtfsOptions {
  /** Where the disk is made; beside it for a while also its volume. */
  readonly path: string
  readonly sizeBytes: number
  readonly tokens: Tokens
  readonly clusterBytes?: number
  readonly sectorBytes?: number
  /** The table that the volume is in; without one it is the whole disk. */
  readonly table?: 'gpt' | 'mbr'
  /** \Windows\System32\config\SOFTWARE with the list of profiles; the recycle bin of Administrator stays then. */
  readonly withHive?: boolean
  /** A data disk: no Windows, no users, but a recycle bin and a folder of data. */
  readonly isData?: boolean
  /** So many further files in the removed and the kept part, half each. */
  readonly fileCount?: number
  /** Puts tokens on the bare disk first, everywhere, as a former file system leaves them. */
  readonly hasHistory?: boolean
}

export interface NtfsDisk {
  readonly path: string
  /** Where the volume lies on the disk, in bytes. */
  readonly offset: number
  readonly sizeBytes: number
  readonly content: NtfsContent
  /** What has to be there after a cleaning, byte for byte. */
  readonly kept: Tree
}

/** What `fillNtfs` put into a volume; all paths with '/', from the root. */
export interface NtfsContent {
  /** They go with everything beneath. */
  readonly removed: readonly string[]
  /** Everything in them goes, they stay. */
  readonly emptied: readonly string[]
  /** They keep their size and have only zeroes; or, as the registry's logs, their bytes are not ours to say. */
  readonly blanked: readonly string[]
  readonly changed: readonly string[]
  /** Streams of files that stay. */
  readonly streams: readonly string[]
}

const isBeneath = (path: string, top: string) =>
  path.toLowerCase() === top.toLowerCase() || path.toLowerCase().startsWith(`${top.toLowerCase()}/`)

export function isLeftOut(content: NtfsContent, path: string): boolean {
  const file = path.split(':')[0] ?? path
  return (
    [...content.removed, ...content.blanked, ...content.changed].some((top) => isBeneath(file, top)) ||
    content.emptied.some((top) => file.toLowerCase() !== top.toLowerCase() && isBeneath(file, top))
  )
}

/** What stays of a mounted volume. */
export const keptTree = (folder: string, content: NtfsContent): Promise<Tree> =>
  treeOf(folder, { isLeftOut: (path) => isLeftOut(content, path), streams: content.streams })

/**
 * An NTFS disk as a Windows has it, with tokens in everything that has to go, in what was deleted, renamed, cut and
 * overwritten before, and others in what has to stay. The same seed makes the same names and contents.
 */
export async function buildNtfs(options: NtfsOptions): Promise<NtfsDisk> {
  const { path, sizeBytes, tokens, table, clusterBytes = 4096, sectorBytes = SECTOR_BYTES } = options
  const offset = table === undefined ? 0 : PARTITION_MIB * MIB
  const volumeBytes = sizeBytes - (table === undefined ? 0 : (PARTITION_MIB + TAIL_MIB) * MIB)
  const volume = `${path}.volume`
  await makeFile(volume, volumeBytes)
  if (options.hasHistory === true) await plantHistory(volume, volumeBytes, tokens)
  const geometry = ['-s', `${sectorBytes}`, '-c', `${clusterBytes}`, '-p', `${offset / sectorBytes}`]
  await run('mkntfs', ['-F', '-Q', '-q', ...geometry, '-H', '255', '-S', '63', '-L', 'CALOTYPE', volume])
  const content = await withNtfs(volume, (folder) => fillNtfs(folder, options))
  await plantJournal(volume, tokens)
  const kept = await withNtfs(volume, (folder) => keptTree(folder, content), 'ro')
  if (table === undefined) await rename(volume, path)
  else {
    await makeFile(path, sizeBytes)
    await copyInto(volume, path, offset)
    await rm(volume)
    await writeTable(path, table, volumeBytes)
    await plantGap(path, offset + volumeBytes, tokens)
  }
  return { path, offset, sizeBytes: volumeBytes, content, kept }
}

/** A page of a token in every 32 KiB, and everywhere in the first 4 MiB, where the file system puts its own tables. */
async function plantHistory(path: string, sizeBytes: number, tokens: Tokens): Promise<void> {
  const token = tokens.newGone('history')
  const page = full(token, 4096)
  const file = await open(path, 'r+')
  try {
    await file.write(full(token, 4 * MIB), 0, 4 * MIB, 0)
    for (let at = 4 * MIB; at + page.length <= sizeBytes; at += 32 * 1024)
      await file.write(page, 0, page.length, at)
  } finally {
    await file.close()
  }
}

async function writeTable(path: string, table: 'gpt' | 'mbr', volumeBytes: number): Promise<void> {
  const place = `start=${(PARTITION_MIB * MIB) / SECTOR_BYTES}, size=${volumeBytes / SECTOR_BYTES}`
  const type = table === 'gpt' ? 'EBD0A0A2-B9E5-4433-87C0-68B6B72699C7' : '7'
  const ids = table === 'gpt' ? 'label-id: 0CA10764-0000-4000-8000-000000000001' : 'label-id: 0x0ca10764'
  const script = `label: ${table === 'gpt' ? 'gpt' : 'dos'}\n${ids}\n${place}, type=${type}\n`
  await run('sfdisk', ['--quiet', path], script)
}

/** Behind the last partition lies what a larger one before it has left. */
async function plantGap(path: string, offset: number, tokens: Tokens): Promise<void> {
  const file = await open(path, 'r+')
  const page = full(tokens.newGone('gap'), 256 * 1024)
  await file.write(page, 0, page.length, offset + 4096).finally(() => file.close())
}
