import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { RefusalReason } from '../contract.ts'
import { MemoryMedium } from '../memory-medium.fixture.ts'
import { CANARY, debugfs, loadDisk, runTool } from './disk.fixture.ts'
import { openExt4 } from './open.ts'

describe('ext4: the state it is found in', () => {
  const folder = mkdtempSync(join(tmpdir(), 'calotype-ext4-'))
  after(() => rmSync(folder, { recursive: true }))
  const imagePath = join(folder, 'disk.raw')
  const treePath = join(folder, 'tree')
  mkdirSync(treePath)
  writeFileSync(join(treePath, 'swapfile'), Buffer.alloc(100_000, CANARY))
  writeFileSync(join(treePath, 'other'), Buffer.alloc(100_000, 'kept '))

  function format(features: string, ...more: string[]): void {
    rmSync(imagePath, { force: true })
    const size = [
      '-q',
      '-F',
      '-t',
      'ext4',
      '-b',
      '1024',
      '-O',
      features,
      ...more,
      '-d',
      treePath,
      imagePath,
      '8M',
    ]
    runTool('mke2fs', size)
  }

  async function refusal(medium: MemoryMedium): Promise<RefusalReason | 'none'> {
    try {
      await (await openExt4(medium)).scrub()
      return 'none'
    } catch (error) {
      assert(isFault(error, 'conflict') && error.subject === 'volume', String(error))
      assert(!error.message.includes('swapfile'))
      return error.reason as RefusalReason
    }
  }

  test('a clean one is open to all', async () => {
    format('metadata_csum')
    const volume = await openExt4(loadDisk(imagePath))
    assert.equal(volume.needsReplay, false)
    assert.equal(volume.sizeBytes, 8 * 2 ** 20)
    assert.equal(await refusal(loadDisk(imagePath)), 'none')
  })

  for (const [title, changes] of [
    ['a journal with something in it', ['feature needs_recovery']],
    ['orphans', ['ssv last_orphan 12']],
    ['no clean unmount', ['ssv state 0']],
  ] as const) {
    test(`${title} can be read, and changed only after a check`, async () => {
      format('metadata_csum')
      debugfs(imagePath, changes)
      const medium = loadDisk(imagePath)
      const volume = await openExt4(medium)
      assert.equal(volume.needsReplay, true)
      assert.equal((await volume.files.read(['other'], 10))?.toString(), 'kept kept ')
      await assert.rejects(volume.scrub(), { code: 'ERR_ASSERTION' })
      await assert.rejects(volume.apply([]), { code: 'ERR_ASSERTION' })
      runTool('e2fsck', ['-fp', imagePath], '', 1)
      assert.equal((await openExt4(loadDisk(imagePath))).needsReplay, false)
    })
  }

  test('what is marked as having errors, and what is no ext4, is damaged', async () => {
    format('metadata_csum')
    debugfs(imagePath, ['ssv state 3'])
    assert.equal(await refusal(loadDisk(imagePath)), 'damaged')
    assert.equal(await refusal(new MemoryMedium(1024)), 'damaged')
    assert.equal(await refusal(new MemoryMedium(1_048_576)), 'damaged')
  })

  for (const features of ['bigalloc,^resize_inode', 'inline_data']) {
    test(`${features.replace(/,.*/, '')} is not supported`, async () => {
      format(features)
      assert.equal(await refusal(loadDisk(imagePath)), 'unsupported')
    })
  }

  test('unknown features and a journal elsewhere are not supported', async () => {
    format('^metadata_csum')
    const good = loadDisk(imagePath)
    for (const at of [0x5c, 0x60, 0x64]) {
      const medium = good.copy()
      const word = await medium.read(1024 + at, 4)
      word.writeUInt32LE((word.readUInt32LE(0) | 0x80000000) >>> 0)
      await medium.write(1024 + at, word)
      assert.equal(await refusal(medium), 'unsupported')
    }
    await good.write(1024 + 0xe4, Buffer.of(1, 0, 0, 0))
    assert.equal(await refusal(good), 'unsupported')
  })

  test('the block of a protection against two mounts stays', async () => {
    format('metadata_csum,mmp')
    const medium = loadDisk(imagePath)
    const volume = await openExt4(medium)
    await volume.scrub()
    const before = readFileSync(imagePath)
    writeFileSync(imagePath, medium.bytes())
    runTool('e2fsck', ['-fn', imagePath])
    const block = Number(before.readBigUInt64LE(1024 + 0x168)) * 1024
    assert(
      medium
        .bytes()
        .subarray(block, block + 1024)
        .equals(before.subarray(block, block + 1024)),
    )
  })

  test('blocks that are marked as in use and nobody uses are made zero, and a used one that is marked free refuses', async () => {
    format('^metadata_csum,^has_journal,^uninit_bg')
    debugfs(imagePath, ['setb 7000'])
    const medium = loadDisk(imagePath)
    await medium.write(7_000 * 1024, Buffer.from(CANARY))
    const scrubbed = await (await openExt4(medium)).scrub()
    assert.deepEqual([...scrubbed.keys()].includes('lost blocks'), true)
    assert((await medium.read(7_000 * 1024, 1024)).every((byte) => byte === 0))

    const block = /\d+/.exec(runTool('debugfs', ['-R', 'blocks /other', imagePath]))?.[0] ?? ''
    debugfs(imagePath, [`freeb ${block}`])
    assert.equal(await refusal(loadDisk(imagePath)), 'damaged')
  })

  test('a file is blanked but for its beginning', async () => {
    format('metadata_csum')
    const medium = loadDisk(imagePath)
    const volume = await openExt4(medium)
    await volume.apply([{ is: 'blank', path: ['swapfile'], keepBytes: 1500 }])
    const after = await openExt4(medium)
    const content = (await after.files.read(['swapfile'], 200_000)) ?? Buffer.of()
    assert.equal(content.length, 100_000)
    assert(content.subarray(0, 1500).equals(readFileSync(join(treePath, 'swapfile')).subarray(0, 1500)))
    assert(content.subarray(1500).every((byte) => byte === 0))
    assert((await after.files.read(['other'], 200_000))?.equals(readFileSync(join(treePath, 'other'))))
    await assert.rejects(after.apply([{ is: 'remove', path: ['other'] }]), { code: 'ERR_ASSERTION' })
  })

  test('a medium is asked for little where nothing is', async () => {
    rmSync(imagePath)
    runTool('mke2fs', ['-q', '-F', '-t', 'ext4', '-E', 'lazy_itable_init=1', imagePath, '512M'])
    const medium = loadDisk(imagePath)
    await (await openExt4(medium)).scrub()
    console.log(`An empty volume of 512 MiB: ${medium.counts.reads} reads, ${medium.counts.readBytes} bytes.`)
    assert(medium.counts.readBytes < 2_000_000)
  })
})
