import { isFault } from '../image/fault.ts'
import type { Path } from '../volume/contract.ts'
import { type KeyPath, parseHive } from '../volume/registry/hive.ts'
import type { GuestVolume } from './contract.ts'
import { whyKept } from './kept-users.ts'
import { sameName } from './names.ts'

/** What the registry of a Windows says about the profiles of its users. */
export type ProfileList =
  | { readonly is: 'absent' }
  /** `message` says why and what to do next. */
  | { readonly is: 'unreadable'; readonly message: string }
  | {
      readonly is: 'read'
      readonly path: Path
      /** By security identifier, in lower case. */
      readonly keptSids: ReadonlySet<string>
      /** Keys of those whose directory goes. */
      readonly removedKeys: readonly KeyPath[]
      /** Profiles in folders that no rule speaks of. */
      readonly elsewhereCount: number
      /** Set if keys cannot be taken out: why, and what to do next. */
      readonly whyFixed: string | undefined
    }

export const CONFIG_PATH: Path = ['Windows', 'System32', 'config']
const HIVE_BYTES_MAX = 256 << 20
const CURRENT_VERSION: KeyPath = ['Microsoft', 'Windows NT', 'CurrentVersion']
const PROFILE_LIST: KeyPath = [...CURRENT_VERSION, 'ProfileList']
const PROFILE_GUIDS: KeyPath = [...CURRENT_VERSION, 'ProfileGuid']
/** LocalSystem, LocalService, NetworkService: every Windows has them. */
const SYSTEM_SIDS = ['s-1-5-18', 's-1-5-19', 's-1-5-20']
const NEXT =
  'Start Windows and shut it down in full, then try again; or choose best effort, or leave profiles out.'

/** `removedNames`: of the directories under \Users that go, on any volume of the machine. */
export async function readProfileList(
  volume: GuestVolume,
  removedNames: readonly string[],
  path: Path = [...CONFIG_PATH, 'SOFTWARE'],
): Promise<ProfileList> {
  const facts = await volume.files.stat(path)
  if (facts?.kind !== 'file' || facts.sizeBytes === 0) return { is: 'absent' }
  if (facts.sizeBytes > HIVE_BYTES_MAX) {
    return { is: 'unreadable', message: `The registry of Windows is larger than 256 MiB. ${NEXT}` }
  }
  const bytes = await volume.files.read(path, HIVE_BYTES_MAX)
  if (bytes === undefined) {
    return { is: 'unreadable', message: `The registry of Windows is encrypted or compressed. ${NEXT}` }
  }
  try {
    return readHive(bytes, path, removedNames)
  } catch (error) {
    if (!isFault(error, 'conflict')) throw error
    return { is: 'unreadable', message: `The registry of Windows is damaged. ${NEXT}` }
  }
}

function readHive(bytes: Buffer, path: Path, removedNames: readonly string[]): ProfileList {
  const hive = parseHive(bytes)
  const removed = new Map<string, string>()
  const keptSids = new Set<string>()
  let elsewhereCount = 0
  const names = hive.keys(PROFILE_LIST) ?? []
  for (const name of names) {
    const sid = sidOf(name)
    if (SYSTEM_SIDS.includes(sid)) keptSids.add(sid)
    if (!sid.startsWith('s-1-') || SYSTEM_SIDS.includes(sid)) continue
    const place = placeOf(hive.value([...PROFILE_LIST, name], 'ProfileImagePath'), removedNames)
    if (place === 'removed') removed.set(sid, name)
    else {
      keptSids.add(sid)
      if (place === 'elsewhere') elsewhereCount += 1
    }
  }
  // Two entries of one account ('….bak'): if either is of a removed directory, both are of a removed user.
  const removedKeys: KeyPath[] = names
    .filter((name) => removed.has(sidOf(name)))
    .map((name) => [...PROFILE_LIST, name])
  for (const sid of removed.keys()) keptSids.delete(sid)
  for (const guid of hive.keys(PROFILE_GUIDS) ?? []) {
    const sid = hive.value([...PROFILE_GUIDS, guid], 'SidString')
    if (typeof sid === 'string' && removed.has(sidOf(sid))) removedKeys.push([...PROFILE_GUIDS, guid])
  }
  let whyFixed: string | undefined
  if (hive.isDirty) whyFixed = `The registry of Windows has changes that are not written into it yet. ${NEXT}`
  else if (removedKeys.length > 0) {
    // The whole of it is looked through only here: what cannot be done must be known before anything is done.
    try {
      hive.without(removedKeys)
    } catch (error) {
      if (!isFault(error, 'conflict')) throw error
      whyFixed = `The registry of Windows is damaged. ${NEXT}`
    }
  }
  return { is: 'read', path, keptSids, removedKeys, elsewhereCount, whyFixed }
}

function sidOf(text: string): string {
  return text
    .replaceAll('\0', '')
    .toLowerCase()
    .replace(/\.bak$/, '')
}

function placeOf(value: unknown, removedNames: readonly string[]): 'removed' | 'kept' | 'elsewhere' {
  if (typeof value !== 'string') return 'kept'
  const text = value.replaceAll('\0', '').replaceAll('/', '\\')
  const found = /^(?:\\\\\?\\)?(%systemdrive%|[a-z]:)\\+(?:users|documents and settings)\\+([^\\]+)/i.exec(
    text,
  )
  const [, drive, name] = found ?? []
  if (drive === undefined || name === undefined) {
    return /^(%systemroot%|[a-z]:\\windows)\\/i.test(text) ? 'kept' : 'elsewhere'
  }
  if (whyKept(name) !== undefined) return 'kept'
  // Which volume another letter is, only the running Windows knows.
  const isHere = /^(%systemdrive%|c:)$/i.test(drive) || removedNames.some((one) => sameName(one, name))
  return isHere ? 'removed' : 'elsewhere'
}
