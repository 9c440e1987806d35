import type { GuestVolume } from './contract.ts'
import type { Draft } from './draft.ts'
import { shownPath } from './names.ts'
import type { WindowsSystem } from './windows.ts'

const BIN = /^(\$recycle\.bin|recycler|recycled)$/i

/**
 * Of every bin on every NTFS volume what belongs to nobody whose profile is kept. Without a readable list of profiles nobody
 * can be told apart, and all of it goes.
 */
export async function planRecycleBins(
  volumes: readonly GuestVolume[],
  systems: readonly WindowsSystem[],
  draft: Draft,
): Promise<void> {
  const lists = systems.map(({ profiles }) => profiles).filter((list) => list.is === 'read')
  const keptSids = new Set(lists.flatMap((list) => [...list.keptSids]))
  for (const volume of volumes) {
    if (volume.files.type !== 'ntfs') continue
    for (const bin of (await volume.files.list([])) ?? []) {
      if (!BIN.test(bin.name) || bin.kind !== 'directory') continue
      for (const { name } of (await volume.files.list([bin.name])) ?? []) {
        const path = [bin.name, name]
        if (keptSids.has(name.toLowerCase())) {
          draft.keep(volume, shownPath(volume.files, path), 'the recycle bin of a profile that is kept')
          continue
        }
        if (lists.length === 0) {
          draft.warn(
            'There is no list of profiles to tell whose the recycle bins are: those of everyone are emptied, of Administrator too.',
          )
        }
        const shown = /^S-1-[0-9-]{1,180}$/i.test(name) ? path : [bin.name, 'other']
        await draft.claim({
          operation: 'recycle-bins',
          volume,
          shown: shownPath(volume.files, shown),
          how: 'removed',
          edits: [{ volume, edit: { is: 'remove', path } }],
        })
      }
    }
  }
}
