import type { Draft, VolumeEdit } from './draft.ts'
import type { LinuxSystem } from './linux.ts'
import type { Place, Tree } from './tree.ts'

const UNIT_NAME = 'calotype-host-keys.service'
const UNITS = '/etc/systemd/system'

/**
 * Makes host keys before anything of SSH starts. Without default dependencies, because those would put it after the sockets,
 * and with a socket the daemon starts at the first connection.
 * Source: systemd.unit(5), systemd.special(7); `ssh-keygen -A` of ssh-keygen(1).
 */
const UNIT = `[Unit]
Description=Make SSH host keys of this machine's own
Documentation=man:ssh-keygen(1)
DefaultDependencies=no
RequiresMountsFor=/etc/ssh /usr
After=local-fs.target systemd-remount-fs.service systemd-random-seed.service
Before=ssh.socket sshd.socket ssh.service sshd.service sshd-keygen.service sshd-keygen.target shutdown.target
Conflicts=shutdown.target
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
`

/** Units of distributions that make keys at every start where none are. */
const OWN_UNITS = ['sshd-keygen@.service', 'sshdgenkeys.service']

/** They go, and a system that would not make new ones by itself gets a unit that does. */
export async function planHostKeys({ tree }: LinuxSystem, draft: Draft): Promise<void> {
  const keys = await matching(tree, '/etc/ssh', /^ssh_host_[a-z0-9_-]{1,40}_key(\.pub|-cert\.pub)?$/)
  for (const key of keys) {
    await draft.claim({
      operation: 'ssh-host-keys',
      volume: key.volume,
      shown: tree.shown(key.guest),
      how: 'removed',
      edits: [{ volume: key.volume, edit: { is: 'remove', path: key.path } }],
    })
  }
  if (keys.length > 0) await planFreshKeys(tree, draft)
  const dropbear = await matching(tree, '/etc/dropbear', /^[a-z0-9_]{1,40}_host_key(\.pub)?$/)
  for (const { volume, guest, path } of dropbear) {
    const edits: VolumeEdit[] = [{ volume, edit: { is: 'remove', path } }]
    await draft.claim({ operation: 'ssh-host-keys', volume, shown: tree.shown(guest), how: 'removed', edits })
  }
  if (dropbear.length > 0) {
    draft.warn(
      'Dropbear makes new host keys only if it is started with -R; see to it before machines are launched.',
    )
  }
}

async function planFreshKeys(tree: Tree, draft: Draft): Promise<void> {
  for (const own of OWN_UNITS) {
    for (const folder of ['/usr/lib/systemd/system', '/lib/systemd/system', UNITS]) {
      if ((await tree.resolve(`${folder}/${own}`)) !== undefined) return
    }
  }
  const hasSystemd =
    (await tree.resolveDirectory('/usr/lib/systemd/system')) !== undefined ||
    (await tree.resolveDirectory('/lib/systemd/system')) !== undefined
  const hasKeygen = (await tree.resolve('/usr/bin/ssh-keygen'))?.facts.kind === 'file'
  const units = await placeForNew(tree, UNITS)
  if (!hasSystemd || !hasKeygen || units?.volume.files.type !== 'ext4') {
    draft.warn(
      'Nothing in the system makes new SSH host keys: run ssh-keygen -A in every machine that is launched.',
    )
    return
  }
  const wants = await placeForNew(tree, `${UNITS}/multi-user.target.wants`)
  if (wants?.volume.files.type !== 'ext4') return
  await draft.claim({
    operation: 'ssh-host-keys',
    volume: units.volume,
    shown: tree.shown([...units.guest, UNIT_NAME]),
    how: 'written',
    edits: [
      {
        volume: units.volume,
        edit: { is: 'write', path: [...units.path, UNIT_NAME], content: UNIT, mode: 0o644 },
      },
      {
        volume: wants.volume,
        edit: { is: 'link', path: [...wants.path, UNIT_NAME], target: `${UNITS}/${UNIT_NAME}` },
      },
    ],
  })
}

/** A directory that is there, or the place where it would be made. */
async function placeForNew(tree: Tree, text: string): Promise<Place | undefined> {
  const place = await tree.resolve(text)
  if (place !== undefined) return place.facts.kind === 'directory' ? place : undefined
  const at = text.lastIndexOf('/')
  const above = at < 0 ? undefined : await placeForNew(tree, text.slice(0, at))
  if (above === undefined) return undefined
  const name = text.slice(at + 1)
  // A link that leads nowhere is no place for a directory.
  if ((await above.volume.files.stat([...above.path, name])) !== undefined) return undefined
  return tree.locate([...above.guest, name])
}

async function matching(tree: Tree, folder: string, names: RegExp): Promise<readonly Place[]> {
  const place = await tree.resolveDirectory(folder)
  if (place === undefined) return []
  return (await tree.entries(place)).filter(({ name, kind }) => kind === 'file' && names.test(name))
}
