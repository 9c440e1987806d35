import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  appendFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { Medium } from '../contract.ts'
import { MemoryMedium } from '../memory-medium.fixture.ts'
import { undoFixup, withFixup } from './fixup.ts'
import { ATTRIBUTE, findAttribute, type Ntfs, RECORD } from './model.ts'
import { ComparingMedium, NtfsImage } from './scrub.fixture.ts'
import { scrubNtfs } from './scrub.ts'
import { openNtfsModel } from './volume.ts'

const GONE = 'gone-7f3a'
const LITTER = `${GONE} was here before; `

const GEOMETRIES: readonly {
  readonly title: string
  readonly flags: readonly string[]
  readonly sizeBytes?: number
  readonly laterCount?: number
}[] = [
  { title: 'clusters of 4 KiB', flags: [], laterCount: 3000 },
  { title: 'clusters of 512 bytes', flags: ['-c', '512'] },
  { title: 'clusters of 64 KiB', flags: ['-c', '65536'], sizeBytes: 96 << 20 },
  { title: 'sectors of 4 KiB', flags: ['-s', '4096', '-c', '4096'] },
]

for (const { title, flags, sizeBytes = 64 << 20, laterCount = 700 } of GEOMETRIES) {
  test(`nothing of what was deleted is left and all else stays: ${title}`, async () => {
    await using image = await NtfsImage.create(sizeBytes, flags, LITTER)
    let before = new Map<string, string>()
    await image.mounted(async (root) => {
      await live(root)
      before = await hashes(root)
    })
    await appendFile(image.path, Buffer.alloc(100_000, LITTER))
    assert(has(await image.bytes()), 'there was something to do')

    const scrubbed = await image.scrub()
    for (const place of ['free clusters', 'file records', 'directory indexes', 'behind the volume'])
      assert((scrubbed.get(place)?.bytes ?? 0) > 0, place)
    assert(!has(await image.bytes()), 'nothing of it is left')
    assert.deepEqual(await differences(image), [])
    // The check looks for the copy of the boot sector at the end of the file.
    await truncate(image.path, sizeBytes)
    image.check()
    await image.mounted(async (root) => {
      assert.deepEqual(await hashes(root), before)
      await use(root, laterCount)
    })
    image.check()
    await image.scrub()
    assert(!has(await image.bytes()))
    assert.deepEqual(await differences(image), [])
    await image.mounted(async (root) => {
      assert.equal((await readdir(join(root, 'later'))).length, laterCount)
      await rm(join(root, 'later'), { recursive: true })
      assert.deepEqual(await hashes(root), before)
    })
  })
}

test('clusters that are marked in use and nobody has are made zero, and stay marked', async () => {
  await using image = await NtfsImage.create(16 << 20, [], LITTER)
  await image.withMedium(async (medium) => {
    const ntfs = await openNtfsModel(medium)
    const clusters = await ntfs.clusters()
    const from = clusters.next(2000, false)
    clusters.set(from, 5, true)
    await ntfs.writeBitmaps()
    const scrubbed = await scrubNtfs(await openNtfsModel(medium))
    assert.deepEqual(scrubbed.get('lost clusters'), { count: 1, bytes: 5 * 4096 })
    assert(!has(await medium.read(0, medium.sizeBytes)))
    assert((await (await openNtfsModel(medium)).clusters()).isAll(from, 5, true))
  })
})

test('clusters in use that are marked free, or that two files have, are refused and nothing is freed', async () => {
  const before = await smallVolume()
  const refused = async (change: (ntfs: Ntfs) => Promise<void>): Promise<void> => {
    const medium = before.copy()
    await change(await openNtfsModel(medium))
    await assert.rejects(
      async () => await scrubNtfs(await openNtfsModel(medium)),
      (error) => isFault(error, 'conflict') && error.reason === 'damaged',
    )
    assert(medium.bytes().includes(LITTER))
  }
  await refused(async (ntfs) => {
    const data = findAttribute(await ntfs.readFile(RECORD.upcase), ATTRIBUTE.data)
    ;(await ntfs.clusters()).set(data?.runs[0]?.lcn ?? -1, 1, false)
    await ntfs.writeBitmaps()
  })
  await refused(async (ntfs) => {
    const [one, other] = await twins(ntfs)
    const target = await ntfs.readRecord(other.record)
    const source = await ntfs.readRecord(one.record)
    source.raw.copy(target.raw, other.offset, one.offset, one.offset + one.lengthBytes)
    await ntfs.writeRecord(target)
  })
})

test('the log is one that was never written to', async () => {
  const medium = await smallVolume()
  const ntfs = await openNtfsModel(medium)
  const log = findAttribute(await ntfs.readFile(RECORD.logFile), ATTRIBUTE.data)
  assert(log !== undefined)
  await ntfs.writeAttribute(log, 5000, Buffer.alloc(100_000, LITTER))
  assert((await scrubNtfs(await openNtfsModel(medium))).get('log'))
  const bytes = await ntfs.readAttribute(log, 0, log.dataBytes)
  assert(bytes.equals(Buffer.alloc(log.dataBytes, 0xff)))
})

test('what holds nothing does not count as made zero', async () => {
  await using image = await NtfsImage.create(64 * 1024 * 1024)
  const scrubbed = await image.scrub()
  assert.equal(scrubbed.get('free clusters'), undefined)
  assert.ok([...scrubbed.values()].reduce((sum, { bytes }) => sum + bytes, 0) < 1024 * 1024)
  assert.equal((await image.scrub()).size, 0)
})

test('shadow copies begin nowhere any more', async () => {
  const medium = await smallVolume()
  const header = Buffer.from('6b87083876c1484eb7ae04046e6cc752', 'hex')
  await medium.write(0x1e00, Buffer.concat([header, Buffer.alloc(100, LITTER)]))
  const bootCode = await medium.read(0, 0x1e00)
  assert.equal((await scrubNtfs(await openNtfsModel(medium))).get('shadow copy header')?.count, 1)
  assert.deepEqual(await medium.read(0x1e00, 512), Buffer.alloc(512))
  assert.deepEqual(await medium.read(0, 0x1e00), bootCode)
})

test('a changed volume is refused or scrubbed, and never anything else', async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 0x7fff_ffff))
  console.log(`seed ${seed}`)
  let state = seed >>> 0 || 1
  const random = (limit: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
  const before = await smallVolume()
  const { geometry } = await openNtfsModel(before.copy())
  let refusedCount = 0
  const rounds = 200
  for (let round = 0; round < rounds; round += 1) {
    const medium = before.copy()
    for (let count = 1 + random(3); count > 0; count -= 1)
      await damage(medium, random, geometry.mftLcn * geometry.clusterBytes)
    try {
      await scrubNtfs(await openNtfsModel(medium))
      const comparing = new ComparingMedium(medium)
      await scrubNtfs(await openNtfsModel(comparing))
      assert.deepEqual(comparing.differences, [])
    } catch (error) {
      if (!isFault(error, 'conflict') || error.subject !== 'volume') throw error
      assert(!error.message.includes(GONE))
      refusedCount += 1
    }
  }
  assert(refusedCount > rounds / 10 && refusedCount < rounds)
})

/** Changes a few bytes of a record, of an index block, or of anything, and makes the update sequence right again. */
async function damage(medium: Medium, random: (limit: number) => number, mftOffset: number): Promise<void> {
  const odd = [0, 1, 8, 0x10, 0x20, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
  const [offset, sizeBytes] =
    random(4) === 0 ? [random(medium.sizeBytes / 4096) * 4096, 4096] : [mftOffset + random(90) * 1024, 1024]
  const raw = await medium.read(offset, sizeBytes)
  const isWhole = ['FILE', 'INDX'].includes(raw.toString('latin1', 0, 4)) && undoFixup(raw)
  for (let count = 1 + random(3); count > 0; count -= 1) {
    const at = 8 + random(isWhole ? 400 : sizeBytes - 16)
    if (random(2) === 0) raw[at] = random(256)
    else raw.writeUInt32LE(odd[random(odd.length)] ?? 0, at & ~3)
  }
  const place = raw.readUInt16LE(4)
  const isFixable =
    isWhole && raw.readUInt16LE(6) === sizeBytes / 512 + 1 && place === (sizeBytes === 1024 ? 0x30 : 0x28)
  await medium.write(offset, isFixable ? withFixup(raw) : raw)
}

/** Two streams with clusters whose attributes are equally long: where these stand. */
async function twins(ntfs: Ntfs): Promise<[one: Place, other: Place]> {
  const found: Place[] = []
  for (let number = RECORD.firstUser; number < ntfs.recordCount; number += 1) {
    const slot = await ntfs.readSlot(number)
    if (slot.is !== 'record' || !slot.record.isInUse || slot.record.isExtension) continue
    const data = findAttribute(await ntfs.toFile(slot.record), ATTRIBUTE.data)
    const piece = data?.value === undefined ? data?.pieces[0] : undefined
    if (piece === undefined) continue
    const twin = found.find(({ lengthBytes }) => lengthBytes === piece.lengthBytes)
    if (twin !== undefined) return [twin, piece]
    found.push(piece)
  }
  assert.fail('there are no twins')
}

interface Place {
  readonly record: number
  readonly offset: number
  readonly lengthBytes: number
}

let small: Promise<MemoryMedium> | undefined

/** A volume of 4 MiB with a few files, in memory. */
async function smallVolume(): Promise<MemoryMedium> {
  small ??= (async () => {
    await using image = await NtfsImage.create(4 << 20, [], LITTER)
    await image.mounted(async (root) => {
      await mkdir(join(root, 'folder'))
      for (let index = 0; index < 40; index += 1)
        await writeFile(join(root, 'folder', `kept and a long name ${index}`), 'kept '.repeat(index * 40))
      await unlink(join(root, 'folder', 'kept and a long name 7'))
    })
    return MemoryMedium.of(await image.bytes())
  })()
  return (await small).copy()
}

async function differences(image: NtfsImage): Promise<readonly string[]> {
  return await image.withMedium(async (medium) => {
    const comparing = new ComparingMedium(medium)
    await scrubNtfs(await openNtfsModel(comparing))
    return comparing.differences
  })
}

/** What is kept has no `GONE` in names or content; what goes has it in both. */
async function live(root: string): Promise<void> {
  const gone = (count: number): string => `${GONE} ${'x'.repeat(10)}`.repeat(count)
  await mkdir(join(root, 'many'))
  for (let index = 0; index < 600; index += 1) {
    const name = index % 3 === 0 ? `kept ${index}` : `${GONE} ${index} ${'long '.repeat(index % 40)}`
    await writeFile(join(root, 'many', name), index % 3 === 0 ? `kept ${index}`.repeat(index) : gone(index))
  }
  await writeFile(join(root, 'stays'), Buffer.alloc(700_000, 'kept'))
  await writeFile(join(root, 'stays:stream'), Buffer.alloc(30_000, 'kept stream'))
  await writeFile(join(root, 'stays:small'), 'kept small stream')
  await writeFile(join(root, `stays:${GONE}`), gone(3))
  await writeFile(join(root, 'empty'), '')
  await symlink('stays', join(root, 'shortcut'))
  for (const [name, keptBytes] of [
    ['shrunk', 10_001],
    ['shrunk to be small', 100],
    ['shrunk to nothing', 0],
  ] as const) {
    await writeFile(join(root, name), 'k'.repeat(keptBytes) + gone(8000))
    await truncate(join(root, name), keptBytes)
  }
  await writeFile(join(root, 'rewritten'), gone(40_000))
  await unlink(join(root, 'rewritten'))
  await writeFile(join(root, 'rewritten'), 'kept'.repeat(1000))
  await link(join(root, 'stays'), join(root, 'many', `link ${GONE}`))
  // So many names that the record needs others to hold them.
  await mkdir(join(root, 'links'))
  await writeFile(join(root, 'linked'), 'kept with links')
  for (let index = 0; index < 120; index += 1)
    await link(
      join(root, 'linked'),
      join(root, 'links', `${index % 2 === 0 ? 'kept' : GONE} a long name of a link ${index}`),
    )
  for (const name of await readdir(join(root, 'links')))
    if (name.includes(GONE)) await unlink(join(root, 'links', name))
  await mkdir(join(root, `folder ${GONE}`, 'deep'), { recursive: true })
  await writeFile(join(root, `folder ${GONE}`, 'deep', 'kept'), 'kept deep')
  await rename(join(root, `folder ${GONE}`), join(root, 'folder'))
  for (const name of await readdir(join(root, 'many')))
    if (name.includes(GONE)) await unlink(join(root, 'many', name))
  await unlink(join(root, `stays:${GONE}`))
}

/** Work of a system that has the volume afterwards. */
async function use(root: string, count: number): Promise<void> {
  await mkdir(join(root, 'later'))
  for (let index = 0; index < count; index += 1)
    await writeFile(join(root, 'later', `a name of later ${index}`), `later ${index}`.repeat(index % 100))
  for (let index = 0; index < count; index += 7)
    assert.equal(
      await readFile(join(root, 'later', `a name of later ${index}`), 'utf8'),
      `later ${index}`.repeat(index % 100),
    )
}

async function hashes(root: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const content = entry.isFile()
      ? createHash('sha256')
          .update(await readFile(path))
          .digest('hex')
      : entry.name
    found.set(path.slice(root.length), content)
  }
  for (const stream of ['stays:stream', 'stays:small'])
    found.set(
      stream,
      createHash('sha256')
        .update(await readFile(join(root, stream)))
        .digest('hex'),
    )
  return found
}

function has(bytes: Buffer): boolean {
  return bytes.includes(GONE) || bytes.includes(Buffer.from(GONE, 'utf16le'))
}
