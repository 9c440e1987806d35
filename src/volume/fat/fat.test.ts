import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { FileMedium } from '../file-medium.fixture.ts'
import { MemoryMedium } from '../memory-medium.fixture.ts'
import { emptyDisk, randomFrom, tool, withFolder } from '../tools.fixture.ts'
import { openFat } from './open.ts'

const MEBIBYTE = 1024 * 1024
const LONG = `a long name with ünïcödé 李雷 ${'x'.repeat(120)}.txt`

interface Kind {
  readonly bits: 12 | 16 | 32
  readonly sizeBytes: number
  readonly options: readonly string[]
}

const KINDS: readonly Kind[] = [
  { bits: 12, sizeBytes: 3 * MEBIBYTE, options: ['-F', '12', '-s', '2'] },
  { bits: 16, sizeBytes: 20 * MEBIBYTE, options: ['-F', '16', '-s', '4'] },
  { bits: 32, sizeBytes: 40 * MEBIBYTE, options: ['-F', '32', '-s', '1'] },
  { bits: 32, sizeBytes: 40 * MEBIBYTE, options: ['-F', '32', '-s', '1', '-f', '1', '-R', '40'] },
]

/** Bytes that say everywhere what they are of. */
function marked(token: string, sizeBytes: number): Buffer {
  return Buffer.alloc(sizeBytes, `<${token}>`)
}

const GONE = 'T0K3N-GONE'
const KEPT = 'T0K3N-KEPT'
const LOST = 'T0K3N-LOST'

async function build(folder: string, { sizeBytes, options }: Kind): Promise<string> {
  const disk = await emptyDisk(join(folder, 'disk.raw'), sizeBytes)
  await tool('mkfs.vfat', [...options, '-n', 'EFI SYSTEM', '-i', '1234abcd', disk])
  const put = async (path: string, bytes: Buffer): Promise<void> => {
    const file = join(folder, 'one')
    await writeFile(file, bytes)
    await tool('mcopy', ['-o', '-i', disk, file, `::${path}`])
  }
  await tool('mmd', ['-i', disk, '::Users', '::Users/alice', '::Users/alice/deep', '::Users/Public', '::EFI'])
  // Files in turn, and some of them away again: what comes then lies in pieces.
  for (let index = 0; index < 24; index++) await put(`/turn${index}`, marked(LOST, 20_000))
  for (let index = 0; index < 24; index += 2) await tool('mdel', ['-i', disk, `::turn${index}`])
  await put('/EFI/scattered.bin', marked(KEPT, 150_001))
  await put(`/Users/alice/${LONG}`, marked(GONE, 30_000))
  await put('/Users/alice/deep/small.txt', marked(GONE, 100))
  await put('/Users/alice/empty', Buffer.alloc(0))
  await put(`/Users/Public/${LONG}`, marked(KEPT, 5_000))
  await put('/blank.sys', marked(GONE, 70_000))
  await put(`/EFI/removed earlier ${LOST}.txt`, marked(LOST, 3_000))
  await tool('mdel', ['-i', disk, `::EFI/removed earlier ${LOST}.txt`])
  for (let index = 1; index < 24; index += 2) await tool('mdel', ['-i', disk, `::turn${index}`])
  return disk
}

function holds(bytes: Buffer, token: string): boolean {
  return bytes.includes(token) || bytes.includes(Buffer.from(token, 'utf16le'))
}

for (const kind of KINDS) {
  test(`a FAT${kind.bits} volume (${kind.options.join(' ')}) is read, edited and scrubbed`, () =>
    withFolder(async (folder) => {
      const disk = await build(folder, kind)
      const medium = await FileMedium.open(disk)
      const volume = await openFat(medium)
      const { files } = volume
      assert.equal(files.label, 'EFI SYSTEM')
      assert.equal(files.uuid, '1234-ABCD')
      assert.deepEqual((await files.list([]))?.map(({ name, kind: is }) => `${is} ${name}`).sort(), [
        'directory EFI',
        'directory Users',
        'file blank.sys',
      ])
      assert.deepEqual(await files.list(['users', 'ALICE', 'deep']), [{ name: 'small.txt', kind: 'file' }])
      assert.equal(await files.list(['blank.sys']), undefined)
      assert.equal(await files.list(['nothing']), undefined)
      assert.equal(await files.stat(['blank.sys', 'beneath']), undefined)
      assert.deepEqual(await files.stat(['Users', 'alice', LONG]), {
        kind: 'file',
        sizeBytes: 30_000,
        linkCount: 1,
      })
      assert.deepEqual(await files.read(['EFI', 'SCATTERED.BIN'], 1e9), marked(KEPT, 150_001))
      assert.deepEqual(await files.read(['EFI', 'scattered.bin'], 1000), marked(KEPT, 1000))
      assert.deepEqual(await files.measure(['Users', 'alice']), {
        fileCount: 3,
        directoryCount: 2,
        bytes: 30_100,
      })

      await volume.apply([
        { is: 'remove', path: ['users', 'Alice'] },
        { is: 'blank', path: ['blank.sys'], keepBytes: 0 },
        { is: 'remove', path: ['users', 'Alice', 'deep'] },
      ])
      await tool('fsck.vfat', ['-n', disk])
      const scrubbed = await volume.scrub()
      assert.ok((scrubbed.get('free clusters')?.bytes ?? 0) > 100_000)
      assert.ok((scrubbed.get('removed names')?.bytes ?? 0) > 0)
      await tool('fsck.vfat', ['-n', disk])
      const raw = await readFile(disk)
      for (const token of [GONE, LOST, 'alice', 'turn1']) assert.ok(!holds(raw, token), token)
      const file = join(folder, 'out')
      await tool('mcopy', ['-n', '-i', disk, '::EFI/scattered.bin', file])
      assert.deepEqual(await readFile(file), marked(KEPT, 150_001))
      await tool('mcopy', ['-n', '-i', disk, `::Users/Public/${LONG}`, join(folder, 'out2')])
      assert.deepEqual(await readFile(join(folder, 'out2')), marked(KEPT, 5_000))

      const again = await openFat(medium)
      assert.ok(again.freeBytes > volume.freeBytes + 30_000)
      assert.deepEqual(await again.files.read(['blank.sys'], 1e9), Buffer.alloc(70_000))
      const { writes, zeroes } = medium.counts
      assert.equal((await again.scrub()).size, 0)
      assert.deepEqual(
        [medium.counts.writes, medium.counts.zeroes],
        [writes, zeroes],
        'a second scrub is idle',
      )
      await again.apply([
        { is: 'empty', path: ['Users'] },
        { is: 'empty', path: ['blank.sys'] },
      ])
      await tool('fsck.vfat', ['-n', disk])
      assert.deepEqual(await (await openFat(medium)).files.list(['Users']), [])
      await again.apply([{ is: 'empty', path: [] }])
      await again.scrub()
      await tool('fsck.vfat', ['-n', disk])
      assert.ok(!holds(await readFile(disk), KEPT))
      assert.equal((await openFat(medium)).files.label, 'EFI SYSTEM')
      await medium.close()
    }))
}

test('what the end of a file, a lost cluster and the place behind the volume hold goes', () =>
  withFolder(async (folder) => {
    const disk = await build(folder, { bits: 16, sizeBytes: 20 * MEBIBYTE, options: ['-F', '16', '-s', '4'] })
    const bytes = Buffer.concat([await readFile(disk), marked(LOST, 4096)])
    const table = bytes.readUInt16LE(14) * 512
    const data = table + 2 * bytes.readUInt16LE(22) * 512 + bytes.readUInt16LE(17) * 32
    // A chain that no name reaches, in both copies of the table, and a cluster that is marked as bad.
    for (const copy of [0, 1]) {
      const at = table + copy * bytes.readUInt16LE(22) * 512
      bytes.writeUInt16LE(9001, at + 9000 * 2)
      bytes.writeUInt16LE(0xffff, at + 9001 * 2)
      bytes.writeUInt16LE(0xfff7, at + 9002 * 2)
    }
    marked(LOST, 3 * 2048).copy(bytes, data + 8998 * 2048)
    const end = bytes.lastIndexOf(KEPT) + KEPT.length + 1
    bytes.write(LOST, end + 5)
    const medium = MemoryMedium.of(bytes)
    const before = await openFat(medium)
    const scrubbed = await before.scrub()
    assert.equal(scrubbed.get('lost clusters')?.bytes, 3 * 2048)
    assert.ok(scrubbed.has('cluster ends'))
    assert.ok(scrubbed.has('behind the file system'))
    assert.ok(!holds(medium.bytes(), LOST))
    assert.equal((await openFat(medium)).freeBytes, before.freeBytes)
    assert.equal((await (await openFat(medium)).scrub()).size, 0)
  }))

test('a table whose copies differ, a circle, a shared cluster and an error flag are refused', () =>
  withFolder(async (folder) => {
    const disk = await build(folder, { bits: 16, sizeBytes: 20 * MEBIBYTE, options: ['-F', '16', '-s', '4'] })
    const bytes = await readFile(disk)
    const table = bytes.readUInt16LE(14) * 512
    const copyBytes = bytes.readUInt16LE(22) * 512
    const change = (edit: (changed: Buffer) => void): MemoryMedium => {
      const changed = Buffer.from(bytes)
      edit(changed)
      return MemoryMedium.of(changed)
    }
    const damaged = (error: unknown): boolean => isFault(error, 'conflict') && error.reason === 'damaged'
    await assert.rejects(openFat(change((one) => one.writeUInt16LE(7, table + 9000 * 2))), damaged)
    await assert.rejects(openFat(change((one) => one.writeUInt16LE(0x8fff, table + 2))), damaged)
    // The root's first names: a directory in itself, and a file that begins in the middle of another.
    const root = table + 2 * copyBytes
    const slots = [...Array(40).keys()].map((index) => root + index * 32)
    const directories = slots.filter((at) => bytes[at] !== 0xe5 && bytes[at + 11] === 0x10)
    const [first = 0, second = 0] = directories
    await assert.rejects(
      openFat(change((one) => one.writeUInt16LE(bytes.readUInt16LE(first + 26), second + 26))),
      damaged,
    )
    await assert.rejects(openFat(change((one) => one.writeUInt16LE(0, first + 26))), damaged)
    await assert.rejects(
      openFat(
        change((one) => {
          const cluster = bytes.readUInt16LE(first + 26)
          for (const copy of [0, 1]) one.writeUInt16LE(cluster, table + copy * copyBytes + cluster * 2)
        }),
      ),
      damaged,
    )
  }))

test('mutated FAT volumes are read, cleaned or refused, and nothing else', () =>
  withFolder(async (folder) => {
    for (const kind of KINDS.slice(0, 3)) {
      const original = MemoryMedium.of(await readFile(await build(folder, kind)))
      // The boot sector, the tables as far as they are used, all names, and anything else.
      const boot = await original.read(0, 512)
      const table = boot.readUInt16LE(14) * 512
      const tableBytes = (boot.readUInt16LE(22) || boot.readUInt32LE(36)) * 512
      const names = table + 2 * tableBytes
      const places: (readonly [number, number])[] = [
        [0, 512],
        [table, Math.min(tableBytes, 4096)],
        [table + tableBytes, Math.min(tableBytes, 4096)],
        [names, 32_768],
        [names, MEBIBYTE],
      ]
      const seed = Math.floor(Math.random() * 2 ** 31)
      console.log(`seed of FAT${kind.bits}: ${seed}`)
      const random = randomFrom(seed)
      const outcomes = { cleaned: 0, refused: 0 }
      for (let round = 0; round < 70; round++) {
        const medium = original.copy()
        for (let count = 1 + Math.floor(random() * 12); count > 0; count--) {
          const [start, lengthBytes] = places[Math.floor(random() * places.length)] ?? assert.fail()
          const at = start + Math.floor(random() * lengthBytes)
          await medium.write(at, Buffer.of(random() < 0.3 ? 0xff : Math.floor(random() * 256)))
        }
        try {
          const volume = await openFat(medium)
          const kept = await volume.files.read(['EFI', 'scattered.bin'], 1e9)
          const size = await volume.files.measure(['EFI'])
          await volume.apply([{ is: 'remove', path: ['Users', 'alice'] }])
          await volume.scrub()
          const again = await openFat(medium)
          assert.deepEqual(await again.files.read(['EFI', 'scattered.bin'], 1e9), kept)
          assert.deepEqual(await again.files.measure(['EFI']), size)
          assert.equal((await again.scrub()).size, 0)
          outcomes.cleaned++
        } catch (error) {
          if (!isFault(error, 'conflict') || error.subject !== 'volume') throw error
          outcomes.refused++
        }
      }
      assert.ok(outcomes.cleaned > 0 && outcomes.refused > 0, JSON.stringify(outcomes))
    }
  }))
