import { refuse } from '../volume/refuse.ts'
import { decodeNames } from './names.ts'
import type { Tree } from './tree.ts'

export interface Account {
  readonly name: string
  readonly uid: number
  readonly home: string
  /** A person's, by its number; not root's, a service's or nobody's. */
  readonly isOrdinary: boolean
}

export interface Accounts {
  readonly all: readonly Account[]
  /** Whose files of this owner are: 'ordinary' also for an owner that no account has. */
  ownerOf(uid: number | undefined): 'ordinary' | 'system'
  isKnown(uid: number): boolean
  /** Of what is named for an account: 'ordinary' also for a name that no account has. */
  namedFor(name: string): 'ordinary' | 'system'
}

const FILE_BYTES_MAX = 16 << 20
/** login.defs(5). */
const UID_MIN = 1000
const UID_MAX = 60_000
/** What a distribution may set as UID_MIN; below are its own accounts, whatever the file says. */
const UID_MIN_LEAST = 100
const NOBODY = [65_534, 65_535, 0xffff_fffe, 0xffff_ffff]

/** Throws refuse('too-large') for an /etc/passwd of more than 16 MiB. */
export async function readAccounts(tree: Tree): Promise<Accounts> {
  const { least, most } = parseRange((await readText(tree, '/etc/login.defs')) ?? '')
  const all: Account[] = []
  const byName = new Map<string, Account>()
  const byUid = new Map<number, Account>()
  for (const line of ((await readText(tree, '/etc/passwd')) ?? '').split('\n')) {
    const [name, , uidText, , , home] = line.split(':')
    if (name === undefined || home === undefined || !/^\d{1,10}$/.test(uidText ?? '')) continue
    const uid = Number(uidText)
    const isOrdinary = uid >= least && uid <= most && !NOBODY.includes(uid)
    const account = { name, uid, home, isOrdinary }
    all.push(account)
    byName.set(name, account)
    // Of two accounts with one number the one of the system decides: what is theirs stays.
    if (byUid.get(uid)?.isOrdinary !== false) byUid.set(uid, account)
  }
  return {
    all,
    ownerOf: (uid) =>
      uid === 0 || (uid !== undefined && byUid.get(uid)?.isOrdinary === false) ? 'system' : 'ordinary',
    isKnown: (uid) => byUid.has(uid),
    namedFor: (name) => (name === 'root' || byName.get(name)?.isOrdinary === false ? 'system' : 'ordinary'),
  }
}

export async function readText(tree: Tree, path: string): Promise<string | undefined> {
  const place = await tree.resolve(path)
  if (place?.facts.kind !== 'file') return undefined
  if (place.facts.sizeBytes > FILE_BYTES_MAX) {
    throw refuse(
      'too-large',
      'A table in /etc is larger than 16 MiB. Shorten it inside the machine, then try again.',
    )
  }
  const bytes = await place.volume.files.read(place.path, FILE_BYTES_MAX)
  return bytes && decodeNames(bytes)
}

function parseRange(text: string): { readonly least: number; readonly most: number } {
  const found = { least: UID_MIN, most: UID_MAX }
  for (const line of text.split('\n')) {
    const [, name, value] = /^\s*(UID_MIN|UID_MAX)\s+(\d{1,10})\s*(?:#.*)?$/.exec(line) ?? []
    if (name === 'UID_MIN') found.least = Math.max(UID_MIN_LEAST, Number(value))
    if (name === 'UID_MAX') found.most = Number(value)
  }
  // A range that holds nobody is a mistake, and would leave everybody's data in the image.
  return found.most < found.least ? { least: UID_MIN, most: UID_MAX } : found
}
