import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import {
  BIG_ATTRIBUTE,
  CANARY,
  type DiskRecipe,
  debugfs,
  loadDisk,
  makeDisk,
  makeTree,
  NAME_COUNT,
  runTool,
} from './disk.fixture.ts'
import { type Ext4Volume, openExt4 } from './open.ts'

const RECIPES: readonly DiskRecipe[] = [
  {
    title: 'ext4 as it is made today',
    sizeMiB: 32,
    format: ['-t', 'ext4', '-b', '4096', '-O', 'metadata_csum,64bit,flex_bg,orphan_file'],
    hasExtents: true,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext4 of 1 KiB blocks with checksums',
    sizeMiB: 32,
    format: ['-t', 'ext4', '-b', '1024', '-O', 'metadata_csum,^64bit', '-I', '256'],
    hasExtents: true,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext4 of 1 KiB blocks with old checksums',
    sizeMiB: 32,
    format: ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,uninit_bg,^64bit,^flex_bg', '-I', '128'],
    hasExtents: true,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext4 of meta groups',
    sizeMiB: 48,
    format: ['-t', 'ext4', '-b', '1024', '-O', 'meta_bg,^resize_inode,metadata_csum,64bit', '-g', '2048'],
    hasExtents: true,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext4 with all there is',
    sizeMiB: 32,
    format: [
      '-t',
      'ext4',
      '-b',
      '2048',
      '-I',
      '512',
      '-O',
      'metadata_csum_seed,ea_inode,encrypt,casefold,quota,project,large_dir,verity,fast_commit,stable_inodes,sparse_super2,^resize_inode',
    ],
    hasExtents: true,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext4 with the block size of large pages',
    sizeMiB: 64,
    format: ['-t', 'ext4', '-b', '65536', '-N', '8192', '-O', 'metadata_csum,^has_journal'],
    hasExtents: true,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext3',
    sizeMiB: 32,
    format: ['-t', 'ext3', '-b', '4096', '-I', '256'],
    hasExtents: false,
    hasIndexes: true,
    hasAttributes: true,
  },
  {
    title: 'ext2',
    sizeMiB: 32,
    format: ['-t', 'ext2', '-b', '1024', '-O', '^dir_index,^filetype,^sparse_super,^resize_inode'],
    hasExtents: false,
    hasIndexes: false,
    hasAttributes: true,
  },
  {
    title: 'ext2 of the first revision',
    sizeMiB: 32,
    format: ['-t', 'ext2', '-b', '2048', '-r', '0', '-O', 'none'],
    hasExtents: false,
    hasIndexes: false,
    hasAttributes: false,
  },
]

describe('ext4: what was removed is gone, what is there stays', () => {
  const folder = mkdtempSync(join(tmpdir(), 'calotype-ext4-'))
  after(() => rmSync(folder, { recursive: true }))
  const wholePath = join(folder, 'whole')
  const treePath = join(folder, 'kept')
  makeTree(wholePath, true)
  makeTree(treePath, false)

  for (const recipe of RECIPES) {
    test(recipe.title, async () => {
      const imagePath = makeDisk(folder, wholePath, recipe)
      const medium = loadDisk(imagePath)
      assert(medium.bytes().includes(CANARY))
      const volume = await openExt4(medium)
      assert.equal(volume.needsReplay, false)
      assert(volume.freeBytes > 0 && volume.freeBytes < volume.sizeBytes)

      const before = medium.bytes()
      await checkFiles(volume, treePath)
      assert(before.equals(medium.bytes()), 'reading changed something')

      const scrubbed = await volume.scrub()
      assert(
        scrubbed.has('free blocks') && scrubbed.has('behind the volume') && scrubbed.has('directory blocks'),
      )
      const bytes = medium.bytes()
      const left = bytes.indexOf(CANARY)
      assert.equal(left, -1, `a canary is left at ${left}`)
      // Half a canary: what was cut by something that was written over the rest.
      assert.equal(bytes.indexOf(CANARY.slice(0, 8), 1024), -1)

      const again = await openExt4(medium)
      await again.scrub()
      assert(bytes.equals(medium.bytes()), 'a second scrub found something')
      await checkFiles(again, treePath)

      writeFileSync(imagePath, bytes)
      runTool('e2fsck', ['-fn', imagePath])
      compareTree(folder, imagePath, treePath)
      if (!recipe.hasAttributes) return
      assert.match(debugfs(imagePath, ['ea_get -V /etc/longer user.big']), new RegExp(BIG_ATTRIBUTE.trim()))
      assert.match(debugfs(imagePath, ['ea_get -V /etc/short user.note']), /little/)
    })
  }
})

/** What the system's own tool takes off the disk is what was put on it. */
function compareTree(folder: string, imagePath: string, treePath: string): void {
  const out = join(folder, 'out')
  mkdirSync(out)
  debugfs(imagePath, [`rdump /etc /small ${out}`])
  rmSync(join(out, 'etc/reserved'), { force: true })
  for (const name of ['etc', 'small']) {
    execFileSync('diff', ['-r', '--no-dereference', join(treePath, name), join(out, name)])
  }
  rmSync(out, { recursive: true })
}

async function checkFiles(volume: Ext4Volume, treePath: string): Promise<void> {
  const { files } = volume
  assert.equal(files.label, 'a label')
  assert.match(files.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/)
  for (const name of [
    'empty',
    'short',
    'block',
    'longer',
    'three-megabytes',
    'sparse',
    '李雷',
    'cut',
    'swapfile',
  ]) {
    const content = readFileSync(join(treePath, 'etc', name))
    assert(content.equals((await files.read(['etc', name], 10_000_000)) ?? Buffer.of(1)), name)
    assert(content.subarray(0, 5000).equals((await files.read(['etc', name], 5000)) ?? Buffer.of(1)), name)
    const facts = await files.stat(['etc', name])
    assert.deepEqual(
      { kind: facts?.kind, sizeBytes: facts?.sizeBytes, uid: facts?.uid },
      { kind: 'file', sizeBytes: content.length, uid: 0 },
    )
  }
  assert.equal((await files.read(['etc', 'o\udcffd'], 100))?.toString(), 'odd name')
  assert.equal((await files.stat(['etc', 'short']))?.linkCount, 2)
  assert.equal(await files.readLink(['etc', 'fast-link']), 'short')
  assert.equal(await files.readLink(['etc', 'slow-link']), `/${'long/'.repeat(40)}end`)
  assert.equal(await files.readLink(['etc', 'short']), undefined)
  assert.equal(await files.read(['etc'], 10), undefined)
  assert.equal(await files.read(['etc', 'fast-link'], 10), undefined)
  assert.equal(await files.stat(['etc', 'fast-link', 'x']), undefined)
  assert.equal(await files.list(['nothing', 'there']), undefined)
  const big = await files.list(['big'])
  assert.equal(big?.length, NAME_COUNT)
  assert(big.every(({ name, kind }) => name.startsWith('kept-file') && kind === 'file'))
  const kinds = Object.fromEntries((await files.list(['etc']))?.map(({ name, kind }) => [name, kind]) ?? [])
  assert.equal(kinds['fast-link'], 'link')
  assert.equal(kinds.short, 'file')
  const root = (await files.list([]))?.map(({ name }) => name).sort()
  assert.deepEqual(root, ['big', 'etc', 'home', 'lost+found', 'small'])
  const size = await files.measure([])
  assert.equal(size.directoryCount, 6)
  // The second name of a file is not counted again.
  assert.deepEqual(await files.measure(['small']), { fileCount: 1, directoryCount: 1, bytes: 10 })
  const inEtc = await files.measure(['etc'])
  assert.equal(size.fileCount, inEtc.fileCount + NAME_COUNT)
}
