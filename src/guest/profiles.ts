import { describePlace } from '../image/cleaning.ts'
import type { Draft, VolumeEdit } from './draft.ts'
import { shownPath } from './names.ts'
import { CONFIG_PATH, readProfileList } from './profile-list.ts'
import type { WindowsSystem } from './windows.ts'

/** The directories under \Users that are nobody's go, and out of the registry goes who they belonged to. */
export async function planProfiles(systems: readonly WindowsSystem[], draft: Draft): Promise<void> {
  for (const system of systems) {
    const { volume, usersPath } = system
    for (const user of system.users) {
      const path = [...usersPath, user.name]
      const shown = shownPath(volume.files, path)
      if (user.whyKept !== undefined) draft.keep(volume, shown, user.whyKept)
      else {
        await draft.claim({
          operation: 'profiles',
          volume,
          shown,
          how: 'removed',
          edits: [{ volume, edit: { is: 'remove', path } }],
          ...(user.kind === 'directory' ? { tree: path } : {}),
        })
      }
    }
    await planRegistry(system, draft)
    await tellOldWindows(system, draft)
  }
}

async function planRegistry(system: WindowsSystem, draft: Draft): Promise<void> {
  const { volume, profiles } = system
  const isAnyoneRemoved = system.users.some((user) => user.whyKept === undefined)
  if (profiles.is === 'absent') {
    const facts = await volume.files.stat(CONFIG_PATH)
    const where = describePlace(volume)
    if (isAnyoneRemoved && facts !== undefined) {
      draft.warn(`${where}: There is no list of profiles, so the registry stays as it is.`)
    } else if (isAnyoneRemoved) {
      draft.warn(`${where}: There is no Windows with a list of profiles. Its directories of users go.`)
    }
    return
  }
  if (profiles.is === 'unreadable') {
    if (isAnyoneRemoved) draft.refuse(volume, profiles.message)
    return
  }
  if (profiles.elsewhereCount > 0) {
    draft.warn(`${profiles.elsewhereCount} profiles of Windows lie outside of \\Users; they stay.`)
  }
  if (profiles.whyFixed !== undefined) {
    if (isAnyoneRemoved || profiles.removedKeys.length > 0) draft.refuse(volume, profiles.whyFixed)
    return
  }
  const removedNames = system.users.filter((user) => user.whyKept === undefined).map(({ name }) => name)
  const backup = await readProfileList(volume, removedNames, [...CONFIG_PATH, 'RegBack', 'SOFTWARE'])
  if (backup.is === 'unreadable' || (backup.is === 'read' && backup.whyFixed !== undefined)) {
    draft.warn("Windows' backup of its registry cannot be changed; the list of profiles in it stays.")
  }
  for (const list of [profiles, backup]) {
    if (list.is !== 'read' || list.whyFixed !== undefined || list.removedKeys.length === 0) continue
    await draft.claim({
      operation: 'profiles',
      volume,
      shown: shownPath(volume.files, list.path),
      how: 'unregistered',
      edits: [{ volume, edit: { is: 'registry', path: list.path, keys: list.removedKeys } }],
    })
    // They hold earlier bytes of the hive; one that was closed does not need them.
    for (const ending of ['.LOG', '.LOG1', '.LOG2']) {
      const path = [...list.path.slice(0, -1), `SOFTWARE${ending}`]
      const edits: VolumeEdit[] = [{ volume, edit: { is: 'blank', path, keepBytes: 0 } }]
      const shown = shownPath(volume.files, path)
      if ((await volume.files.stat(path))?.kind !== 'file') continue
      await draft.claim({ operation: 'profiles', volume, shown, how: 'blanked', edits })
    }
  }
}

/** Users of another Windows, which the rule does not speak of. */
async function tellOldWindows(system: WindowsSystem, draft: Draft): Promise<void> {
  const { files } = system.volume
  for (const path of [['Windows.old', 'Users'], ['Documents and Settings']]) {
    if ((await files.stat(path))?.kind !== 'directory') continue
    draft.keep(
      system.volume,
      shownPath(files, path),
      'it belongs to an earlier Windows; it may hold data of its users',
    )
  }
}
