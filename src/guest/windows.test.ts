import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildHive, expandable, type HiveTree, profileListTree } from '../volume/registry/hive.fixture.ts'
import { guestVolumes, link, MemoryFiles, type MemoryTree } from './memory-files.fixture.ts'
import { editsOf, planFor, shownOf } from './plan.fixture.ts'

const SID = 'S-1-5-21-1-2-3'
const SOFTWARE = 'Windows/System32/config/SOFTWARE'

function ntfs(tree: MemoryTree) {
  return new MemoryFiles(tree, { type: 'ntfs' })
}

const USERS: MemoryTree = {
  alice: {
    Documents: { 'secret plan.txt': '12345' },
    Desktop: { 'a.lnk': '1' },
    'very private': { x: '123' },
  },
  Bob: {},
  李雷: {},
  'user.with.dots': {},
  'ADMINISTRATOR.HOST': {},
  public2: {},
  'Default.migrated': {},
  defaultuser0: {},
  publıc: {},
  junction: link('\\??\\D:\\elsewhere'),
  administrator: { 'kept.txt': 'x' },
  PUBLIC: {},
  Default: {},
  'Default User': link('\\??\\C:\\Users\\Default'),
  'All Users': link('\\??\\C:\\ProgramData'),
  'desktop.ini': '[x]',
}

function windows(hive?: Buffer, more: MemoryTree = {}, users: MemoryTree = USERS): MemoryFiles {
  const config: MemoryTree = hive
    ? { SOFTWARE: hive, 'SOFTWARE.LOG1': 'old bytes', 'SOFTWARE.LOG2': '', SYSTEM: 's' }
    : {}
  return ntfs({ Users: users, Windows: { System32: { config } }, ...more })
}

test('every directory of a user goes but those with a kept name, and links go as links', async () => {
  const plan = await planFor(guestVolumes(windows()), ['profiles'])
  assert.deepEqual(editsOf(plan), [
    'remove Users/alice',
    'remove Users/Bob',
    'remove Users/李雷',
    'remove Users/user.with.dots',
    'remove Users/ADMINISTRATOR.HOST',
    'remove Users/public2',
    'remove Users/Default.migrated',
    'remove Users/defaultuser0',
    'remove Users/publıc',
    'remove Users/junction',
  ])
  assert.deepEqual(
    plan.kept.map(({ path, why }) => `${path}: ${why}`),
    [
      '\\Users\\administrator: kept by rule',
      '\\Users\\PUBLIC: kept by rule',
      "\\Users\\Default: Windows needs it and nobody's data is in it",
      "\\Users\\Default User: Windows needs it and nobody's data is in it",
      "\\Users\\All Users: Windows needs it and nobody's data is in it",
    ],
  )
  const [alice] = plan.removed
  assert.deepEqual(alice, {
    operation: 'profiles',
    volume: 0,
    path: '\\Users\\alice',
    how: 'removed',
    fileCount: 3,
    directoryCount: 4,
    bytes: 9,
    parts: [
      { name: 'Documents', fileCount: 1, bytes: 5 },
      { name: 'Desktop', fileCount: 1, bytes: 1 },
      { name: 'other', fileCount: 1, bytes: 3 },
    ],
  })
  assert.doesNotMatch(JSON.stringify(plan), /secret plan|very private/)
  assert.equal(plan.refusals.length, 0)
  assert.match(plan.warnings.join(), /no list of profiles/)
})

test('kept names as junctions are kept and never followed', async () => {
  const users: MemoryTree = {
    Administrator: link('\\??\\D:\\a'),
    Public: link('\\??\\D:\\p'),
    Default: link('\\??\\D:\\d'),
    eve: link('\\??\\C:\\Users\\Public'),
  }
  const plan = await planFor(guestVolumes(windows(undefined, {}, users)), ['profiles'])
  assert.deepEqual(editsOf(plan), ['remove Users/eve'])
  assert.equal(plan.kept.length, 3)
})

test('a Windows-like root needs more than a folder called Users', async () => {
  const cases: readonly [MemoryTree, boolean][] = [
    [{ Users: { alice: {} } }, false],
    [{ Users: { alice: {} }, windows: 'a file' }, false],
    [{ users: { alice: {} }, WINDOWS: {} }, true],
    [{ Users: { alice: {} }, 'program files': {} }, true],
    [{ Users: { alice: {} }, ProgramData: {} }, true],
    [{ Users: { alice: {}, public: {} } }, true],
    [{ Users: { alice: {}, 'All Users': link('x') } }, true],
    [{ Users: link('\\??\\D:\\Users'), Windows: {} }, false],
    [{ Windows: {} }, false],
  ]
  for (const [tree, isLike] of cases) {
    const plan = await planFor(guestVolumes(ntfs(tree)), ['profiles'])
    assert.equal(plan.edits.length, isLike ? 1 : 0, JSON.stringify(tree))
  }
  const ext4 = new MemoryFiles({ Users: { alice: {} }, Windows: {} })
  assert.equal((await planFor(guestVolumes(ext4))).edits.length, 0)
})

const PROFILES = {
  'S-1-5-18': '%systemroot%\\system32\\config\\systemprofile',
  [`${SID}-500`]: 'C:\\Users\\Administrator',
  [`${SID}-1001`]: 'C:\\Users\\alice',
  [`${SID}-1001.bak`]: 'C:\\Users\\TEMP',
  [`${SID}-1002`]: '%SystemDrive%\\Users\\李雷',
  'S-1-12-1-1-2-3-4': 'c:/users/Bob/',
  'S-1-5-82-7': 'C:\\Users\\DefaultAppPool',
  [`${SID}-1003`]: 'D:\\Profiles\\dora',
  [`${SID}-1004`]: 'C:\\Users\\ADMINISTRATOR.HOST',
  [`${SID}-1005`]: 'C:\\Users\\Public\\deeper',
}

function softwareTree(): HiveTree {
  const tree = profileListTree(PROFILES)
  const current = tree.keys?.Microsoft?.keys?.['Windows NT']?.keys?.CurrentVersion
  assert(current?.keys)
  Object.assign(current.keys, {
    ProfileGuid: {
      keys: {
        '{alice}': { values: { SidString: `${SID}-1001` } },
        '{admin}': { values: { SidString: expandable(`${SID}-500`) } },
      },
    },
  })
  return tree
}

test('the registry loses the entries of those whose directory goes, and its logs their bytes', async () => {
  const plan = await planFor(guestVolumes(windows(buildHive(softwareTree()))), ['profiles'])
  const registry = plan.edits.map(({ edit }) => edit).find((edit) => edit.is === 'registry')
  assert(registry)
  assert.deepEqual(registry.path, SOFTWARE.split('/'))
  assert.deepEqual(registry.keys.map((key) => key.at(-1)).sort(), [
    'S-1-12-1-1-2-3-4',
    `${SID}-1001`,
    `${SID}-1001.bak`,
    `${SID}-1002`,
    `${SID}-1004`,
    'S-1-5-82-7',
    '{alice}',
  ])
  assert.deepEqual(editsOf(plan).slice(-2), [`registry ${SOFTWARE}`, `blank ${SOFTWARE}.LOG1`])
  assert(shownOf(plan).includes('unregistered \\Windows\\System32\\config\\SOFTWARE'))
  assert.match(plan.warnings.join(), /1 profiles of Windows lie outside/)
  assert.deepEqual(plan.refusals, [])
})

test('a hive that is dirty or damaged refuses, or is left with best effort', async () => {
  const torn = buildHive(softwareTree())
  torn.fill(0xff, 4096 + 40, 4096 + 400)
  for (const hive of [buildHive(softwareTree(), { isDirty: true }), torn, Buffer.from('nothing')]) {
    const plan = await planFor(guestVolumes(windows(hive)), ['profiles'])
    assert.equal(plan.refusals.length, 1)
    assert.match(plan.refusals[0]?.message ?? '', /shut it down in full.*best effort/)
    const effort = await planFor(guestVolumes(windows(hive)), ['profiles'], true)
    assert.equal(effort.refusals.length, 0)
    assert.match(effort.warnings.join(), /registry/)
    assert(editsOf(effort).every((edit) => edit.startsWith('remove')))
    // What is asked for does not need it.
    assert.equal((await planFor(guestVolumes(windows(hive)), ['paging-files'])).refusals.length, 0)
  }
})

test('a registry that no operation asks for is not read', async () => {
  const files = windows(buildHive(softwareTree()))
  await planFor(guestVolumes(files), ['paging-files'])
  assert(files.readBytes < 4096, 'less than any hive')
})

test('the backup of the registry is changed too', async () => {
  const hive = buildHive(softwareTree())
  const files = ntfs({
    Users: { alice: {}, Public: {} },
    Windows: { System32: { config: { SOFTWARE: hive, RegBack: { SOFTWARE: hive } } } },
  })
  const plan = await planFor(guestVolumes(files), ['profiles'])
  assert(editsOf(plan).includes('registry Windows/System32/config/RegBack/SOFTWARE'))
})

const BIN: MemoryTree = {
  [`${SID}-500`]: { $R1: 'x' },
  [`${SID}-1001`]: { $R2: 'xy' },
  'S-1-5-21-9-9-9-9': {},
  'strange name': 'x',
}

test('recycle bins of every volume lose all but what kept profiles have in them', async () => {
  const volumes = guestVolumes(windows(buildHive(softwareTree()), { '$Recycle.Bin': BIN }), {
    diskIndex: 1,
    files: ntfs({ '$RECYCLE.BIN': BIN, RECYCLER: { [`${SID}-500`]: {}, x: {} } }),
  })
  const plan = await planFor(volumes, ['recycle-bins'])
  const expected = [
    `remove $Recycle.Bin/${SID}-1001`,
    'remove $Recycle.Bin/S-1-5-21-9-9-9-9',
    'remove $Recycle.Bin/strange name',
  ]
  assert.deepEqual(editsOf(plan, 0), expected)
  assert.deepEqual(editsOf(plan, 1), [
    ...expected.map((edit) => edit.replace('$Recycle.Bin', '$RECYCLE.BIN')),
    'remove RECYCLER/x',
  ])
  assert.equal(plan.kept.length, 3)
  assert.doesNotMatch(JSON.stringify(plan.removed), /strange/)
  assert.deepEqual(plan.warnings, [
    "Windows was found, and 'profiles' is not chosen: what its users have stays.",
  ])
})

test('without a list of profiles all of every bin goes, which is said', async () => {
  const plan = await planFor(guestVolumes(windows(undefined, { '$Recycle.Bin': BIN })), ['recycle-bins'])
  assert.equal(plan.edits.length, 4)
  assert.match(plan.warnings.join(), /those of everyone/)
})

test("Windows' own files, each by its operation", async () => {
  const wer = { ReportQueue: { a: 'a' }, ReportArchive: {}, Temp: { b: 'b' }, Other: { c: 'c' } }
  const files = windows(undefined, {
    'System Volume Information': { '{guid}': 'x' },
    'pagefile.sys': '12345',
    'swapfile.sys': '',
    'hiberfil.sys': 'hibr',
    ProgramData: {
      Microsoft: {
        Windows: { WER: wer },
        Search: { Data: { Applications: { Windows: { 'Windows.edb': 'x' } } } },
      },
    },
  })
  const volumes = guestVolumes(
    files,
    ntfs({
      'PAGEFILE.SYS': '123',
      'System Volume Information': { DEDUP: { ChunkStore: 'x' }, 'a.log': 'x' },
    }),
  )
  const shadows = await planFor(volumes, ['shadow-copies'])
  assert.deepEqual(editsOf(shadows), ['remove System Volume Information/{guid}'])
  assert.deepEqual(editsOf(shadows, 1), ['remove System Volume Information/a.log'])
  assert.deepEqual(
    shadows.kept.map(({ path }) => path),
    ['\\System Volume Information\\Dedup'],
  )
  assert.match(shadows.warnings.join(), /what was deduplicated is not cleaned/)
  const paging = await planFor(volumes, ['paging-files'])
  assert.deepEqual(editsOf(paging), ['blank pagefile.sys', 'blank hiberfil.sys'])
  assert.deepEqual(editsOf(paging, 1), ['blank pagefile.sys'])
  assert.equal(paging.removed[0]?.how, 'blanked')
  assert.equal(paging.removed[0]?.bytes, 5)
  const at = 'ProgramData/Microsoft'
  assert.deepEqual(editsOf(await planFor(volumes, ['memory-dumps'])), [
    `empty ${at}/Windows/WER/ReportQueue`,
    `empty ${at}/Windows/WER/Temp`,
  ])
  assert.deepEqual(editsOf(await planFor(volumes, ['search-index'])), [
    `empty ${at}/Search/Data/Applications/Windows`,
  ])
  const dumps = ntfs({
    Windows: { 'MEMORY.DMP': 'x', Minidump: { 'a.dmp': 'x' }, LiveKernelReports: { b: 'b' } },
  })
  assert.deepEqual(editsOf(await planFor(guestVolumes(dumps), ['memory-dumps'])), [
    'remove Windows/MEMORY.DMP',
    'empty Windows/Minidump',
    'empty Windows/LiveKernelReports',
  ])
})

test('users of an earlier Windows are told', async () => {
  const plan = await planFor(guestVolumes(windows(undefined, { 'Windows.old': { Users: { old: {} } } })))
  assert(plan.kept.some(({ path }) => path === '\\Windows.old\\Users'))
})
