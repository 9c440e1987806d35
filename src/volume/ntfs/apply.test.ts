import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { Medium } from '../contract.ts'
import { buildHive, profileListTree } from '../registry/hive.fixture.ts'
import { parseHive } from '../registry/hive.ts'
import { tool } from '../tools.fixture.ts'
import { readReference, writeSize } from './bytes.ts'
import { findIndex, parseNode, ROOT_HEADER_OFFSET, walkIndex } from './index.ts'
import { ATTRIBUTE, findAttribute, type Ntfs, RECORD } from './model.ts'
import { parseFileName } from './names.ts'
import { openNtfs } from './open.ts'
import { rawOf, setValue } from './records.ts'
import { NtfsImage } from './scrub.fixture.ts'
import { openNtfsModel } from './volume.ts'

const MIB = 1024 * 1024
const OPTIONS = 'streams_interface=windows,special_files=wsl,compression'
const PROFILE_LIST = ['Microsoft', 'Windows NT', 'CurrentVersion', 'ProfileList']

async function recordOf(ntfs: Ntfs, directory: number, name: string): Promise<number> {
  const index = findIndex(await ntfs.readFile(directory), '$I30', ntfs)
  assert.ok(index)
  let found: number | undefined
  await walkIndex(ntfs, index, ({ bytes, key }) => {
    if (parseFileName(key, directory).name === name) found = readReference(bytes, 0).record
  })
  assert.ok(found !== undefined)
  return found
}

async function change(image: NtfsImage, work: (ntfs: Ntfs, medium: Medium) => Promise<void>): Promise<void> {
  await image.withMedium(async (medium) => await work(await openNtfsModel(medium), medium))
}

/** Marks a directory compressed: what the driver makes in it then is. */
async function compressIn(image: NtfsImage, name: string): Promise<void> {
  await change(image, async (ntfs) => {
    const file = await ntfs.readFile(await recordOf(ntfs, RECORD.root, name))
    const value = findAttribute(file, ATTRIBUTE.standardInformation)?.value
    assert.ok(value)
    value.writeUInt32LE(value.readUInt32LE(0x20) | 0x800, 0x20)
    await ntfs.writeRecord(file.record)
  })
}

/** Moves all that is in a small directory of the root into $Extend, where the driver lets nobody write. */
async function moveIntoExtend(image: NtfsImage, name: string): Promise<void> {
  await change(image, async (ntfs) => {
    const source = await ntfs.readFile(await recordOf(ntfs, RECORD.root, name))
    const target = await ntfs.readFile(RECORD.extend)
    const entriesOf = (file: typeof source) => {
      const value = findAttribute(file, ATTRIBUTE.indexRoot, '$I30')?.value
      assert.ok(value)
      const all = parseNode(value, ROOT_HEADER_OFFSET, 0).map(({ bytes, key }) => ({
        bytes: Buffer.from(bytes),
        key: Buffer.from(key),
      }))
      return { value, entries: all.slice(0, -1), end: all.slice(-1) }
    }
    const from = entriesOf(source)
    const to = entriesOf(target)
    const nameIn = (entry: { key: Buffer }) => parseFileName(entry.key, 0).name.toUpperCase()
    const merged = [...to.entries, ...from.entries].sort((one, other) =>
      nameIn(one) < nameIn(other) ? -1 : 1,
    )
    const write = async (file: typeof source, head: Buffer, entries: Buffer[]) => {
      const value = Buffer.concat([head.subarray(0, 32), ...entries])
      value.writeUInt32LE(value.length - 16, 20)
      value.writeUInt32LE(value.length - 16, 24)
      const piece = findAttribute(file, ATTRIBUTE.indexRoot, '$I30')?.pieces[0]
      assert.ok(piece)
      setValue(rawOf(file, piece.record), piece.offset, value)
      await ntfs.writeRecord(file.record)
    }
    for (const { bytes } of from.entries) {
      const moved = await ntfs.readFile(readReference(bytes, 0).record)
      for (const { type, value } of moved.attributes) {
        if (type === ATTRIBUTE.fileName && value) {
          writeSize(value, RECORD.extend, 0)
          value.writeUInt16LE(target.record.sequence, 6)
        }
      }
      await ntfs.writeRecord(moved.record)
      writeSize(bytes, RECORD.extend, 16)
      bytes.writeUInt16LE(target.record.sequence, 22)
      bytes.writeUInt16LE(moved.record.sequence, 6)
    }
    await write(
      target,
      Buffer.from(to.value),
      [...merged, ...to.end].map(({ bytes }) => bytes),
    )
    await write(
      source,
      Buffer.from(from.value),
      from.end.map(({ bytes }) => bytes),
    )
  })
}

const noise = (length: number, token: string) =>
  Buffer.from(
    Array.from({ length }, (_, index) =>
      index % 64 < 32 ? token.charCodeAt(index % token.length) : (index * 7919) >>> 5,
    ),
  )

test('every kind of edit, and what goes without one', async () => {
  await using image = await NtfsImage.create(64 * MIB)
  const hive = buildHive(
    profileListTree({ 'S-1-5-21-1-2-3-1001': 'C:\\Users\\alice', 'S-1-5-21-1-2-3-1002': 'C:\\Users\\kept' }),
  )
  const large = noise(400_000, 'large file ')
  await image.mounted(async (root) => mkdirSync(join(root, 'packed')), OPTIONS)
  await compressIn(image, 'packed')
  await image.mounted(async (root) => {
    for (const name of ['config', 'index', 'waiting', 'lost']) mkdirSync(join(root, name))
    writeFileSync(join(root, 'config', 'SOFTWARE'), hive)
    writeFileSync(join(root, 'pagefile.sys'), Buffer.alloc(MIB, 'SECRET page '))
    writeFileSync(join(root, 'small.sys'), 'keepSECRET')
    writeFileSync(join(root, 'packed', 'large'), large)
    writeFileSync(join(root, 'packed', 'hive'), Buffer.concat([hive, Buffer.alloc(70_000)]))
    writeFileSync(join(root, 'index', 'db'), Buffer.alloc(100_000, 'SECRET index '))
    for (let number = 0; number < 300; number += 1)
      writeFileSync(join(root, 'index', `SECRET-${number}`), 'x')
    writeFileSync(join(root, 'emptied.db'), Buffer.alloc(100_000, 'SECRET database '))
    writeFileSync(join(root, 'emptied.db:stream'), Buffer.alloc(10_000, 'SECRET stream '))
    for (let number = 0; number < 20; number += 1)
      symlinkSync('target', join(root, number < 5 ? '' : 'index', `link-${number}`))
    mkdirSync(join(root, 'waiting', '$Deleted'))
    writeFileSync(join(root, 'waiting', '$Deleted', 'SECRET-open'), Buffer.alloc(20_000, 'SECRET open '))
    writeFileSync(join(root, 'waiting', '$UsnJrnl'), '')
    writeFileSync(join(root, 'waiting', '$UsnJrnl:$J'), Buffer.alloc(50_000, 'SECRET journal '))
    writeFileSync(join(root, 'lost', 'child'), Buffer.alloc(30_000, 'SECRET lost '))
  }, OPTIONS)
  await moveIntoExtend(image, 'waiting')
  await change(image, async (ntfs) => {
    // Its parent is another file by now.
    const file = await ntfs.readFile(await recordOf(ntfs, await recordOf(ntfs, RECORD.root, 'lost'), 'child'))
    findAttribute(file, ATTRIBUTE.fileName)?.value?.writeUInt16LE(999, 6)
    await ntfs.writeRecord(file.record)
    // Clusters that belong to nothing.
    const clusters = await ntfs.clusters()
    const free = clusters.next(clusters.bitCount - 100, false)
    clusters.set(free, 3, true)
    await ntfs.medium.write(
      free * ntfs.geometry.clusterBytes,
      Buffer.alloc(3 * ntfs.geometry.clusterBytes, 'SECRET cluster '),
    )
    await ntfs.writeBitmaps()
  })
  await change(image, async (_, medium) => {
    const volume = await openNtfs(medium)
    assert.deepEqual(await volume.files.read(['PACKED', 'large'], MIB), large)
    assert.deepEqual(await volume.files.read(['packed', 'large'], 70_001), large.subarray(0, 70_001))
    await volume.apply([
      { is: 'blank', path: ['pagefile.sys'], keepBytes: 0 },
      { is: 'blank', path: ['small.sys'], keepBytes: 4 },
      { is: 'empty', path: ['index'] },
      { is: 'empty', path: ['emptied.db'] },
      { is: 'remove', path: ['lost'] },
      { is: 'registry', path: ['config', 'SOFTWARE'], keys: [[...PROFILE_LIST, 'S-1-5-21-1-2-3-1001']] },
    ])
  })
  await change(image, async (ntfs) => {
    const extend = findIndex(await ntfs.readFile(RECORD.extend), '$I30', ntfs)
    assert.ok(extend)
    const names: string[] = []
    await walkIndex(ntfs, extend, ({ key }) => names.push(parseFileName(key, 0).name))
    assert.deepEqual(names, ['$Deleted', '$ObjId', '$Quota', '$Reparse'])
    const points = findIndex(await ntfs.readFile(await recordOf(ntfs, RECORD.extend, '$Reparse')), '$R', ntfs)
    assert.ok(points)
    let count = 0
    await walkIndex(ntfs, points, () => (count += 1))
    assert.equal(count, 5)
  })
  await image.scrub()
  assert.equal((await image.bytes()).indexOf('SECRET'), -1)
  image.check()
  await tool('ntfsresize', ['--info', '--force', image.path])
  await image.mounted(async (root) => {
    assert.deepEqual(readFileSync(join(root, 'pagefile.sys')), Buffer.alloc(MIB))
    assert.deepEqual(readFileSync(join(root, 'small.sys')), Buffer.from('keep\0\0\0\0\0\0'))
    assert.equal(statSync(join(root, 'emptied.db')).size, 0)
    assert.deepEqual(readFileSync(join(root, 'packed', 'large')), large)
    const keys = parseHive(readFileSync(join(root, 'config', 'SOFTWARE'))).keys(PROFILE_LIST)
    assert.deepEqual(keys, ['S-1-5-21-1-2-3-1002'])
    writeFileSync(join(root, 'emptied.db'), large)
    writeFileSync(join(root, 'index', 'db'), large)
    assert.deepEqual(readFileSync(join(root, 'emptied.db')), large)
  }, OPTIONS)
  image.check()
})

test('a compressed hive or paging file is refused', async () => {
  await using image = await NtfsImage.create(32 * MIB)
  await image.mounted(async (root) => mkdirSync(join(root, 'packed')), OPTIONS)
  await compressIn(image, 'packed')
  await image.mounted(
    async (root) => writeFileSync(join(root, 'packed', 'file'), Buffer.alloc(200_000, 'text')),
    OPTIONS,
  )
  await change(image, async (_, medium) => {
    for (const edit of [
      { is: 'blank', path: ['packed', 'file'], keepBytes: 0 },
      { is: 'registry', path: ['packed', 'file'], keys: [['any']] },
    ] as const) {
      await assert.rejects(
        (await openNtfs(medium)).apply([edit]),
        (error) => isFault(error, 'conflict') && error.reason === 'unsupported',
      )
    }
  })
})
