import type { RemovedItem } from '../image/cleaning.ts'
import type { FileSystem, Path, TreeSize } from '../volume/contract.ts'
import { foldName } from './names.ts'

/** Folders whose names say nothing about a person: systems and programs make them for everybody. */
const WELL_KNOWN = [
  'Desktop',
  'Documents',
  'Downloads',
  'Music',
  'Pictures',
  'Videos',
  'AppData',
  'Favorites',
  'Contacts',
  'Links',
  'Saved Games',
  'Searches',
  'OneDrive',
  '3D Objects',
  'My Documents',
  'Public',
  'Templates',
  'Mail',
  'Maildir',
  'public_html',
  'bin',
  'snap',
  'go',
  '.ssh',
  '.gnupg',
  '.aws',
  '.azure',
  '.kube',
  '.docker',
  '.config',
  '.cache',
  '.local',
  '.mozilla',
  '.thunderbird',
  '.vscode',
  '.vscode-server',
  '.npm',
  '.cargo',
  '.rustup',
  '.m2',
  '.gradle',
] as const

const SPELLINGS = new Map<string, string>(WELL_KNOWN.map((name) => [foldName(name), name]))

type Parts = RemovedItem['parts']

/** What the tree at `path`, of `total` in all, is made of: folders of well-known names directly in it, and 'other'. */
export async function measureParts(files: FileSystem, path: Path, total: TreeSize): Promise<Parts> {
  const parts = new Map<string, { fileCount: number; bytes: number }>()
  const other = { fileCount: total.fileCount, bytes: total.bytes }
  for (const entry of (await files.list(path)) ?? []) {
    const name = SPELLINGS.get(foldName(entry.name))
    if (entry.kind !== 'directory' || name === undefined) continue
    const size = await files.measure([...path, entry.name])
    const part = parts.get(name) ?? { fileCount: 0, bytes: 0 }
    // A file with names in two folders is in both, so what is left may come out below nothing.
    parts.set(name, { fileCount: part.fileCount + size.fileCount, bytes: part.bytes + size.bytes })
    other.fileCount = Math.max(0, other.fileCount - size.fileCount)
    other.bytes = Math.max(0, other.bytes - size.bytes)
  }
  const told = [...parts].map(([name, part]) => ({ name, ...part }))
  return other.fileCount > 0 || other.bytes > 0 ? [...told, { name: 'other', ...other }] : told
}
