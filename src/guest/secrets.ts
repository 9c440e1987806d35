import type { GuestVolume } from './contract.ts'
import type { Draft } from './draft.ts'
import type { LinuxSystem } from './linux.ts'
import { foldName } from './names.ts'
import { findSecretKinds } from './secret-kinds.ts'
import { type Place, Tree } from './tree.ts'
import type { WindowsSystem } from './windows.ts'

interface Start {
  readonly tree: Tree
  readonly place: Place
  /** How many directories down; 0 is what is directly in it. */
  readonly depthMax: number
}

const FILE_COUNT_MAX = 20_000
const DIRECTORY_COUNT_MAX = 20_000
const FILE_BYTES_MAX = 256 << 10
const READ_BYTES_MAX = 64 << 20
const SECRET_COUNT_MAX = 1000
const DEPTH_MAX = 12

/** Where administrators and programs put them; the likelier first, for the search has an end. */
const LINUX_STARTS: readonly (readonly [string, number])[] = [
  ['/root', DEPTH_MAX],
  ['/etc', DEPTH_MAX],
  ['/home', DEPTH_MAX],
  ['/var/www', DEPTH_MAX],
  ['/srv', DEPTH_MAX],
  ['/opt', DEPTH_MAX],
  ['/usr/local', DEPTH_MAX],
  ['/var/lib', 2],
]
const WINDOWS_STARTS: readonly (readonly [readonly string[], number])[] = [
  [[], 0],
  [['Users'], DEPTH_MAX],
  [['Windows', 'Panther'], 2],
  [['Windows', 'System32', 'Sysprep'], 2],
  [['inetpub'], DEPTH_MAX],
  [['ProgramData'], 3],
]
/** A data disk: its first levels. */
const DATA_DEPTH = 4

const NEVER_TEXT =
  /\.(so|dll|exe|sys|mui|cat|png|jpe?g|gif|ico|webp|svg|woff2?|ttf|otf|gz|xz|bz2|zst|zip|jar|deb|rpm|cab|msi|mo|pyc|a|o|wasm|map|css|html?|mp[34]|pdf|evtx|etl|pf|dat|db|sqlite)$/
const PLACES = new Set([
  'proc',
  'sys',
  'dev',
  'run',
  'lost+found',
  'node_modules',
  'site-packages',
  'dist-packages',
])

/**
 * Looks for private keys and tokens in what is kept, after `draft` is settled: at well-known places, broad before deep, and not
 * without end. It is told where they are and of what kind, never what they are. A file of several kinds is told several times.
 */
export async function scanSecrets(
  volumes: readonly GuestVolume[],
  windows: readonly WindowsSystem[],
  linux: readonly LinuxSystem[],
  draft: Draft,
): Promise<void> {
  const scan = new Scan(draft)
  for (const { tree } of linux) {
    for (const [at, depthMax] of LINUX_STARTS) {
      const place = await tree.resolveDirectory(at)
      if (place !== undefined) await scan.walk({ tree, place, depthMax })
    }
  }
  for (const { volume } of windows) {
    const tree = new Tree(volume)
    for (const [path, depthMax] of WINDOWS_STARTS) {
      await scan.walk({ tree, place: { guest: path, volume, path }, depthMax })
    }
  }
  const systemRoots = [...windows.map(({ volume }) => volume), ...linux.map(({ tree }) => tree.root)]
  for (const volume of volumes) {
    if (systemRoots.includes(volume) || volume.files.type === 'vfat') continue
    const owner = linux.find(({ tree }) => tree.mounts.some((mount) => mount.volume === volume))?.tree
    const point = owner?.mounts.find((mount) => mount.volume === volume)?.point ?? []
    const place = { guest: point, volume, path: [] }
    await scan.walk({ tree: owner ?? new Tree(volume), place, depthMax: DATA_DEPTH })
  }
  if (scan.isCut) {
    draft.warn(
      'The search for secrets ended at its limit (20 000 files, 64 MiB): what it did not look at may hold some.',
    )
  }
}

class Scan {
  isCut = false
  readonly #draft: Draft
  readonly #seen = new Set<string>()
  #fileCount = 0
  #directoryCount = 0
  #readBytes = 0

  constructor(draft: Draft) {
    this.#draft = draft
  }

  async walk({ tree, place, depthMax }: Start): Promise<void> {
    let level: readonly Place[] = [place]
    for (let depth = 0; depth <= depthMax && level.length > 0; depth += 1) {
      const next: Place[] = []
      for (const directory of level) {
        if (this.#isSpent()) return
        // Starts may lie in one another, through mounts and links.
        const key = `${directory.volume.index}/${directory.path.join('\0')}`
        if (this.#seen.has(key) || this.#isGone(directory)) continue
        this.#seen.add(key)
        this.#directoryCount += 1
        for (const entry of await tree.entries(directory)) {
          if (this.#isSpent()) return
          const name = foldName(entry.name)
          if (entry.kind === 'directory' && !PLACES.has(name)) next.push(entry)
          else if (entry.kind === 'file' && !NEVER_TEXT.test(name)) await this.#look(tree, entry)
          // One directory may have more in it than we can hold for later.
          if (next.length > DIRECTORY_COUNT_MAX) break
        }
      }
      level = next
    }
  }

  async #look(tree: Tree, { volume, path, guest }: Place): Promise<void> {
    if (this.#isGone({ volume, path, guest })) return
    this.#fileCount += 1
    const facts = await volume.files.stat(path)
    if (facts?.kind !== 'file' || facts.sizeBytes === 0 || facts.sizeBytes > FILE_BYTES_MAX) return
    const bytes = await volume.files.read(path, FILE_BYTES_MAX)
    if (bytes === undefined) return
    this.#readBytes += bytes.length
    for (const kind of findSecretKinds(`/${guest.join('/')}`, bytes)) {
      this.#draft.secrets.push({ volume: volume.index, path: tree.shown(guest), kind })
    }
  }

  #isGone({ volume, path }: Place): boolean {
    return this.#draft.isTaken(volume.index, path)
  }

  #isSpent(): boolean {
    this.isCut ||=
      this.#fileCount >= FILE_COUNT_MAX ||
      this.#directoryCount >= DIRECTORY_COUNT_MAX ||
      this.#readBytes >= READ_BYTES_MAX ||
      this.#draft.secrets.length >= SECRET_COUNT_MAX
    return this.isCut
  }
}
