import { describePlace } from '../image/cleaning.ts'
import { type Accounts, readAccounts, readText } from './accounts.ts'
import type { GuestVolume } from './contract.ts'
import type { Draft } from './draft.ts'
import { type FstabEntry, findSource, parseFstab } from './fstab.ts'
import { type Bind, type Mount, Tree } from './tree.ts'

/** A Linux of the machine, with all volumes that it mounts. */
export interface LinuxSystem {
  readonly tree: Tree
  readonly accounts: Accounts
  readonly fstab: readonly FstabEntry[]
}

const EXT = ['ext2', 'ext3', 'ext4', 'auto']
const FAT = ['vfat', 'msdos', 'auto']

/** An ext4 volume with a file /etc/passwd holds a Linux; its /etc/fstab says which others belong to it, and where. */
export async function findLinux(
  volumes: readonly GuestVolume[],
  draft: Draft,
): Promise<readonly LinuxSystem[]> {
  const roots: GuestVolume[] = []
  for (const volume of volumes) {
    if (volume.files.type !== 'ext4') continue
    const passwd = await new Tree(volume).resolve('/etc/passwd')
    if (passwd?.facts.kind === 'file') roots.push(volume)
  }
  const systems: LinuxSystem[] = []
  for (const root of roots) {
    const fstab = parseFstab((await readText(new Tree(root), '/etc/fstab')) ?? '')
    // Two systems of one machine may share a volume, but neither is a part of the other.
    const others = volumes.filter((volume) => !roots.includes(volume))
    const mounts = findMounts(fstab, others, draft)
    const binds = fstab.filter(({ isBind }) => isBind).map(toBind)
    const tree = new Tree(root, mounts, binds)
    draft.mountPoints[root.index] ??= '/'
    for (const { volume, point } of mounts) draft.mountPoints[volume.index] ??= tree.shown(point)
    systems.push({ tree, accounts: await readAccounts(tree), fstab })
  }
  if (systems.length > 0) {
    const lost = volumes.filter(
      ({ files, index }) => files.type === 'ext4' && draft.mountPoints[index] === undefined,
    )
    for (const volume of lost) {
      const where = describePlace(volume)
      draft.warn(`${where}: No system of the machine mounts it. No rule applies, its files stay.`)
    }
  }
  return systems
}

function toBind({ source, point }: FstabEntry): Bind {
  return { point, target: source.split('/').filter((name) => name !== '' && name !== '.') }
}

function findMounts(
  fstab: readonly FstabEntry[],
  volumes: readonly GuestVolume[],
  draft: Draft,
): readonly Mount[] {
  const mounts: Mount[] = []
  const unknown: FstabEntry[] = []
  for (const entry of fstab) {
    const isFiles = EXT.includes(entry.type) || FAT.includes(entry.type)
    if (!isFiles || entry.isBind || entry.point.length === 0) continue
    const volume = findSource(entry.source, volumes)
    if (volume === 'unknown') unknown.push(entry)
    else if (volume !== undefined && !mounts.some((mount) => mount.volume === volume)) {
      mounts.push({ point: entry.point, volume })
    }
  }
  for (const [type, names] of [
    ['ext4', EXT],
    ['vfat', FAT],
  ] as const) {
    const lost = unknown.filter((entry) => names.includes(entry.type))
    const free = volumes.filter(
      ({ files, index }) => files.type === type && !mounts.some((one) => one.volume.index === index),
    )
    const [entry, volume] = [lost[0], free[0]]
    // One line and one volume are left over: they belong together.
    if (lost.length === 1 && free.length === 1 && entry && volume) mounts.push({ point: entry.point, volume })
    else if (lost.length > 0 && free.length > 0) {
      draft.warn(
        `/etc/fstab names ${lost.length} ${type} partitions in a way that their content does not tell (PARTUUID or the like): what is on them stays. Name them by UUID to have them cleaned.`,
      )
    }
  }
  return mounts
}
