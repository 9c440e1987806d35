import type { Path } from '../volume/contract.ts'
import type { Draft, VolumeEdit } from './draft.ts'
import type { LinuxSystem } from './linux.ts'
import { isWithin, splitPath } from './names.ts'
import type { Place } from './tree.ts'

/** Directories that are the system's whoever calls them home, with all beneath. */
const SYSTEM_TREES = [
  'bin',
  'boot',
  'dev',
  'etc',
  'lib',
  'lib32',
  'lib64',
  'libx32',
  'proc',
  'root',
  'run',
  'sbin',
  'snap',
  'sys',
  'usr',
]
/** Directories that are shared, but homes may lie beneath. */
const SHARED = [
  'var/backups',
  'var/cache',
  'var/empty',
  'var/lib',
  'var/lock',
  'var/local',
  'var/log',
  'var/mail',
  'var/opt',
  'var/run',
  'var/spool',
  'var/spool/mail',
  'var/tmp',
  'var/www',
  'srv/www',
  'srv/http',
  'var/www/html',
]

/** Deeper is nobody's home, and every directory on the way to one is remembered. */
const DEPTH_MAX = 16

/** Directories, found by what is above them. */
class Homes {
  readonly #places = new Map<string, Place>()
  readonly #beneath = new Map<string, Place[]>()

  add(place: Place): void {
    const key = place.guest.join('/')
    if (this.#places.has(key)) return
    this.#places.set(key, place)
    for (let length = 1; length < place.guest.length; length += 1) {
      const above = place.guest.slice(0, length).join('/')
      const known = this.#beneath.get(above)
      if (known === undefined) this.#beneath.set(above, [place])
      else known.push(place)
    }
  }

  all(): Iterable<Place> {
    return this.#places.values()
  }

  has(guest: Path): boolean {
    return this.#places.has(guest.join('/'))
  }

  beneath(guest: Path): readonly Place[] {
    return this.#beneath.get(guest.join('/')) ?? []
  }
}

interface Found {
  readonly system: LinuxSystem
  /** Of ordinary accounts. */
  readonly homes: Homes
  /** Of all other accounts. */
  readonly systemHomes: Homes
  /** Every name on the way to an ordinary account's home. */
  readonly wayNames: ReadonlySet<string>
}

/** What ordinary users have: their homes are emptied and stay, so that the accounts still can log in. */
export async function planHomes(system: LinuxSystem, draft: Draft): Promise<void> {
  const found = await findHomes(system, draft)
  const { homes, systemHomes } = found
  const { tree } = system
  for (const place of homes.all()) {
    const shown = tree.shown(place.guest)
    const why = systemHomes.has(place.guest)
      ? 'an account of the system has the same home'
      : whyKept(place.guest)
    if (why !== undefined) {
      draft.keep(place.volume, shown, why)
      continue
    }
    const inside = systemHomes.beneath(place.guest)
    for (const home of inside) {
      draft.keep(home.volume, tree.shown(home.guest), 'the home of an account of the system')
    }
    await draft.claim({
      operation: 'homes',
      volume: place.volume,
      shown,
      how: 'emptied',
      edits: await tree.clearing(
        place,
        inside.map(({ guest }) => guest),
      ),
      tree: place.path,
    })
  }
  await planLeftHomes(found, draft)
  await planShadowed(system, draft)
  await planAccountsService(system, draft)
}

async function findHomes(system: LinuxSystem, draft: Draft): Promise<Found> {
  const { tree, accounts } = system
  const homes = new Homes()
  const systemHomes = new Homes()
  const wayNames = new Set<string>()
  for (const account of accounts.all) {
    if (!account.home.startsWith('/')) continue
    if (account.isOrdinary) for (const name of splitPath(account.home)) wayNames.add(name)
    const place = await tree.resolveDirectory(account.home)
    if (place === undefined) continue
    if (place.guest.length > DEPTH_MAX) {
      draft.warn('A home directory lies too deep to be one; it stays.')
    } else if (account.isOrdinary) homes.add(place)
    else if (place.guest.length > 1 || account.uid === 0) systemHomes.add(place)
  }
  return { system, homes, systemHomes, wayNames }
}

function whyKept(guest: Path): string | undefined {
  if (SYSTEM_TREES.includes(guest[0] ?? '') || SHARED.includes(guest.join('/'))) {
    return 'it is a directory of the system'
  }
  return guest.length < 2 ? 'it is no directory of a user alone' : undefined
}

/** What else is in /home: of accounts that are gone, or that are known elsewhere (a directory service). */
async function planLeftHomes(found: Found, draft: Draft): Promise<void> {
  const { system, homes, systemHomes, wayNames } = found
  const { tree, accounts } = system
  const home = await tree.resolveDirectory('/home')
  if (home === undefined) return
  for (const entry of await tree.entries(home)) {
    const { volume, path, guest, kind, name } = entry
    const facts = await volume.files.stat(path)
    if (facts === undefined || name === 'lost+found' || homes.has(guest)) continue
    // A link on the way to somebody's home: without it the account could not log in.
    if (kind === 'link' && wayNames.has(name)) continue
    const inside = homes.beneath(guest)
    const isOfSystem =
      accounts.ownerOf(facts.uid) === 'system' ||
      systemHomes.has(guest) ||
      systemHomes.beneath(guest).length > 0
    if (isOfSystem) {
      if (kind !== 'directory') continue
      if (inside.length === 0) draft.keep(volume, tree.shown(guest), 'it belongs to the system or a service')
      await planUnknownOwners(found, draft, entry)
      continue
    }
    const hasMounts = tree.mounts.some(({ point }) => isWithin(point, guest))
    const isCleared = kind === 'directory' && (path.length === 0 || hasMounts || inside.length > 0)
    const keep = inside.map((one) => one.guest)
    await draft.claim({
      operation: 'homes',
      volume,
      // A directory is called like its account; what a file is called is somebody's own matter.
      shown: kind === 'directory' ? tree.shown(guest) : `${tree.shown(home.guest)}/*`,
      how: isCleared ? 'emptied' : 'removed',
      edits: isCleared ? await tree.clearing(entry, keep) : [{ volume, edit: { is: 'remove', path } }],
      ...(kind === 'directory' ? { tree: path } : {}),
    })
  }
}

/**
 * One level deeper, in a directory of root: /home/DOMAIN/user of a directory service, /home/.ecryptfs/user. Only what no account
 * of this system owns, or an ordinary one in a hidden directory, is somebody's home there.
 */
async function planUnknownOwners(
  { system, homes, systemHomes }: Found,
  draft: Draft,
  above: Place,
): Promise<void> {
  const { tree, accounts } = system
  const isHidden = above.guest.at(-1)?.startsWith('.') === true
  const edits: VolumeEdit[] = []
  for (const { kind, volume, path, guest } of await tree.entries(above)) {
    if (kind !== 'directory' || path.length === 0) continue
    const isOther = [homes, systemHomes].some((one) => one.has(guest) || one.beneath(guest).length > 0)
    if (isOther || tree.mounts.some(({ point }) => isWithin(point, guest))) continue
    const uid = (await volume.files.stat(path))?.uid
    if (uid === undefined || uid === 0) continue
    const isSomebodys = isHidden ? accounts.ownerOf(uid) === 'ordinary' : !accounts.isKnown(uid)
    if (isSomebodys) edits.push({ volume, edit: { is: 'remove', path } })
  }
  await draft.claim({
    operation: 'homes',
    volume: above.volume,
    shown: `${tree.shown(above.guest)}/*`,
    how: 'removed',
    edits,
  })
}

/** What was in /home before a volume was mounted over it: nobody sees it any more, and it is still there. */
async function planShadowed({ tree }: LinuxSystem, draft: Draft): Promise<void> {
  for (const { point } of tree.mounts) {
    if (point[0] !== 'home') continue
    if ((await tree.root.files.stat(point))?.kind !== 'directory') continue
    await draft.claim({
      operation: 'homes',
      volume: tree.root,
      shown: tree.shown(point),
      how: 'emptied',
      edits: [{ volume: tree.root, edit: { is: 'empty', path: point } }],
    })
  }
}

/** Faces and settings that the login screen keeps of them. */
async function planAccountsService({ tree, accounts }: LinuxSystem, draft: Draft): Promise<void> {
  for (const name of ['icons', 'users']) {
    const place = await tree.resolveDirectory(`/var/lib/AccountsService/${name}`)
    if (place === undefined) continue
    const gone = (await tree.entries(place)).filter((entry) => accounts.namedFor(entry.name) === 'ordinary')
    await draft.claim({
      operation: 'homes',
      volume: place.volume,
      shown: `${tree.shown(place.guest)}/*`,
      how: 'removed',
      edits: gone.map(({ volume, path }) => ({ volume, edit: { is: 'remove', path } })),
    })
  }
}
