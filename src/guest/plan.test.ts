import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ALL_OPERATIONS } from '../image/cleaning.ts'
import { isFault } from '../image/fault.ts'
import {
  guestVolumes,
  link,
  MemoryFiles,
  type MemoryNode,
  type MemoryTree,
  owned,
} from './memory-files.fixture.ts'
import { editsOf, planFor } from './plan.fixture.ts'

/** Names at which rules look, so that chance meets them. */
const NAMES = [
  'home',
  'alice',
  'bob',
  'var',
  'log',
  'mail',
  'spool',
  'cron',
  'crontabs',
  'tmp',
  'lib',
  'etc',
  'wtmp',
  'a.gz',
  'data',
  'Users',
  'Public',
  'Windows',
  '$Recycle.Bin',
  'S-1-5-21-1',
  'ssh',
  'ssh_host_rsa_key',
  'lost+found',
  'odd\udcff',
  'machine-id',
  'dbus',
  'cloud',
  'seed',
  'swapfile',
]
const TARGETS = ['/home', '../..', '/', 'alice', '/home/alice', '/var/tmp', '/tmp', '..', '/data', 'a/b', '']

const treeOf = fc.letrec<{ node: MemoryNode; tree: MemoryTree }>((tie) => ({
  tree: fc.dictionary(fc.constantFrom(...NAMES), tie('node'), { maxKeys: 6, noNullPrototype: true }),
  node: fc.oneof(
    { maxDepth: 5 },
    fc.constantFrom<MemoryNode>('', 'content', ...TARGETS.map((target) => link(target, 1000))),
    tie('tree'),
    fc.tuple(fc.constantFrom(0, 33, 1000, 1001, 77_777), tie('tree')).map(([uid, tree]) => owned(uid, tree)),
  ),
})).tree

const lineOf = fc
  .tuple(
    fc.constantFrom('alice', 'bob', 'www', 'odd\xff', ''),
    fc.constantFrom('0', '33', '1000', '1001', '99999999999', '-1'),
    fc.constantFrom(
      '/home/alice',
      '/home',
      '/',
      '/home/alice/../bob',
      '/data',
      '/tmp/x',
      '/var/log',
      '/home/alice/bob',
      'x',
    ),
  )
  .map(([name, uid, home]) => `${name}:x:${uid}:${uid}::${home}:/bin/sh`)
const mountOf = fc
  .tuple(
    fc.constantFrom('UUID=1', 'LABEL=two', '/dev/vda2', 'PARTUUID=3', '/home', '/data/home'),
    fc.constantFrom('/home', '/', '/home/alice', '/var', '/var/log', '/tmp', '/data/../x'),
    fc.constantFrom('ext4', 'auto', 'none', 'swap'),
    fc.constantFrom('defaults', 'bind'),
  )
  .map((fields) => fields.join(' '))

test('whatever is on the disks, a plan is whole: wished things alone, no place twice, only what is there', async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  console.log(`seed ${seed}`)
  await fc.assert(
    fc.asyncProperty(
      fc.array(treeOf, { minLength: 1, maxLength: 3 }),
      fc.array(lineOf, { maxLength: 6 }),
      fc.array(mountOf, { maxLength: 5 }),
      fc.constantFrom<MemoryFiles['type']>('ext4', 'ntfs'),
      fc.subarray([...ALL_OPERATIONS], { minLength: 1 }),
      async ([first = {}, ...others], lines, mounts, type, operations) => {
        const etc = { passwd: Buffer.from(lines.join('\n'), 'latin1'), fstab: mounts.join('\n') }
        const volumes = guestVolumes(
          new MemoryFiles({ ...first, etc }, { uuid: '0' }),
          ...others.map(
            (tree, index) => new MemoryFiles(tree, index === 0 ? { uuid: '1', type } : { label: 'two' }),
          ),
        )
        const all = await planFor(volumes)
        assert.deepEqual(await planFor(volumes), all, 'the same disks have the same plan')
        await planFor(volumes, operations)
      },
    ),
    { seed, numRuns: 400 },
  )
})

test('absurd tables are borne', async () => {
  const lines = Array.from(
    { length: 100_000 },
    (_, index) => `u${index}:x:${1000 + (index % 59_000)}:1::/home/u${index}:/bin/sh`,
  )
  const users = Object.fromEntries(
    Array.from({ length: 5000 }, (_, index) => [`u${index}`, owned(1000, { a: 'a' })]),
  )
  const files = new MemoryFiles({
    etc: {
      passwd: lines.join('\n'),
      fstab: '/a /b none bind\n'.repeat(5000),
      'login.defs': 'UID_MAX 9999999999\n',
    },
    home: { ...users, x: link('/home/x'), y: link('z'), z: link('y') },
  })
  const plan = await planFor(guestVolumes(files))
  assert.equal(plan.edits.length, 5000)
  // Beyond a thousand they are told as one.
  assert(plan.removed.length <= 1003)
  assert.equal(
    plan.removed.reduce((sum, item) => sum + item.fileCount, 0),
    5000,
  )

  const huge = new MemoryFiles({ etc: { passwd: { is: 'file', sizeBytes: 17 << 20 } } })
  await assert.rejects(planFor(guestVolumes(huge)), (error) => isFault(error, 'conflict'))
})

test('a flood of logs is emptied by whole directories', async () => {
  const many = Object.fromEntries(Array.from({ length: 50_100 }, (_, index) => [`d${index}`, { f: 'x' }]))
  const files = new MemoryFiles({ etc: { passwd: '' }, var: { log: many } })
  const plan = await planFor(guestVolumes(files), ['logs'])
  const whole = plan.edits.filter(({ edit }) => edit.path.length === 3)
  assert.equal(plan.edits.length, 50_100)
  assert.equal(whole.length, 100)
})

test('names that are not UTF-8 reach their edits as they are, and the report escaped', async () => {
  const passwd = Buffer.from([
    ...Buffer.from('root:x:0:0::/root:/bin/sh\nx:x:1000:1::/home/'),
    0xff,
    0x3a,
    0x0a,
  ])
  const files = new MemoryFiles({ etc: { passwd }, home: { '\udcff': owned(1000, { a: 'a' }) } })
  const plan = await planFor(guestVolumes(files))
  assert.deepEqual(editsOf(plan), ['empty home/\udcff'])
  assert.equal(plan.removed[0]?.path, '/home/\\xff')
})

test('two systems of one machine are each cleaned', async () => {
  const tree = {
    etc: { passwd: 'a:x:1000:1::/home/a:/bin/sh', fstab: '/dev/vda2 /other ext4' },
    home: { a: { f: 'f' } },
  }
  const plan = await planFor(guestVolumes(new MemoryFiles(tree), new MemoryFiles(tree)))
  assert.deepEqual(plan.mountPoints, { 0: '/', 1: '/' })
  assert.deepEqual([editsOf(plan, 0), editsOf(plan, 1)], [['empty home/a'], ['empty home/a']])
})
