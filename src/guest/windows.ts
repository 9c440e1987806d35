import type { Path } from '../volume/contract.ts'
import type { GuestVolume } from './contract.ts'
import { whyKept } from './kept-users.ts'
import { sameName } from './names.ts'
import { type ProfileList, readProfileList } from './profile-list.ts'

/** A directory, or a link, under \Users. */
export interface UserDirectory {
  readonly name: string
  readonly kind: 'directory' | 'link'
  /** Undefined for those that go. */
  readonly whyKept: string | undefined
}

/** A volume with a Windows on it, or with its users. */
export interface WindowsSystem {
  readonly volume: GuestVolume
  /** As the volume spells it. */
  readonly usersPath: Path
  readonly users: readonly UserDirectory[]
  readonly profiles: ProfileList
}

const USUAL_IN_ROOT = ['Windows', 'Program Files', 'ProgramData']

/**
 * The NTFS volumes with a Windows-like root: a directory `\Users`, and `\Windows`, `\Program Files` or `\ProgramData` beside it
 * or one of the names in it that every Windows makes. So a data disk that holds the users counts, and one with a folder that
 * somebody called Users does not. The registry, which may be large, is read only if it is needed.
 */
export async function findWindows(
  volumes: readonly GuestVolume[],
  isProfileListNeeded: boolean,
): Promise<readonly WindowsSystem[]> {
  const found: Omit<WindowsSystem, 'profiles'>[] = []
  for (const volume of volumes) {
    if (volume.files.type !== 'ntfs') continue
    const root = (await volume.files.list([])) ?? []
    const directories = root.filter(({ kind }) => kind === 'directory')
    // Several where a system that tells names apart by case made them.
    for (const usersPath of directories
      .filter(({ name }) => sameName(name, 'Users'))
      .map(({ name }) => [name])) {
      const users: UserDirectory[] = []
      for (const { name, kind } of (await volume.files.list(usersPath)) ?? []) {
        if (kind === 'directory' || kind === 'link') users.push({ name, kind, whyKept: whyKept(name) })
      }
      const isLike =
        directories.some(({ name }) => USUAL_IN_ROOT.some((usual) => sameName(usual, name))) ||
        users.some((user) => user.whyKept !== undefined)
      if (isLike) found.push({ volume, usersPath, users })
    }
  }
  const removedNames = found.flatMap(({ users }) =>
    users.filter((user) => user.whyKept === undefined).map(({ name }) => name),
  )
  const systems: WindowsSystem[] = []
  for (const one of found) {
    const profiles: ProfileList = isProfileListNeeded
      ? await readProfileList(one.volume, removedNames)
      : { is: 'absent' }
    systems.push({ ...one, profiles })
  }
  return systems
}
