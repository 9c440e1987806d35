import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refuse } from '../volume/refuse.ts'
import { buildHive, type HiveTree } from '../volume/registry/hive.fixture.ts'
import { findOnDisk, joinFindings, plainName, type SeenDisk, type SeenVolume } from './found-system.ts'
import { link, MemoryFiles, type MemoryNode, type MemoryTree } from './memory-files.fixture.ts'

const linux = (tree: MemoryTree): SeenVolume => ({
  ...{ kind: 'ext4', title: 'ext4', hasCode: false },
  openFiles: async () => new MemoryFiles(tree),
})
const ntfs = (tree: MemoryTree): SeenVolume => ({
  ...{ kind: 'ntfs', title: 'NTFS', hasCode: false },
  openFiles: async () => new MemoryFiles(tree, { type: 'ntfs' }),
})
const fat = (tree: MemoryTree): SeenVolume => ({
  ...{ kind: 'vfat', title: 'FAT32', hasCode: false },
  openFiles: async () => new MemoryFiles(tree, { type: 'vfat' }),
})
const other = (title: string): SeenVolume => ({ kind: 'other', title, hasCode: false })
const refused = (kind: 'ntfs' | 'ext4' | 'vfat'): SeenVolume => ({
  ...{ kind, title: kind, hasCode: false },
  openFiles: async () => {
    throw refuse('damaged', 'It is broken.')
  },
})
const LOADER = fat({ efi: { Debian: { 'Shimx64.EFI': 'MZ' } } })
const bootPartition = (hasCode: boolean): SeenVolume => ({ kind: 'boot-code', title: 'boot code', hasCode })

const gpt = (...volumes: SeenVolume[]): SeenDisk => ({ scheme: 'gpt', hasCode: false, volumes })
const release = (text: string) => linux({ etc: { 'os-release': text } })
const windows = (hive: MemoryNode) => ntfs({ WINDOWS: { system32: { Config: { software: hive } } } })

function hiveOf(values: HiveTree['values'], isDirty = false): Buffer {
  const current: HiveTree = { ...(values && { values }) }
  const keys = { Microsoft: { keys: { 'Windows NT': { keys: { CurrentVersion: current } } } } }
  return buildHive({ keys }, { isDirty })
}

async function nameOf(volume: SeenVolume): Promise<string | undefined> {
  const { osName, isSystem } = await findOnDisk(gpt(volume))
  assert.ok(isSystem)
  return osName
}

test('a Linux is what its os-release calls it', async () => {
  const cases: [string, string | undefined][] = [
    ['ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', 'Debian GNU/Linux 12 (bookworm)'],
    ["PRETTY_NAME='Alpine Linux v3.20'\r\n", 'Alpine Linux v3.20'],
    ['PRETTY_NAME=Arch', 'Arch'],
    ['PRETTY_NAME="The \\"old\\" one, \\$5"', 'The "old" one, $5'],
    ['PRETTY_NAME=first\nNAME=no\nPRETTY_NAME=second\n', 'second'],
    ['NAME="CentOS Linux"\n', 'CentOS Linux'],
    ['#PRETTY_NAME=none\nXPRETTY_NAME=none\n', undefined],
    ['PRETTY_NAME="a\u001b[31mb\u202e c\u0000"', 'a [31mb c'],
    [`PRETTY_NAME="${'x'.repeat(128)}"`, 'x'.repeat(128)],
    [`PRETTY_NAME="${'x'.repeat(129)}"`, undefined],
    ['PRETTY_NAME="\u0007 \u0008"', undefined],
    [`${'#'.repeat(65_536)}\nPRETTY_NAME=behind`, undefined],
  ]
  for (const [text, name] of cases) assert.equal(await nameOf(release(text)), name, text.slice(0, 50))
})

test('links lead to it as they do in that system, and nowhere else', async () => {
  const lib = { 'os-release': 'PRETTY_NAME=Linked' }
  const etc = (target: string) => linux({ etc: { 'os-release': link(target) }, usr: { lib } })
  for (const target of ['../usr/lib/os-release', '/usr/lib/os-release', '../../../usr/lib/os-release'])
    assert.equal(await nameOf(etc(target)), 'Linked')
  assert.equal(await nameOf(linux({ usr: { lib } })), 'Linked')
  assert.deepEqual(await findOnDisk(gpt(linux({ etc: { 'os-release': link('os-release') } }))), {
    osType: 'Linux',
    isSystem: false,
  })
})

test('a Windows is what its registry calls it, and 11 is no 10', async () => {
  const cases: [HiveTree['values'], string][] = [
    [{ ProductName: 'Windows 10 Pro', CurrentBuild: '19045', DisplayVersion: '22H2' }, 'Windows 10 Pro 22H2'],
    [{ ProductName: 'Windows 10 Pro', CurrentBuild: '22631', DisplayVersion: '23H2' }, 'Windows 11 Pro 23H2'],
    [{ ProductName: 'Windows Server 2025 Standard', CurrentBuild: '26100' }, 'Windows Server 2025 Standard'],
    [{ ProductName: 'Windows 7 Professional', CurrentBuild: '7601' }, 'Windows 7 Professional'],
    [{ ProductName: 'Windows 10 Pro', CurrentBuild: 'many' }, 'Windows 10 Pro'],
    [{ ProductName: 10, DisplayVersion: '22H2' }, 'Windows'],
    [{ ProductName: 'x'.repeat(200) }, 'Windows'],
    [{}, 'Windows'],
  ]
  for (const [values, name] of cases) assert.equal(await nameOf(windows(hiveOf(values))), name)
  assert.equal(
    await nameOf(windows(hiveOf({ ProductName: 'Windows 8.1 Pro' }, true))),
    'Windows 8.1 Pro',
    'it was not closed',
  )
  const whole = hiveOf({ ProductName: 'Windows 10 Pro' })
  assert.equal(await nameOf(windows(whole.subarray(0, 5000))), 'Windows')
  assert.equal(await nameOf(windows('no hive')), 'Windows')
  assert.equal(
    await nameOf(windows({ is: 'file', content: whole, sizeBytes: (64 << 20) + 1 })),
    'Windows',
    'too large',
  )
})

test('what cannot be read is told by the form of its volumes', async () => {
  const cases: [SeenVolume[], string | undefined][] = [
    [[LOADER, other('XFS')], 'Linux'],
    [[other('btrfs')], 'Linux'],
    [[other('LVM')], 'Linux'],
    [[other('LUKS')], 'Linux'],
    [[refused('ext4')], 'Linux'],
    [[{ kind: 'swap', title: 'Linux swap', hasCode: false }], 'Linux'],
    [[other('BitLocker')], 'Windows'],
    [[{ kind: 'empty', title: 'Microsoft reserved', hasCode: false }, other('BitLocker')], 'Windows'],
    [[refused('ntfs')], 'Windows'],
    [[ntfs({ data: {} })], 'Windows'],
    [[other('APFS')], undefined],
    [[refused('vfat')], undefined],
    [[], undefined],
  ]
  for (const [volumes, osType] of cases) {
    const { isSystem, osName, ...rest } = await findOnDisk(gpt(...volumes))
    assert.deepEqual([isSystem, osName, rest.osType], [false, undefined, osType])
  }
  // A system that can be read counts for more.
  const { osType, isSystem } = await findOnDisk(gpt(ntfs({}), release('PRETTY_NAME=Mint')))
  assert.deepEqual([osType, isSystem], ['Linux', true])
})

test('firmware: what can be started both ways starts by BIOS', async () => {
  const cases: [string, SeenDisk, string | undefined][] = [
    ['a loader alone', gpt(LOADER), 'uefi'],
    ['with the code that Windows writes', { ...gpt(LOADER), hasCode: true }, 'uefi'],
    ['both', { ...gpt(bootPartition(true), LOADER), hasCode: true }, 'bios'],
    ['both, and nothing in one', { ...gpt(bootPartition(false), LOADER), hasCode: true }, 'uefi'],
    ['nothing to load it', gpt(bootPartition(true), LOADER), 'uefi'],
    ['a boot partition alone', { ...gpt(bootPartition(true)), hasCode: true }, 'bios'],
    ['an MBR', { scheme: 'mbr', hasCode: true, volumes: [] }, 'bios'],
    ['an MBR, both', { scheme: 'mbr', hasCode: true, volumes: [LOADER] }, 'bios'],
    ['an MBR without code', { scheme: 'mbr', hasCode: false, volumes: [LOADER] }, 'uefi'],
    ['a data disk', { scheme: 'mbr', hasCode: false, volumes: [linux({})] }, undefined],
    ['no table', { scheme: 'none', hasCode: true, volumes: [linux({})] }, undefined],
    ['a folder of no system', gpt(fat({ EFI: { x: { 'y.txt': '' }, 'z.efi': 'MZ' } })), undefined],
    ['nobody reads it', gpt(refused('vfat')), undefined],
  ]
  for (const [what, disk, firmware] of cases) assert.equal((await findOnDisk(disk)).firmware, firmware, what)
})

test('of several disks the first says how to start, and whichever has it what system it is', () => {
  const weak = { osType: 'Windows', firmware: 'uefi', isSystem: false } as const
  const strong = { osType: 'Linux', osName: 'Debian', firmware: 'bios', isSystem: true } as const
  assert.deepEqual(joinFindings([weak, strong]), { osType: 'Linux', osName: 'Debian', firmware: 'uefi' })
  assert.deepEqual(joinFindings([{ isSystem: false }, weak]), { osType: 'Windows' })
  assert.deepEqual(joinFindings([]), {})
})

test('a bug is no refusal', async () => {
  const broken: SeenVolume = {
    ...{ kind: 'ext4', title: 'ext4', hasCode: false },
    openFiles: async () => {
      throw new TypeError('a bug')
    },
  }
  await assert.rejects(findOnDisk(gpt(broken)), TypeError)
})

test('a name is plain', () => {
  assert.equal(plainName('  Größe\t\n李雷  '), 'Größe 李雷')
  assert.equal(plainName('a\ud800b'), 'a\ufffdb')
  assert.equal(plainName(''), undefined)
})
