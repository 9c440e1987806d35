import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { MemoryMedium } from '../memory-medium.fixture.ts'
import { debugfs, loadDisk, runTool } from './disk.fixture.ts'
import { openExt4 } from './open.ts'

const CASE_COUNT = 150

describe('ext4: hostile volumes end in a refusal', () => {
  const folder = mkdtempSync(join(tmpdir(), 'calotype-ext4-'))
  after(() => rmSync(folder, { recursive: true }))
  const treePath = join(folder, 'tree')
  mkdirSync(join(treePath, 'directory/below'), { recursive: true })
  for (let index = 0; index < 150; index++)
    writeFileSync(join(treePath, `directory/name-${index}`), `${index}`)
  writeFileSync(join(treePath, 'directory/below/large'), Buffer.alloc(400_000, 'large '))
  symlinkSync('x'.repeat(200), join(treePath, 'slow'))
  symlinkSync('fast', join(treePath, 'fast'))

  function make(title: string, features: string): MemoryMedium {
    const imagePath = join(folder, `${title}.raw`)
    const format = ['-q', '-F', '-t', 'ext4', '-b', '1024', '-N', '512', '-J', 'size=1', '-O', features]
    runTool('mke2fs', [...format, '-d', treePath, imagePath, '4M'])
    runTool('e2fsck', ['-fyD', imagePath], '', 1)
    debugfs(imagePath, ['ea_set /slow user.note little', `ea_set /fast user.note ${'large '.repeat(50)}`])
    return loadDisk(imagePath)
  }

  const disks = [
    make('extents', '^metadata_csum,^uninit_bg'),
    make('pointers', '^metadata_csum,^uninit_bg,^extents,^64bit'),
    make('checksums', 'metadata_csum'),
  ]
  const seed = Number(process.env.CALOTYPE_SEED ?? Date.now() % 1_000_000)

  for (const [index, disk] of disks.entries()) {
    test(`disk ${index}, seed ${seed}`, async () => {
      const random = randomOf(seed + index)
      const spots = await metadataOf(disk)
      const outcomes = { good: 0, refused: 0 }
      for (let number = 0; number < CASE_COUNT; number++) {
        const medium = disk.copy()
        for (let count = 1 + random(4); count > 0; count--) {
          const spot = spots[random(spots.length)] ?? 0
          const value = [0, 0xff, 0x7f, 0x80, 1, random(256), random(256)][random(7)] ?? 0
          const bytes = Buffer.alloc([1, 1, 2, 4][random(4)] ?? 1, value)
          await medium.write(Math.min(spot, medium.sizeBytes - 4), bytes)
        }
        outcomes[(await useAll(medium, `case ${number}`)) ? 'good' : 'refused']++
      }
      console.log(`Seed ${seed}: ${JSON.stringify(outcomes)}`)
      assert(outcomes.refused > 0)
    })
  }

  test('a directory in a circle is refused', async () => {
    const imagePath = join(folder, 'circle.raw')
    writeFileSync(imagePath, disks[0]?.bytes() ?? '')
    debugfs(imagePath, ['link /directory /directory/below/again'])
    const medium = loadDisk(imagePath)
    const { files } = await openExt4(medium)
    await assert.rejects(files.measure([]), { kind: 'conflict', subject: 'volume', reason: 'damaged' })
  })
})

/** True if nothing was found to be wrong. */
async function useAll(medium: MemoryMedium, title: string): Promise<boolean> {
  try {
    const volume = await openExt4(medium)
    const { files } = volume
    await files.list([])
    await files.list(['directory'])
    await files.read(['directory', 'below', 'large'], 1_000_000)
    await files.readLink(['slow'])
    await files.readLink(['fast'])
    await files.measure([])
    if (volume.needsReplay) return false
    await volume.scrub()
    const bytes = medium.bytes()
    await (await openExt4(medium)).scrub()
    assert(bytes.equals(medium.bytes()), `${title}: a second scrub found something`)
    return true
  } catch (error) {
    if (isFault(error, 'conflict') && error.subject === 'volume' && error.reason !== undefined) return false
    throw new Error(title, { cause: error })
  }
}

/** Offsets of bytes that are likely to matter: whatever is not zero and no text of a file, and bytes beside it. */
async function metadataOf(medium: MemoryMedium): Promise<number[]> {
  const bytes = medium.bytes()
  const spots: number[] = []
  for (let at = 1024; at < bytes.length; at++) {
    if (bytes[at] !== 0 && !(at % 1024 > 20 && bytes.toString('latin1', at - 6, at + 6).includes('large')))
      spots.push(at)
  }
  // The superblock and its neighbours as often as all the rest.
  for (let at = 1024; at < 4096; at += 2) for (let count = 0; count < 4; count++) spots.push(at)
  return spots
}

function randomOf(seed: number): (limit: number) => number {
  let state = seed >>> 0
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
