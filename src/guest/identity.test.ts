import assert from 'node:assert/strict'
import { test } from 'node:test'
import { guestVolumes, link, MemoryFiles, type MemoryTree } from './memory-files.fixture.ts'
import { editsOf, planFor, shownOf } from './plan.fixture.ts'

function linux(tree: MemoryTree = {}, etc: MemoryTree = {}): MemoryFiles {
  return new MemoryFiles({ etc: { passwd: 'root:x:0:0::/root:/bin/sh', ...etc }, ...tree })
}

test('identity: each at its place, and nothing that only looks like it', async () => {
  const lib = {
    systemd: { 'random-seed': 'r', coredump: { c: 'c' } },
    dbus: { 'machine-id': 'id' },
    dhcp: { 'dhclient.leases': 'l' },
    NetworkManager: {
      'internal-1-eth0.lease': 'l',
      secret_key: 'k',
      timestamps: 't',
      'NetworkManager-intern.conf': 'c',
    },
    cloud: { seed: { nocloud: 's' }, instances: { i: 'i' }, instance: link('instances/i') },
    rhsm: { f: 'f' },
  }
  const tree: MemoryTree = {
    root: {
      '.bash_history': 'ls',
      '.zsh_history': link('/dev/null'),
      '.bashrc': 'x',
      '.viminfo': 'v',
      '.lesshst': { is: 'directory', in: { x: 'x' } },
    },
    dev: { null: { is: 'other' } },
    var: {
      lib,
      crash: {},
      cache: {
        apt: { archives: { 'a.deb': 'd', lock: '', partial: { p: 'p' } }, 'pkgcache.bin': 'b' },
        dnf: { x: { y: 'y' } },
      },
    },
  }
  const etc = {
    'machine-id': '0123\n',
    'passwd-': 'p',
    'shadow-': 's',
    udev: { 'rules.d': { '70-persistent-net.rules': 'r', '99-mine.rules': 'r' } },
    pki: { consumer: { 'key.pem': 'k' } },
  }
  const volumes = guestVolumes(linux(tree, etc))
  const expected = {
    'machine-id': ['empty etc/machine-id', 'remove var/lib/dbus/machine-id'],
    'random-seed': ['remove var/lib/systemd/random-seed'],
    'dhcp-leases': [
      'empty var/lib/dhcp',
      'remove var/lib/NetworkManager/internal-1-eth0.lease',
      'remove var/lib/NetworkManager/secret_key',
    ],
    'network-names': [
      'remove etc/udev/rules.d/70-persistent-net.rules',
      'remove var/lib/NetworkManager/timestamps',
    ],
    'cloud-init': ['remove var/lib/cloud/instances', 'remove var/lib/cloud/instance'],
    histories: ['remove root/.bash_history', 'remove root/.viminfo'],
    'crash-dumps': ['empty var/lib/systemd/coredump'],
    'password-backups': ['remove etc/passwd-', 'remove etc/shadow-'],
    'package-caches': [
      'remove var/cache/apt/archives/a.deb',
      'empty var/cache/apt/archives/partial',
      'remove var/cache/apt/pkgcache.bin',
      'empty var/cache/dnf',
    ],
    subscriptions: ['empty etc/pki/consumer', 'empty var/lib/rhsm'],
  } as const
  for (const [operation, edits] of Object.entries(expected)) {
    const plan = await planFor(volumes, [operation as keyof typeof expected])
    assert.deepEqual(editsOf(plan), edits, operation)
  }
  const empty = guestVolumes(
    linux({ var: { lib: { dbus: { 'machine-id': link('/etc/machine-id') } } } }, { 'machine-id': '' }),
  )
  assert.deepEqual(editsOf(await planFor(empty, ['machine-id'])), [])
})

test('logs are emptied, old ones go, and logins are their own operation', async () => {
  const log: MemoryTree = {
    syslog: 'x',
    'syslog.1': 'x',
    'dpkg.log.2.gz': 'x',
    'messages-20240101': 'x',
    'boot.log-20240101.xz': 'x',
    empty: '',
    wtmp: 'w',
    'btmp.1': 'b',
    lastlog: 'l',
    journal: { id: { 'system.journal': 'j' } },
    nginx: { 'access.log': 'a', 'access.log.1': 'a', deeper: { 'x.log': 'x' } },
    socket: { is: 'other' },
    current: link('syslog'),
  }
  const volumes = guestVolumes(linux({ var: { log } }))
  const logs = await planFor(volumes, ['logs'])
  assert.deepEqual(editsOf(logs).toSorted(), [
    'empty var/log/journal',
    'empty var/log/nginx/access.log',
    'empty var/log/nginx/deeper/x.log',
    'empty var/log/syslog',
    'remove var/log/boot.log-20240101.xz',
    'remove var/log/dpkg.log.2.gz',
    'remove var/log/messages-20240101',
    'remove var/log/nginx/access.log.1',
    'remove var/log/syslog.1',
  ])
  assert.deepEqual(shownOf(logs), ['emptied /var/log'])
  assert.equal(logs.removed[0]?.fileCount, 9)
  assert.deepEqual(editsOf(await planFor(volumes, ['logins'])), [
    'empty var/log/wtmp',
    'remove var/log/btmp.1',
    'empty var/log/lastlog',
  ])
  assert.equal((await planFor(volumes)).edits.length, 12)
})

test('host keys go, and the system gets new ones at its next start', async () => {
  const ssh = { ssh_host_rsa_key: 'k', 'ssh_host_rsa_key.pub': 'p', sshd_config: 'c', ssh_known_hosts: 'h' }
  const usr = { bin: { 'ssh-keygen': 'elf' }, lib: { systemd: { system: {} } } }
  const plan = await planFor(guestVolumes(linux({ usr }, { ssh })), ['ssh-host-keys'])
  const unit = 'etc/systemd/system/calotype-host-keys.service'
  const want = 'etc/systemd/system/multi-user.target.wants/calotype-host-keys.service'
  assert.deepEqual(editsOf(plan), [
    'remove etc/ssh/ssh_host_rsa_key',
    'remove etc/ssh/ssh_host_rsa_key.pub',
    `write ${unit}`,
    `link ${want}`,
  ])
  const written = plan.edits.map(({ edit }) => edit).find((edit) => edit.is === 'write')
  assert.match(written?.content ?? '', /^Before=.*ssh\.socket.*sshd\.service/m)
  assert.match(written?.content ?? '', /^ConditionPathExistsGlob=!\/etc\/ssh\/ssh_host_\*_key$/m)
  assert(shownOf(plan).includes(`written /${unit}`))

  const old = await planFor(guestVolumes(linux({}, { ssh })), ['ssh-host-keys'])
  assert.equal(old.edits.length, 2)
  assert.match(old.warnings.join(), /ssh-keygen -A/)

  const own = { ...usr, lib: { systemd: { system: { 'sshd-keygen@.service': 'u' } } } }
  const red = await planFor(guestVolumes(linux({ usr: own }, { ssh })), ['ssh-host-keys'])
  assert.equal(red.edits.length, 2)
  assert.deepEqual(red.warnings, ["Linux was found, and 'homes' is not chosen: what its users have stays."])

  const again = await planFor(guestVolumes(linux({ usr }, { ssh: { sshd_config: 'c' } })), ['ssh-host-keys'])
  assert.equal(again.edits.length, 0)
})
