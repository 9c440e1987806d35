import assert from 'node:assert/strict'
import { copyFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { HOSTILE, markNtfsDirty, mutate } from '../../test/disks/hostile.ts'
import { newSeed } from '../../test/live/seed.ts'
import { makeFolder } from '../disk/fixture.ts'
import { isFault } from '../image/fault.ts'
import { MemoryMedium } from '../volume/memory-medium.fixture.ts'
import { tool } from '../volume/tools.fixture.ts'
import { DEBIAN, diskOf, linuxVolume, loaderVolume, windowsVolume } from './detect.fixture.ts'
import { detectDisk } from './detect-disk.ts'
import { SKILLS } from './volumes.ts'

const MIB = 1024 * 1024
const BIOS_BOOT = '21686148-6449-6E6F-744E-656564454649'
const LINUX = { osType: 'Linux', osName: DEBIAN, isSystem: true }
const WINDOWS = { osType: 'Windows', osName: 'Windows 11 Pro 23H2', isSystem: true }

/** Also that nothing was written. */
async function detect(bytes: Buffer) {
  const medium = MemoryMedium.of(bytes)
  const finding = await detectDisk(medium, SKILLS)
  const { writes, zeroes } = medium.counts
  assert.deepEqual([writes, zeroes], [0, 0])
  return finding
}

const detectFile = async (path: string) => await detect(await readFile(path))

test('a Linux with a GPT, started by EFI, by BIOS, or by either', async (t) => {
  const folder = await makeFolder(t)
  const root = { path: await linuxVolume(folder), sizeBytes: 4 * MIB, type: 'L' }
  const loader = { path: await loaderVolume(folder), sizeBytes: 2 * MIB, type: 'U' }
  const path = join(folder, 'disk')
  assert.deepEqual(await detectFile(await diskOf(path, 'gpt', [loader, root])), {
    ...LINUX,
    firmware: 'uefi',
  })
  const empty = { sizeBytes: MIB, type: BIOS_BOOT }
  const emptied = await diskOf(path, 'gpt', [empty, loader, root], 'code')
  assert.equal((await detectFile(emptied)).firmware, 'uefi')

  const bytes = await readFile(await diskOf(path, 'gpt', [empty, loader, root], 'code'))
  bytes.write('code', MIB)
  assert.deepEqual(await detect(bytes), { ...LINUX, firmware: 'bios' })
})

test('a Windows that sleeps, was not closed, and has an MBR', async (t) => {
  const folder = await makeFolder(t)
  const volume = await windowsVolume(folder)
  await markNtfsDirty(volume)
  const path = join(folder, 'disk')
  await diskOf(path, 'dos', [{ path: volume, sizeBytes: 6 * MIB, type: '7' }], 'code')
  assert.deepEqual(await detectFile(path), { ...WINDOWS, firmware: 'bios' })
})

test('a Linux whose journal was not played back', async (t) => {
  const volume = await linuxVolume(await makeFolder(t))
  await tool('debugfs', ['-w', '-R', 'feature needs_recovery', volume])
  const medium = MemoryMedium.of(await readFile(volume))
  assert.ok((await SKILLS.open('ext4', medium)).needsReplay)
  assert.deepEqual(await detectFile(volume), LINUX)
})

test('what nobody can read', async () => {
  const signed = (offset: number, text: string) => {
    const bytes = Buffer.alloc(MIB)
    bytes.write(text, offset, 'latin1')
    return bytes
  }
  const told = async (bytes: Buffer) => (await detect(bytes)).osType
  assert.equal(await told(signed(0, 'XFSB')), 'Linux')
  assert.equal(await told(signed(65536 + 64, '_BHRfS_M')), 'Linux')
  assert.equal(await told(signed(0, 'LUKS\xba\xbe')), 'Linux')
  const lvm = signed(512, 'LABELONE')
  lvm.write('LVM2 001', 512 + 24)
  assert.equal(await told(lvm), 'Linux')
  assert.equal(await told(signed(3, '-FVE-FS-')), 'Windows')
  for (const bytes of [Buffer.alloc(MIB), Buffer.alloc(MIB, 0xff), Buffer.alloc(512), Buffer.alloc(100)])
    assert.deepEqual(await detect(bytes), { isSystem: false })
})

test('a GPT that contradicts itself says nothing', async (t) => {
  const path = await diskOf(join(await makeFolder(t), 'disk'), 'gpt', [{ sizeBytes: MIB, type: 'L' }])
  const bytes = await readFile(path)
  bytes.fill(0xff, 512, 600)
  bytes.fill(0xff, bytes.length - 512, bytes.length - 400)
  assert.deepEqual(await detect(bytes), { isSystem: false })
})

const BUILDERS = { ntfs: windowsVolume, ext4: linuxVolume } as const
const ROUND_COUNT = 4

for (const type of ['ntfs', 'ext4'] as const) {
  test(`${type} with bytes changed says what it did, or less`, async (t) => await mutated(t, type))
}

async function mutated(t: TestContext, type: 'ntfs' | 'ext4'): Promise<void> {
  const seed = newSeed(t)
  const folder = await makeFolder(t)
  const whole = await BUILDERS[type](folder)
  const path = join(folder, 'mutated')
  const seen = new Map<string, number>()
  for (const way of HOSTILE[type].keys()) {
    for (let round = 0; round < ROUND_COUNT; round++) {
      await copyFile(whole, path)
      await mutate(path, type, way, seed + round)
      const finding = await detectFile(path).catch((error: unknown) => {
        assert.ok(isFault(error), `way ${way}, round ${round}: ${(error as Error).stack}`)
        throw error
      })
      assert.ok(finding.osName === undefined || finding.osName.length <= 128)
      const word = finding.osName ?? finding.osType ?? 'nothing'
      seen.set(word, (seen.get(word) ?? 0) + 1)
    }
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(seen)))
}
