import assert from 'node:assert/strict'
import { test } from 'node:test'
import { guestVolumes, link, MemoryFiles, type MemoryTree, owned } from './memory-files.fixture.ts'
import { editsOf, planFor, shownOf } from './plan.fixture.ts'

const PASSWD = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
www-data:x:33:33::/var/www:/usr/sbin/nologin
runner:x:998:998::/home/runner:/bin/sh
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash
bob:x:1001:1001::/home/bob:/bin/bash
site:x:1002:1002::/var/www:/bin/bash
top:x:1003:1003::/data:/bin/bash
etcetera:x:1004:1004::/etc/x:/bin/bash
relative:x:1005:1005:home:home:/bin/bash
broken line
+::::::
`

function linux(tree: MemoryTree = {}, etc: MemoryTree = {}, passwd = PASSWD): MemoryFiles {
  return new MemoryFiles({ etc: { passwd, x: { y: 'y' }, ...etc }, ...tree }, { uuid: 'root-uuid' })
}

test('homes of ordinary users are emptied, and what has no account in /home goes', async () => {
  const files = linux({
    home: {
      alice: owned(1000, { '.ssh': { id_ed25519: 'key' }, 'private diary': '12', Documents: { a: '1' } }),
      bob: owned(1001, {}),
      runner: owned(998, { work: 'x' }),
      carol: owned(1234, { old: 'x' }),
      directory: owned(4_000_000, { x: 'x' }),
      shared: owned(0, { 'by alice': owned(1000, {}) }),
      EXAMPLE: owned(0, { dave: owned(70_001, { x: 'x' }), tools: owned(0, { t: 't' }) }),
      '.ecryptfs': owned(0, { alice: owned(1000, { x: 'x' }) }),
      'lost+found': owned(0, {}),
      stale: link('/data/gone', 1000),
      'carol.tar': { is: 'file', uid: 1234, content: 'x' },
      'quota.user': { is: 'file', uid: 0, content: 'x' },
    },
    data: { y: 'y' },
    var: {
      www: { html: { i: 'i' } },
      lib: { AccountsService: { icons: { alice: 'png', root: 'x' }, users: { bob: 'x', runner: 'x' } } },
    },
  })
  const plan = await planFor(guestVolumes(files), ['homes'])
  assert.deepEqual(editsOf(plan), [
    'empty home/alice',
    'remove home/carol',
    'remove home/directory',
    'remove home/EXAMPLE/dave',
    'remove home/.ecryptfs/alice',
    'remove home/stale',
    'remove home/carol.tar',
    'remove var/lib/AccountsService/icons/alice',
    'remove var/lib/AccountsService/users/bob',
  ])
  assert.deepEqual(plan.kept.map(({ path }) => path).sort(), [
    '/data',
    '/etc/x',
    '/home/.ecryptfs',
    '/home/EXAMPLE',
    '/home/runner',
    '/home/shared',
    '/var/www',
  ])
  assert.deepEqual(plan.removed[0], {
    operation: 'homes',
    volume: 0,
    path: '/home/alice',
    how: 'emptied',
    fileCount: 3,
    directoryCount: 2,
    bytes: 6,
    parts: [
      { name: '.ssh', fileCount: 1, bytes: 3 },
      { name: 'Documents', fileCount: 1, bytes: 1 },
      { name: 'other', fileCount: 1, bytes: 2 },
    ],
  })
  assert.doesNotMatch(JSON.stringify([plan.removed, plan.kept]), /diary|dave|by alice|stale|tar/)
})

test('who is ordinary is told by login.defs, and nonsense in it is not believed', async () => {
  const home = { alice: owned(600, { a: 'a' }) }
  const passwd = 'root:x:0:0::/root:/bin/sh\nalice:x:600:600::/home/alice:/bin/sh\n'
  const counts: readonly [string, number][] = [
    ['', 0],
    ['#UID_MIN 500\nUID_MIN\t\t  500 # low\nUID_MAX 60000', 1],
    ['UID_MIN 0', 1],
    ['UID_MIN 500\nUID_MAX 5', 0],
  ]
  for (const [defs, count] of counts) {
    const plan = await planFor(guestVolumes(linux({ home }, { 'login.defs': defs }, passwd)), ['homes'])
    assert.equal(plan.edits.length, count, defs)
  }
  const root = linux({ root: { a: 'a' } }, { 'login.defs': 'UID_MIN 0' }, 'root:x:0:0::/root:/bin/sh\n')
  assert.equal((await planFor(guestVolumes(root), ['homes'])).edits.length, 0)
})

test('paths lead through links of the system, and a circle leads nowhere', async () => {
  const files = linux({
    home: link('data/../data/home'),
    data: {
      home: {
        alice: link('/srv/people/alice'),
        bob: link('bob'),
      },
    },
    srv: { people: { alice: owned(1000, { a: 'a' }) } },
    var: { mail: link('spool/mail'), spool: { mail: { alice: 'm', root: 'm' } }, tmp: link('/tmp') },
    tmp: { t: 't' },
  })
  const plan = await planFor(guestVolumes(files), ['homes', 'mail', 'temporary-files'])
  assert.deepEqual(editsOf(plan), [
    'empty srv/people/alice',
    'remove var/spool/mail/alice',
    'remove var/spool/mail/root',
    'empty tmp',
  ])
})

test('fstab says which volume is where, and what is mounted in a home is emptied too', async () => {
  const fstab = `# /etc/fstab
UUID=ROOT-uuid / ext4 errors=remount-ro 0 1
UUID="home-uuid"	/home	ext4	defaults	0 2
LABEL=my\\040data /home/alice/data ext4 defaults 0 2
/dev/vdb1 /var/log ext4 defaults 0 0
PARTUUID=1-2 /boot/efi vfat umask=0077 0 1
/dev/sda9 /absent ext4 defaults 0 0
tmpfs /tmp tmpfs defaults 0 0
`
  const volumes = guestVolumes(
    linux({ home: { left: owned(1000, { x: 'x' }) }, var: { log: {} } }, { fstab }),
    new MemoryFiles({ alice: owned(1000, { data: {}, mine: 'm' }), 'lost+found': {} }, { uuid: 'home-uuid' }),
    new MemoryFiles({ d: 'd', 'lost+found': {} }, { label: 'my data' }),
    new MemoryFiles({ loader: { 'random-seed': 'r' } }, { type: 'vfat', uuid: 'AAAA-BBBB' }),
    { diskIndex: 1, files: new MemoryFiles({ syslog: 'l', 'lost+found': {} }) },
    { diskIndex: 2, files: new MemoryFiles({ a: 'a' }) },
  )
  const plan = await planFor(volumes, ['homes', 'logs', 'random-seed'])
  assert.deepEqual(plan.mountPoints, {
    0: '/',
    1: '/home',
    2: '/home/alice/data',
    3: '/boot/efi',
    4: '/var/log',
  })
  assert.deepEqual(editsOf(plan, 0), ['empty home'])
  assert.deepEqual(editsOf(plan, 1), ['remove alice/mine'])
  assert.deepEqual(editsOf(plan, 2), ['remove d'])
  assert.deepEqual(editsOf(plan, 3), ['remove loader/random-seed'])
  assert.deepEqual(editsOf(plan, 4), ['empty syslog'])
  assert.deepEqual(editsOf(plan, 5), [])
  assert.match(plan.warnings.join(), /Disk 2, partition 1: No system of the machine mounts it/)
  assert(shownOf(plan).includes('removed /boot/efi/loader/random-seed'))
})

test('a table that does not tell its partitions apart is told', async () => {
  const fstab = 'PARTUUID=1 /home ext4 rw 0 0\nPARTUUID=2 /srv ext4 rw 0 0\n/data /home/bob none bind 0 0\n'
  const plan = await planFor(
    guestVolumes(
      linux({ data: { b: 'b' }, home: { bob: {} } }, { fstab }),
      new MemoryFiles({}),
      new MemoryFiles({}),
    ),
    ['homes'],
  )
  assert.match(plan.warnings.join(), /names 2 ext4 partitions/)
  // Its home is where the folder is shown, and that is kept: it is no home of its own.
  assert.deepEqual(editsOf(plan), [])
})

test('the home of a service in that of a user stays', async () => {
  const passwd = `root:x:0:0::/root:/bin/sh
alice:x:1000:1000::/home/alice:/bin/sh
git:x:112:112::/home/alice/apps/git:/bin/sh
both:x:113:113::/home/both:/bin/sh
bob:x:1001:1001::/home/both:/bin/sh
`
  const home = {
    alice: owned(1000, { apps: { git: { repo: 'r' }, mine: 'm' }, own: 'o' }),
    both: owned(1001, { b: 'b' }),
  }
  const plan = await planFor(guestVolumes(linux({ home }, {}, passwd)), ['homes'])
  assert.deepEqual(editsOf(plan), ['remove home/alice/apps/mine', 'remove home/alice/own'])
  assert.deepEqual(plan.kept.map(({ path }) => path).sort(), ['/home/alice/apps/git', '/home/both'])
})

test('cron tables of users go, those of the system and root stay; jobs of all go', async () => {
  const spool = {
    cron: {
      crontabs: { alice: 'x', root: 'x', carol: 'x', '.placeholder': '' },
      atjobs: { '.SEQ': '1', a0001: 'x' },
      bob: 'x',
    },
    at: { '.SEQ': '1', a0002: 'x', spool: { out: 'o' } },
  }
  const plan = await planFor(guestVolumes(linux({ var: { spool } })), ['cron'])
  const at = 'remove var/spool'
  assert.deepEqual(editsOf(plan), [
    `${at}/cron/crontabs/alice`,
    `${at}/cron/crontabs/carol`,
    `${at}/cron/bob`,
    `${at}/cron/atjobs/a0001`,
    `${at}/at/a0002`,
    `${at}/at/spool/out`,
  ])
  assert.deepEqual(
    plan.kept.map(({ path }) => path),
    ['/var/spool/cron/crontabs/root'],
  )
  assert(shownOf(plan).includes('removed /var/spool/at/*'))
})

test('swap files keep their first page, and only if they are ones', async () => {
  const page = (mark: string, pageBytes = 4096) => {
    const bytes = Buffer.alloc(70_000, 1)
    bytes.write(mark, pageBytes - 10, 'latin1')
    return bytes
  }
  const fstab = '/swapfile none swap sw 0 0\n/data/notes none swap sw 0 0\n/dev/vda3 none swap sw 0 0\n'
  const tree = {
    swapfile: page('SWAPSPACE2'),
    'swap.img': page('SWAPSPACE2', 65_536),
    data: { notes: 'text' },
    swap: 'no',
  }
  const plan = await planFor(guestVolumes(linux(tree, { fstab })), ['swap'])
  assert.deepEqual(
    plan.edits.map(({ edit }) => edit),
    [
      { is: 'blank', path: ['swapfile'], keepBytes: 4096 },
      { is: 'blank', path: ['swap.img'], keepBytes: 65_536 },
    ],
  )
  assert.deepEqual(
    plan.kept.map(({ path }) => path),
    ['/data/notes'],
  )
  const asleep = guestVolumes(linux({ swapfile: page('S1SUSPEND\0') }, { fstab }))
  assert.match((await planFor(asleep, ['swap'])).refusals[0]?.message ?? '', /hibernated/)
  assert.match((await planFor(asleep, ['swap'], true)).warnings.join(), /hibernated/)
})

test('two operations never claim one place', async () => {
  const passwd = `root:x:0:0::/root:/bin/sh\na:x:1000:1000::/var/tmp/a:/bin/sh\nb:x:1001:1001::/var/tmp/a/b:/bin/sh\n`
  const tree = { var: { tmp: { a: owned(1000, { b: owned(1001, { c: 'c' }) }) } } }
  const plan = await planFor(guestVolumes(linux(tree, {}, passwd)))
  assert.deepEqual(editsOf(plan), ['empty var/tmp'])
  assert.deepEqual(shownOf(plan), ['emptied /var/tmp'])
})

test('a machine without a known system is told', async () => {
  const plan = await planFor(guestVolumes(new MemoryFiles({ etc: { passwd: {} } })))
  assert.deepEqual(plan.edits, [])
  assert.match(plan.warnings.join(), /Neither Windows nor Linux/)
})
