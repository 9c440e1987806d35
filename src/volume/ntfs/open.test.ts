import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { Edit, Path } from '../contract.ts'
import { MemoryMedium } from '../memory-medium.fixture.ts'
import { randomFrom } from '../tools.fixture.ts'
import { undoFixup, withFixup } from './fixup.ts'
import { ATTRIBUTE, findAttribute, type Ntfs, RECORD } from './model.ts'
import { openNtfs } from './open.ts'
import { parseLinkTarget } from './reparse.ts'
import { NtfsImage } from './scrub.fixture.ts'
import { openNtfsModel } from './volume.ts'

const MIB = 1024 * 1024

async function makeVolume(
  fill: (root: string) => void,
  flags: readonly string[] = [],
): Promise<MemoryMedium> {
  await using image = await NtfsImage.create(4 * MIB, flags)
  await image.mounted(async (root) => fill(root))
  return MemoryMedium.of(await image.bytes())
}

function populate(root: string): void {
  mkdirSync(join(root, 'Users', 'alice', 'deep', 'deeper'), { recursive: true })
  mkdirSync(join(root, 'Users', 'Public'))
  for (let index = 0; index < 80; index += 1) {
    writeFileSync(
      join(root, 'Users', index % 2 === 0 ? 'alice' : 'Public', `a name of some length ${index}.txt`),
      `${index}`.repeat(index * 30),
    )
  }
  writeFileSync(join(root, 'Users', 'alice', 'deep', 'deeper', 'last'), Buffer.alloc(50_000, 'x'))
}

async function refusedAs(reason: string, medium: MemoryMedium): Promise<void> {
  await assert.rejects(
    openNtfs(medium),
    (error) => isFault(error, 'conflict') && error.subject === 'volume' && error.reason === reason,
  )
}

async function withVolumeInformation(
  medium: MemoryMedium,
  work: (value: Buffer) => void,
): Promise<MemoryMedium> {
  const changed = medium.copy()
  const ntfs = await openNtfsModel(changed)
  const file = await ntfs.readFile(RECORD.volume)
  const value = findAttribute(file, ATTRIBUTE.volumeInformation)?.value
  assert.ok(value)
  work(value)
  await ntfs.writeRecord(file.record)
  return changed
}

/** A restart page of a log with one client, in use or not. */
async function withLog(medium: MemoryMedium, clientsInUse: number, flags: number): Promise<MemoryMedium> {
  const changed = medium.copy()
  const ntfs = await openNtfsModel(changed)
  const log = findAttribute(await ntfs.readFile(RECORD.logFile), ATTRIBUTE.data)
  assert.ok(log)
  const page = Buffer.alloc(4096)
  page.write('RSTR', 0, 'latin1')
  page.writeUInt16LE(0x1e, 4)
  page.writeUInt16LE(9, 6)
  page.writeUInt32LE(4096, 16)
  page.writeUInt32LE(4096, 20)
  page.writeUInt16LE(0x30, 24)
  page.writeUInt16LE(1, 28)
  page.writeUInt16LE(clientsInUse, 0x30 + 12)
  page.writeUInt16LE(flags, 0x30 + 14)
  await ntfs.writeAttribute(log, 0, withFixup(page))
  // The other one was written before.
  page.writeBigUInt64LE(0n, 0x30)
  await ntfs.writeAttribute(log, 4096, withFixup(page))
  return changed
}

test('volumes that must not be changed are refused, each with its reason', async () => {
  const medium = await makeVolume((root) => writeFileSync(join(root, 'hiberfil.sys'), Buffer.alloc(8192)))
  const volume = await openNtfs(medium)
  assert.equal(volume.files.type, 'ntfs')
  assert.match(volume.files.uuid, /^[0-9A-F]{16}$/)
  for (const [head, reason] of [
    ['HIBR', 'hibernated'],
    ['hibr', 'hibernated'],
    ['RSTR', 'hibernated'],
  ] as const) {
    await refusedAs(
      reason,
      await makeVolume((root) => writeFileSync(join(root, 'HiberFil.sys'), head.padEnd(8192, 'x'))),
    )
  }
  await openNtfs(
    await makeVolume((root) => writeFileSync(join(root, 'hiberfil.sys'), 'wake'.padEnd(8192, 'x'))),
  )
  await refusedAs('dirty', await withVolumeInformation(medium, (value) => value.writeUInt16LE(1, 10)))
  await refusedAs('unsupported', await withVolumeInformation(medium, (value) => value.writeUInt8(1, 8)))
  await refusedAs('dirty', await withLog(medium, 0, 0))
  await openNtfs(await withLog(medium, 0, 2))
  await openNtfs(await withLog(medium, 0xffff, 0))
  const short = MemoryMedium.of(medium.bytes().subarray(0, 2 * MIB))
  await refusedAs('damaged', short)
  await refusedAs('damaged', new MemoryMedium(MIB))
})

test('the targets of links', () => {
  const names = Buffer.from('\\??\\C:\\UsersC:\\Users', 'utf16le')
  const junction = Buffer.alloc(16)
  junction.writeUInt32LE(0xa000_0003, 0)
  junction.writeUInt16LE(8 + names.length, 4)
  junction.writeUInt16LE(24, 10)
  junction.writeUInt16LE(24, 12)
  junction.writeUInt16LE(16, 14)
  assert.equal(parseLinkTarget(Buffer.concat([junction, names]), 1), 'C:\\Users')
  junction.writeUInt16LE(0, 14)
  assert.equal(parseLinkTarget(Buffer.concat([junction, names]), 1), '\\??\\C:\\Users')
  junction.writeUInt16LE(900, 10)
  assert.throws(
    () => parseLinkTarget(Buffer.concat([junction, names]), 1),
    (error) => isFault(error, 'conflict'),
  )
})

async function useAll(medium: MemoryMedium): Promise<void> {
  const volume = await openNtfs(medium)
  const { files } = volume
  const stack: Path[] = [[]]
  let count = 0
  for (let path = stack.pop(); path !== undefined && count < 500; path = stack.pop()) {
    for (const { name, kind } of (await files.list(path)) ?? []) {
      count += 1
      const child = [...path, name]
      await files.stat(child)
      await files.read(child, 100_000)
      await files.readLink(child)
      if (kind === 'directory') stack.push(child)
    }
  }
  await files.measure([])
  const edits: Edit[] = []
  if (await files.stat(['Users', 'alice'])) edits.push({ is: 'remove', path: ['Users', 'alice'] })
  if (await files.stat(['Users', 'Public'])) edits.push({ is: 'empty', path: ['Users', 'Public'] })
  await volume.apply(edits)
  await volume.scrub()
}

const VALUES = [0, 1, 2, 7, 8, 16, 24, 0x7f, 0x80, 0xff]

async function mutateRecord(ntfs: Ntfs, random: () => number): Promise<void> {
  const number = Math.floor(random() * Math.min(ntfs.recordCount, 180))
  const slot = await ntfs.readSlot(number)
  if (slot.is !== 'record') return
  const { raw, bytesInUse } = slot.record
  for (let index = 0; index <= random() * 3; index += 1) {
    const offset = 8 + Math.floor(random() * (bytesInUse - 12))
    if (random() < 0.3) raw.writeUInt32LE(Math.floor(random() * 2 ** 32), offset)
    else
      raw[offset] =
        random() < 0.5 ? (VALUES[Math.floor(random() * VALUES.length)] ?? 0) : Math.floor(random() * 256)
  }
  // Not what `withFixup` itself needs.
  raw.writeUInt16LE(0x30, 4)
  raw.writeUInt16LE(raw.length / 512 + 1, 6)
  await ntfs.writeRecord({ number, raw })
}

/** A block of a directory's index. */
async function mutateBlock(medium: MemoryMedium, random: () => number): Promise<void> {
  const blocks: number[] = []
  const all = medium.bytes()
  for (let at = all.indexOf('INDX'); at !== -1; at = all.indexOf('INDX', at + 1))
    if (at % 4096 === 0) blocks.push(at)
  const at = blocks[Math.floor(random() * blocks.length)] ?? 0
  const block = await medium.read(at, 4096)
  assert.ok(undoFixup(block))
  for (let index = 0; index <= random() * 3; index += 1) {
    const offset = 8 + Math.floor(random() * (random() < 0.5 ? 200 : 4000))
    block[offset] =
      random() < 0.5 ? (VALUES[Math.floor(random() * VALUES.length)] ?? 0) : Math.floor(random() * 256)
  }
  await medium.write(at, withFixup(block))
}

/** Anywhere in what is in use. */
async function mutateCluster(medium: MemoryMedium, ntfs: Ntfs, random: () => number): Promise<void> {
  const clusters = await ntfs.clusters()
  const { clusterBytes } = ntfs.geometry
  const cluster = clusters.next(Math.floor(random() * clusters.bitCount), true)
  if (cluster >= clusters.bitCount) return
  const offset = cluster * clusterBytes + Math.floor(random() * 300)
  await medium.write(offset, Buffer.from([Math.floor(random() * 256)]))
}

test('a mutated volume is cleaned or refused, whatever was changed', async () => {
  const seed = 5_101
  const roundCount = 120
  console.log(`seed ${seed}`)
  const random = randomFrom(seed)
  const original = await makeVolume(populate)
  await useAll(original.copy())
  const outcomes = { cleaned: 0, refused: 0 }
  for (let round = 0; round < roundCount; round += 1) {
    const medium = original.copy()
    const ntfs = await openNtfsModel(medium)
    if (round % 4 === 3) await mutateBlock(medium, random)
    else if (round % 16 === 2) await mutateCluster(medium, ntfs, random)
    else if (round % 16 === 0)
      await medium.write(Math.floor(random() * 0x54), Buffer.from([Math.floor(random() * 256)]))
    else await mutateRecord(ntfs, random)
    try {
      await useAll(medium)
      outcomes.cleaned += 1
    } catch (error) {
      assert.ok(
        isFault(error, 'conflict') && error.subject === 'volume',
        `round ${round}: ${error instanceof Error ? error.stack : error}`,
      )
      outcomes.refused += 1
    }
  }
  assert.ok(outcomes.cleaned > 15 && outcomes.refused > 15, JSON.stringify(outcomes))
})

test('links as Unix programs made them before there were reparse points', async () => {
  await using image = await NtfsImage.create(16 * 1024 * 1024)
  await image.mounted(async (root) => {
    symlinkSync('/Users/Public', join(root, 'old link'))
    writeFileSync(join(root, 'plain'), 'IntxLNK\x01 and no system file')
  })
  await image.withMedium(async (medium) => {
    const { files } = await openNtfs(medium)
    const kinds = new Map((await files.list([]))?.map(({ name, kind }) => [name, kind]))
    assert.deepEqual([kinds.get('old link'), kinds.get('plain')], ['link', 'file'])
    assert.equal(await files.readLink(['old link']), '/Users/Public')
    await (await openNtfs(medium)).apply([{ is: 'remove', path: ['old link'] }])
    assert.equal(await (await openNtfs(medium)).files.stat(['old link']), undefined)
  })
})
