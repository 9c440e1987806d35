import type { CleaningOperation } from '../image/cleaning.ts'
import type { GuestVolume } from './contract.ts'
import type { Draft, VolumeEdit } from './draft.ts'
import type { LinuxSystem } from './linux.ts'
import { shownPath } from './names.ts'
import type { Tree } from './tree.ts'

interface Target {
  /** A path of the guest; its links are followed. */
  readonly at: string
  /** Of what is directly in that directory, these alone; what is a directory goes whole. */
  readonly names?: RegExp
  /** How `names` is told. */
  readonly shown?: string
  readonly is: 'remove' | 'empty'
  /** What stays in a directory that is emptied. */
  readonly keep?: string
}

const HISTORIES = [
  'ash',
  'bash',
  'zsh',
  'sh',
  'python',
  'mysql',
  'mariadb',
  'psql',
  'node_repl',
  'sqlite',
  'rediscli',
  'dbshell',
  'irb',
  'R',
].map((name) => `.${name}_history`)
const OTHER_HISTORIES = [
  '.histfile',
  '.lesshst',
  '.viminfo',
  '.wget-hsts',
  '.local/share/recently-used.xbel',
  '.recently-used',
  '.local/share/fish/fish_history',
  '.local/state/python_history',
  '.local/share/nano/search_history',
]

/** Everything that is at a fixed place, and takes nothing but that it goes. */
const TARGETS = {
  'temporary-files': [
    { at: '/tmp', is: 'empty' },
    { at: '/var/tmp', is: 'empty' },
  ],
  'machine-id': [
    // Empty, not gone: systemd makes a new one, and does not take the start for a system's very first.
    { at: '/etc/machine-id', is: 'empty' },
    { at: '/var/lib/dbus', names: /^machine-id$/, is: 'remove' },
  ],
  'random-seed': [
    { at: '/var/lib/systemd/random-seed', is: 'remove' },
    { at: '/var/lib/random-seed', is: 'remove' },
    { at: '/var/lib/urandom/random-seed', is: 'remove' },
    { at: '/var/lib/seedrng/seed.credit', is: 'remove' },
    { at: '/var/lib/seedrng/seed.no-credit', is: 'remove' },
  ],
  'dhcp-leases': [
    { at: '/var/lib/dhcp', is: 'empty' },
    { at: '/var/lib/dhclient', is: 'empty' },
    { at: '/var/lib/dhcpcd', is: 'empty' },
    { at: '/etc/dhcpcd.duid', is: 'remove' },
    { at: '/etc/dhcpcd.secret', is: 'remove' },
    {
      at: '/var/lib/NetworkManager',
      names: /\.leases?$|^secret_key$|^dhclient[^/]*\.conf$/,
      shown: '*.lease',
      is: 'remove',
    },
  ],
  'network-names': [
    {
      at: '/etc/udev/rules.d',
      names: /^7[05]-persistent-(net|cd)\.rules$/,
      shown: '*-persistent-*.rules',
      is: 'remove',
    },
    { at: '/var/lib/NetworkManager/timestamps', is: 'remove' },
    { at: '/var/lib/NetworkManager/seen-bssids', is: 'remove' },
    { at: '/var/lib/NetworkManager/NetworkManager.state', is: 'remove' },
  ],
  'cloud-init': [{ at: '/var/lib/cloud', is: 'empty', keep: 'seed' }],
  histories: [...HISTORIES, ...OTHER_HISTORIES].map((name) => ({ at: `/root/${name}`, is: 'remove' })),
  'crash-dumps': [
    { at: '/var/crash', is: 'empty' },
    { at: '/var/lib/systemd/coredump', is: 'empty' },
    { at: '/var/lib/apport/coredump', is: 'empty' },
    { at: '/var/spool/abrt', is: 'empty' },
  ],
  'password-backups': ['passwd', 'shadow', 'group', 'gshadow', 'subuid', 'subgid'].map((name) => ({
    at: `/etc/${name}-`,
    is: 'remove',
  })),
  'package-caches': [
    { at: '/var/cache/apt/archives', names: /\.deb$/, shown: '*.deb', is: 'remove' },
    { at: '/var/cache/apt/archives/partial', is: 'empty' },
    { at: '/var/cache/apt', names: /^(src)?pkgcache\.bin$/, shown: '*.bin', is: 'remove' },
    { at: '/var/cache/dnf', is: 'empty' },
    { at: '/var/cache/libdnf5', is: 'empty' },
    { at: '/var/cache/yum', is: 'empty' },
    { at: '/var/cache/zypp', is: 'empty' },
    { at: '/var/cache/pacman/pkg', is: 'empty' },
    { at: '/var/cache/apk', is: 'empty' },
  ],
  subscriptions: [
    { at: '/etc/pki/consumer', is: 'empty' },
    { at: '/etc/pki/entitlement', is: 'empty' },
    { at: '/var/lib/rhsm', is: 'empty' },
    { at: '/etc/sysconfig/rhn/systemid', is: 'remove' },
    { at: '/etc/insights-client/machine-id', is: 'remove' },
    { at: '/var/lib/ubuntu-advantage/private', is: 'empty' },
  ],
} as const satisfies Partial<Record<CleaningOperation, readonly Target[]>>

export type FixedOperation = keyof typeof TARGETS

export async function planFixed(
  operation: FixedOperation,
  { tree }: LinuxSystem,
  draft: Draft,
): Promise<void> {
  for (const target of TARGETS[operation] as readonly Target[])
    await planTarget(operation, target, tree, draft)
}

async function planTarget(
  operation: FixedOperation,
  target: Target,
  tree: Tree,
  draft: Draft,
): Promise<void> {
  const place = await tree.resolve(target.at)
  if (place === undefined) return
  const { volume, path, guest, facts } = place
  const { names, is } = target
  const how = is === 'remove' ? 'removed' : 'emptied'
  let edits: readonly VolumeEdit[] = []
  let shown = tree.shown(guest)
  if (names !== undefined) {
    const found = (await tree.entries(place)).filter(({ name, kind }) => names.test(name) && kind === 'file')
    edits = found.map((entry) => ({ volume: entry.volume, edit: { is, path: entry.path } }))
    const [only] = found
    if (only !== undefined) shown = target.shown ? `${shown}/${target.shown}` : tree.shown(only.guest)
  } else if (facts.kind === 'directory' && is === 'empty') {
    edits = await tree.clearing(place, target.keep === undefined ? [] : [[...guest, target.keep]])
  } else if (facts.kind === 'file') {
    edits = [{ volume, edit: { is, path } }]
  }
  // A history that leads to /dev/null, or a directory where a file is meant: nothing of anybody's.
  await draft.claim({ operation, volume, shown, how, edits })
}

/** systemd-boot's own, on the volume that the firmware reads. */
export async function planBootSeeds(volumes: readonly GuestVolume[], draft: Draft): Promise<void> {
  for (const volume of volumes) {
    const path = ['loader', 'random-seed']
    if (volume.files.type !== 'vfat' || (await volume.files.stat(path))?.kind !== 'file') continue
    const point = draft.mountPoints[volume.index] ?? ''
    await draft.claim({
      operation: 'random-seed',
      volume,
      shown: `${point === '/' ? '' : point}${shownPath(volume.files, path)}`,
      how: 'removed',
      edits: [{ volume, edit: { is: 'remove', path } }],
    })
  }
}
