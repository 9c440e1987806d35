import assert from 'node:assert/strict'
import { open, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { buildLinux, type LinuxOptions } from '../disks/linux.ts'
import { withNtfs } from '../disks/mounted.ts'
import { buildNtfs, type NtfsOptions } from '../disks/ntfs.ts'
import { plantJournal } from '../disks/ntfs-journal.ts'
import { copyInto, run } from '../disks/programs.ts'
import { searchFile } from '../disks/search.ts'
import { full, Tokens } from '../disks/tokens.ts'
import { digestOf } from '../disks/tree.ts'
import { newSeed } from '../live/seed.ts'
import { EVERYTHING, newDirect } from './direct.ts'
import { assertCleanLinux } from './linux-checks.ts'
import { assertCleanNtfs } from './ntfs-checks.ts'

const MIB = 1024 ** 2

// Disks of other shapes than those that the server is given (windows.test.ts, linux.test.ts), by the cleaner alone.

const NTFS: Readonly<Record<string, Partial<NtfsOptions>>> = {
  'NTFS with clusters of 512 bytes, in an MBR, no list of profiles': { clusterBytes: 512, table: 'mbr' },
  'NTFS with clusters of 64 KiB and sectors of 4 KiB, the whole disk': {
    ...{ clusterBytes: 65536, sectorBytes: 4096, withHive: true },
  },
}

const LINUX: Readonly<Record<string, Partial<LinuxOptions>>> = {
  'ext3 in blocks of 1 KiB': { type: 'ext3', blockBytes: 1024 },
  'ext2, the whole disk': { type: 'ext2' },
  'ext4 without checksums and its last changes in the journal': {
    features: '^metadata_csum,uninit_bg',
    needsReplay: true,
  },
}

/** The first run of a seed is the disk itself; the source is never written to. */
async function clean(
  t: TestContext,
  build: (path: string, tokens: Tokens) => Promise<(path: string) => Promise<void>>,
) {
  const tokens = new Tokens(newSeed(t))
  const direct = await newDirect(t)
  const path = join(direct.folder, 'disk.raw')
  const check = await build(path, tokens)
  const before = await digestOf(path)
  const report = await direct.clean([path])
  assert.equal(await digestOf(path), before, 'the source is as it was')
  assert.doesNotMatch(JSON.stringify(report), /CNRY-(?!user)/, 'the report tells no private name')
  assert.deepEqual(await direct.left(), [])
  await check(`${path}.clean`)
  await rm(`${path}.clean`)
}

for (const [name, options] of Object.entries(NTFS)) {
  test(name, (t) =>
    clean(t, async (path, tokens) => {
      const disk = await buildNtfs({ path, sizeBytes: 192 * MIB, tokens, hasHistory: true, ...options })
      return (cleaned) => assertCleanNtfs(cleaned, disk, tokens)
    }),
  )
}

for (const [name, options] of Object.entries(LINUX)) {
  test(name, (t) =>
    clean(t, async (path, tokens) => {
      const disk = await buildLinux({ path, sizeBytes: 192 * MIB, tokens, hasHistory: true, ...options })
      return (cleaned) => assertCleanLinux(cleaned, disk, tokens)
    }),
  )
}

for (const table of ['gpt', 'dos'] as const) {
  test(`NTFS of which nothing is selected, in ${table}: journal, deleted files and gaps go even so`, async (t) => {
    const tokens = new Tokens(newSeed(t))
    const direct = await newDirect(t)
    const [path, volume] = [join(direct.folder, 'disk.raw'), join(direct.folder, 'volume.raw')]
    const litter = full(tokens.newGone('history'), MIB)
    await writeFile(path, Buffer.alloc(64 * MIB, litter).fill(0, 8 * MIB, 40 * MIB))
    await writeFile(volume, Buffer.alloc(32 * MIB, litter))
    await run('mkntfs', ['-F', '-Q', '-q', volume])
    const keptText = tokens.newKept('file')
    await withNtfs(volume, async (root) => {
      await writeFile(join(root, 'stays'), keptText)
      await writeFile(join(root, tokens.newGone('name')), full(tokens.newGone('deleted'), 600))
      for (const name of await readdir(root)) if (name.startsWith('CNRY')) await rm(join(root, name))
    })
    await plantJournal(volume, tokens)
    // A table over the litter; without code in its first sector nothing can be loaded from behind it.
    const script = `label: ${table}\nstart=8MiB, size=32MiB, type=${table === 'gpt' ? 'EBD0A0A2-B9E5-4433-87C0-68B6B72699C7' : '7'}\n`
    await run('sfdisk', ['--quiet', '--wipe', 'never', path], script)
    const disk = await open(path, 'r+')
    if (table === 'dos') await disk.write(Buffer.alloc(440), 0, 440, 0)
    await disk.close()
    await copyInto(volume, path, 8 * MIB)
    await rm(volume)
    const report = await direct.clean([path], { wish: { ...EVERYTHING, operations: ['machine-id'] } })
    assert.deepEqual(report.removed, [])
    const found = await searchFile(`${path}.clean`, tokens)
    // The first sector of a protective MBR may hold a boot loader's code, which is kept.
    const beyond = found.gone.findings.filter(({ offset }) => table === 'dos' || offset >= 440)
    assert.deepEqual(beyond, [])
    assert(found.kept.tokens.has(keptText))
    assert.deepEqual(await direct.left(), [])
  })
}
