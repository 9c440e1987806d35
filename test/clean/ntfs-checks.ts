import assert from 'node:assert/strict'
import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseHive } from '../../src/volume/registry/hive.ts'
import { withNtfs } from '../disks/mounted.ts'
import { keptTree, type NtfsDisk } from '../disks/ntfs.ts'
import { HIVE_PATH, MACHINE_SID, PROFILE_LIST } from '../disks/ntfs-hive.ts'
import { copyOut, run, runForBytes } from '../disks/programs.ts'
import { assertGone } from '../disks/search.ts'
import type { Tokens } from '../disks/tokens.ts'
import { treeChanges } from '../disks/tree.ts'

const MFT_BITMAP_RECORD = '6'
const NEW_FILES = 500

/**
 * A cleaned NTFS disk: nothing of what had to go is anywhere in it, everything else is as it was, its file system is
 * sound, by the word of another driver and of its checker, and takes new files.
 */
export async function assertCleanNtfs(path: string, disk: NtfsDisk, tokens: Tokens): Promise<void> {
  await assertGone(path, tokens, 'the cleaned disk')
  const folder = await mkdtemp(join(tmpdir(), 'calo-check-'))
  const volume = join(folder, 'volume.raw')
  try {
    await copyOut(path, disk.offset, disk.sizeBytes, volume)
    await assertSound(volume)
    await assertFreeIsZero(volume)
    await withNtfs(volume, (mounted) => assertKept(mounted, disk), 'ro')
    await assertTakesFiles(volume, disk)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function assertSound(volume: string): Promise<void> {
  const said = await run('ntfsfix', ['-n', volume])
  assert.match(said, /was processed successfully/, said)
  assert.doesNotMatch(said, /error|corrupt|inconsisten|FAILED|mismatch/i, said)
}

/** Seen by the file system's own bitmap, whatever was planted. */
async function assertFreeIsZero(volume: string): Promise<void> {
  const bitmap = await runForBytes('ntfscat', ['-f', '-i', MFT_BITMAP_RECORD, volume])
  const boot = Buffer.alloc(512)
  const file = await open(volume, 'r')
  try {
    await file.read(boot, 0, 512, 0)
    const coded = boot.readInt8(13)
    const clusterBytes = boot.readUInt16LE(11) * (coded < 0 ? 2 ** -coded : boot.readUInt8(13))
    const count = Math.floor((await file.stat()).size / clusterBytes)
    const zero = Buffer.alloc(clusterBytes)
    const cluster = Buffer.alloc(clusterBytes)
    const bad: number[] = []
    // The last sector's cluster holds the second boot sector, which belongs to no file.
    for (let i = 0; i < count - 1; i++) {
      if (((bitmap[i >> 3] ?? 0) >> (i & 7)) & 1) continue
      await file.read(cluster, 0, clusterBytes, i * clusterBytes)
      if (!cluster.equals(zero)) bad.push(i)
    }
    assert.deepEqual(bad.slice(0, 10), [], `${bad.length} free clusters hold something`)
  } finally {
    await file.close()
  }
}

async function assertKept(mounted: string, { content, kept }: NtfsDisk): Promise<void> {
  assert.deepEqual(treeChanges(kept, await keptTree(mounted, content)), [])
  for (const path of content.removed)
    assert.equal(await stat(join(mounted, path)).catch(() => undefined), undefined, `${path} is still there`)
  for (const path of content.emptied) assert.deepEqual(await readdir(join(mounted, path)), [], path)
  for (const path of content.blanked) {
    const bytes = await readFile(join(mounted, path))
    assert(bytes.length > 0 && bytes.every((byte) => byte === 0), `${path} is not all zeroes`)
  }
  if (content.changed.includes(HIVE_PATH)) await assertProfiles(join(mounted, HIVE_PATH))
}

async function assertProfiles(path: string): Promise<void> {
  const hive = parseHive(await readFile(path))
  assert.deepEqual([...(hive.keys(PROFILE_LIST) ?? [])].sort(), ['S-1-5-18', `${MACHINE_SID}-500`])
  assert.equal(hive.isDirty, false)
}

/** Bitmaps and indexes are what they seem: new files take free places alone, and nothing that was kept is harmed. */
async function assertTakesFiles(volume: string, { content, kept }: NtfsDisk): Promise<void> {
  await withNtfs(volume, async (mounted) => {
    for (let i = 0; i < NEW_FILES; i++)
      await writeFile(
        join(mounted, 'Windows', `new ${i}`).replace(
          'Windows',
          content.blanked.length > 0 ? 'Windows' : 'Projects',
        ),
        `new ${i}`.repeat(i % 5 === 0 ? 2000 : 1),
      )
  })
  const after = await withNtfs(volume, (mounted) => keptTree(mounted, content), 'ro')
  const changes = treeChanges(kept, after).filter(
    (line) => !/^\+ (Windows|Projects)\/new \d+: file/.test(line),
  )
  assert.deepEqual(changes, [])
  assert.equal(after.size, kept.size + NEW_FILES)
  await assertSound(volume)
}
