import { type CleaningOperation, describePlace } from '../image/cleaning.ts'
import type { Edit, Path } from '../volume/contract.ts'
import type { GuestVolume } from './contract.ts'
import type { Draft } from './draft.ts'
import { sameName, shownPath } from './names.ts'

interface Target {
  readonly path: Path
  /** Applies to a directory if it empties, to a file otherwise. */
  readonly is: 'remove' | 'empty' | 'blank'
}

const REPORTING: Path = ['ProgramData', 'Microsoft', 'Windows', 'WER']

const TARGETS = {
  'paging-files': [
    { path: ['pagefile.sys'], is: 'blank' },
    { path: ['swapfile.sys'], is: 'blank' },
    { path: ['hiberfil.sys'], is: 'blank' },
  ],
  'memory-dumps': [
    { path: ['Windows', 'MEMORY.DMP'], is: 'remove' },
    { path: ['Windows', 'Minidump'], is: 'empty' },
    { path: ['Windows', 'LiveKernelReports'], is: 'empty' },
    { path: [...REPORTING, 'ReportQueue'], is: 'empty' },
    { path: [...REPORTING, 'ReportArchive'], is: 'empty' },
    { path: [...REPORTING, 'Temp'], is: 'empty' },
  ],
  'search-index': [
    { path: ['ProgramData', 'Microsoft', 'Search', 'Data', 'Applications', 'Windows'], is: 'empty' },
  ],
} as const satisfies Partial<Record<CleaningOperation, readonly Target[]>>

const HOW = { remove: 'removed', empty: 'emptied', blank: 'blanked' } as const

const SYSTEM_VOLUME_INFORMATION: Path = ['System Volume Information']
/** Deduplicated files have their contents in it, and only a name where they are. */
const DEDUPLICATION = 'Dedup'

/** Shadow copies, restore points and indexes of links: everything of the folder but the contents of files that stay. */
export async function planShadowCopies(volumes: readonly GuestVolume[], draft: Draft): Promise<void> {
  for (const volume of volumes) {
    if (volume.files.type !== 'ntfs') continue
    const children = (await volume.files.list(SYSTEM_VOLUME_INFORMATION)) ?? []
    const shown = shownPath(volume.files, SYSTEM_VOLUME_INFORMATION)
    const goes = children.filter(({ name }) => !sameName(name, DEDUPLICATION))
    if (goes.length < children.length) {
      const why =
        'deduplicated files have their contents in it, removed ones until Windows collects its garbage'
      draft.keep(volume, `${shown}\\${DEDUPLICATION}`, why)
      draft.warn(
        `${describePlace(volume)}: ${why[0]?.toUpperCase()}${why.slice(1)}: what was deduplicated is not cleaned.`,
      )
    }
    const edits = goes.map(({ name }) => ({
      volume,
      edit: { is: 'remove' as const, path: [...SYSTEM_VOLUME_INFORMATION, name] },
    }))
    if (edits.length > 0)
      await draft.claim({ operation: 'shadow-copies', volume, shown, how: 'emptied', edits })
  }
}

/** What Windows itself writes at fixed places, of every NTFS volume: which of them is C: nobody has to know. */
export async function planWindowsFiles(
  operation: keyof typeof TARGETS,
  volumes: readonly GuestVolume[],
  draft: Draft,
): Promise<void> {
  for (const volume of volumes) {
    if (volume.files.type !== 'ntfs') continue
    for (const { path, is } of TARGETS[operation]) {
      const facts = await volume.files.stat(path)
      if (facts?.kind !== (is === 'empty' ? 'directory' : 'file')) continue
      const edit: Edit = is === 'blank' ? { is, path, keepBytes: 0 } : { is, path }
      const shown = shownPath(volume.files, path)
      await draft.claim({ operation, volume, shown, how: HOW[is], edits: [{ volume, edit }] })
    }
  }
}
