import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { makeFolder, runTool, sparseContent } from '../fixture.ts'
import { fileSource } from './checks.fixture.ts'
import type { ByteSource, ImageFormat, InspectedDisk } from './contract.ts'
import type { DiskMap } from './disk-map.ts'
import { inspect } from './inspect.ts'
import { mapDisk } from './mapped.ts'
import { MutableFile, type Mutation } from './mutants.fixture.ts'
import { bufferSource, slice } from './source.ts'
import { buildVdi } from './vdi.fixture.ts'
import { buildVhd } from './vhd.fixture.ts'
import { buildVhdx } from './vhdx.fixture.ts'
import { buildVmdk, type VmdkShape } from './vmdk.fixture.ts'

/** What is read through a map is what QEMU reads: of files that it wrote, of files by hand, and of those damaged ones that are accepted. */

const MIB = 1024 * 1024
const OPTIONS = { virtualBytesMax: 2 ** 42 }
const QEMU_NAME: Partial<Record<ImageFormat, string>> = { vhd: 'vpc' }

/** In pieces that fit no unit. */
async function readMapped(source: ByteSource, map: DiskMap): Promise<Buffer> {
  const disk = Buffer.alloc(map.sizeBytes)
  const stepBytes = 300 * 512 + 77
  for (let offset = 0; offset < disk.length; ) {
    const end = Math.min(disk.length, offset + stepBytes)
    for (const { lengthBytes, place } of await map.runs(offset, end - offset)) {
      if (place !== undefined) (await source.read(place, lengthBytes)).copy(disk, offset)
      offset += lengthBytes
    }
    assert.equal(offset, end)
  }
  return disk
}

async function accept(source: ByteSource): Promise<InspectedDisk> {
  const inspection = await inspect(source, OPTIONS)
  assert.ok(inspection.is === 'disk')
  return inspection.disk
}

async function mapOf(source: ByteSource, disk: InspectedDisk): Promise<DiskMap> {
  const map = await mapDisk(source, disk)
  assert.ok(map !== undefined)
  return map
}

async function readByQemu(folder: string, path: string, format: ImageFormat): Promise<Buffer> {
  const raw = join(folder, 'by-qemu.raw')
  const words = ['qemu-img', 'convert', '-f', QEMU_NAME[format] ?? format, '-O', 'raw', path, raw]
  await runTool('timeout', ['20', ...words])
  return await readFile(raw)
}

const written: [format: ImageFormat, options: string][] = [
  ['vmdk', 'subformat=monolithicSparse'],
  ['vmdk', 'subformat=monolithicSparse,zeroed_grain=on'],
  ['vhd', 'subformat=dynamic,force_size=on'],
  ['vhd', 'subformat=fixed,force_size=on'],
  ['vhdx', 'subformat=dynamic,block_size=1M'],
  ['vhdx', 'subformat=dynamic,block_size=2M,block_state_zero=off'],
  ['vhdx', 'subformat=fixed,block_size=8M'],
  ['vdi', 'static=off'],
  ['vdi', 'static=on'],
]

for (const [format, options] of written) {
  test(`what qemu-img writes as ${format} with ${options} is read as it reads it`, async (t) => {
    const folder = await makeFolder(t)
    for (const sizeBytes of [5 * MIB, 35 * MIB + 7 * 512]) {
      const [raw, path] = [join(folder, 'raw'), join(folder, `${sizeBytes}`)]
      const content = sparseContent(sizeBytes, 5)
      content.fill(0, 2 * MIB, 4 * MIB)
      await writeFile(raw, content)
      // Written out of order, so that what follows each other on the disk does not in the file.
      const words = ['convert', '-f', 'raw', '-O', QEMU_NAME[format] ?? format, '-o', options]
      await runTool('qemu-img', [...words, '-m', '16', '-W', raw, path])
      const source = await fileSource(t, path)
      const map = await mapOf(source, await accept(source))
      assert.ok((await readMapped(source, map)).equals(await readByQemu(folder, path, format)))
    }
  })
}

/** A VMDK whose grains do not follow each other, with a table that is not there and the last grain cut as its disk is. */
function handmadeVmdk(more: VmdkShape = {}, patch: (file: Buffer) => void = () => {}): Buffer {
  const capacitySectors = 8 * 1200 + 3
  const order = [1200, 3, 2, 1, 1150, 600, 1151, 0]
  const grains = new Map(order.map((grain) => [grain, Buffer.alloc(4096, `grain ${grain} `)]))
  const file = buildVmdk({ capacitySectors, grains, ...more })
  const isLast = file.readUInt32LE(tableOf(file, 2) + (1200 - 1024) * 4)
  assert.equal(isLast, Number(file.readBigUInt64LE(64)))
  patch(file)
  return file
}

const tableOf = (file: Buffer, index: number) =>
  file.readUInt32LE(file.readUInt32LE(56) * 512 + index * 4) * 512

/** The same in a file that ends where its disk does, in the middle of the last grain. */
function cutVmdk(): Buffer {
  const file = buildVmdk({
    capacitySectors: 8 * 2 + 3,
    grains: new Map([0, 2].map((grain) => [grain, Buffer.alloc(4096, `${grain}`)])),
  })
  return file.subarray(0, file.length - 5 * 512)
}

const handmade: [what: string, format: ImageFormat, make: () => Buffer][] = [
  ['a VMDK with grains in any order', 'vmdk', () => handmadeVmdk()],
  ['a VMDK that ends within a grain', 'vmdk', cutVmdk],
  [
    'a VMDK without a table',
    'vmdk',
    () => handmadeVmdk({}, (file) => file.writeUInt32LE(0, file.readUInt32LE(56) * 512 + 4)),
  ],
  [
    'a VMDK with grains of zeroes',
    'vmdk',
    () =>
      handmadeVmdk({ patchHeader: (header) => header.writeUInt32LE(5, 8) }, (file) => {
        for (const grain of [2, 4, 5]) file.writeUInt32LE(1, tableOf(file, 0) + grain * 4)
      }),
  ],
  [
    'a VMDK with a second directory that leads nowhere',
    'vmdk',
    () =>
      handmadeVmdk({
        patchHeader: (header) => {
          header.writeUInt32LE(3, 8)
          header.writeBigUInt64LE(6n, 48)
        },
      }),
  ],
  [
    'a VHDX with blocks in any order and all the states of nothing',
    'vhdx',
    () =>
      buildVhdx({
        virtualBytes: 7 * MIB + 512,
        blocks: new Map([7, 1, 0].map((block) => [block, Buffer.alloc(MIB, `block ${block} `)])),
        patchBlocks: (table) => {
          for (const state of [1, 2, 3]) table.writeBigUInt64LE(BigInt(4 * MIB + state), (state + 2) * 8)
        },
      }),
  ],
  [
    'a VDI with blocks in any order',
    'vdi',
    () => {
      const file = buildVdi({
        sizeBytes: 3 * MIB + 512,
        places: new Map([
          [0, 2],
          [2, 1],
          [3, 0],
        ]),
      })
      for (const block of [0, 1, 2])
        file.fill(`block ${block} `, 1024 + block * MIB, 1024 + (block + 1) * MIB)
      file.writeUInt32LE(0xfffffffe, 512 + 4)
      return file
    },
  ],
  [
    'a VHD with blocks in any order',
    'vhd',
    () => {
      const blocks = new Map([3, 0, 4].map((block) => [block, Buffer.alloc(4096, `block ${block} `)]))
      return buildVhd({ sizeBytes: 4 * 4096 + 1024, blocks })
    },
  ],
]

for (const [what, format, make] of handmade) {
  test(`${what} is read as QEMU reads it`, async (t) => {
    const folder = await makeFolder(t)
    const file = make()
    await writeFile(join(folder, 'file'), file)
    const source = bufferSource(file)
    const disk = await accept(source)
    assert.equal(disk.format, format)
    const content = await readMapped(source, await mapOf(source, disk))
    assert.ok(content.some((byte) => byte !== 0))
    assert.ok(content.equals(await readByQemu(folder, join(folder, 'file'), format)))
  })
}

test('a disk of more than 4 GiB in blocks of 256 MiB is found behind the entries that mean no block', async (t) => {
  const path = join(await makeFolder(t), 'disk.vhdx')
  const GIB = 1024 * MIB
  await runTool('qemu-img', ['create', '-q', '-f', 'vhdx', '-o', 'block_size=256M', path, '13G'])
  const places = [0, 4 * GIB - 65_536, 4 * GIB, 8 * GIB + 256 * MIB, 13 * GIB - 65_536]
  const writes = places.flatMap((place, index) => ['-c', `write -P ${index + 1} ${place} 64k`])
  await runTool('qemu-io', ['-f', 'vhdx', ...writes, path])
  const source = await fileSource(t, path)
  const map = await mapOf(source, await accept(source))
  for (const [index, offset] of places.entries()) {
    const runs = await map.runs(offset, 65_536)
    assert.equal(runs.length, 1)
    assert.deepEqual(await source.read(runs[0]?.place ?? -1, 65_536), Buffer.alloc(65_536, index + 1))
  }
  const dataBytes = (await map.runs(0, 13 * GIB))
    .filter(({ place }) => place !== undefined)
    .reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
  assert.equal(dataBytes, 5 * 256 * MIB)
})

test('a disk inside a file is read as the disk alone', async () => {
  const file = buildVmdk()
  const archive = Buffer.concat([Buffer.alloc(1024, 9), file, Buffer.alloc(512, 9)])
  const part = slice(bufferSource(archive), 1024, file.length)
  const map = await mapOf(part, await accept(bufferSource(file)))
  assert.ok((await readMapped(part, map)).equals(await readMapped(bufferSource(file), map)))
})

/** Of each file, so many mutants that are accepted, and so many that are tried for them at most. */
const TAKEN_COUNT = 10
const TRIED_COUNT = 4000

test('what is accepted of damaged files is read as QEMU reads it', async (t) => {
  const seed = Number(process.env.CALOTYPE_SEED ?? Date.now() % 2 ** 31)
  console.log(`seed ${seed} (CALOTYPE_SEED)`)
  const folder = await makeFolder(t)
  let state = seed
  const random = (most: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * most)
  }
  const kinds = ['byte', 'bit', 'number', 'copy', 'copy', 'cut', 'grow'] as const
  const mutation = (): Mutation => ({
    kind: kinds[random(kinds.length)] ?? 'byte',
    ...{
      isAnywhere: random(4) === 0,
      where: random(2 ** 31),
      other: random(2 ** 31),
      value: random(0x10000),
    },
  })
  const counts: Record<string, number> = {}
  for (const [what, format, make] of handmade) {
    const file = new MutableFile({ name: what, is: 'disk', format: format as 'vmdk', make }, make())
    let takenCount = 0
    for (let count = 0; count < TRIED_COUNT && takenCount < TAKEN_COUNT; count++) {
      const mutant = file.mutate(Array.from({ length: 1 + random(3) }, mutation), [file])
      const disk = await accept(mutant.source(() => {})).catch((error: unknown) => {
        if (isFault(error, 'invalid')) return undefined
        throw error
      })
      if (disk === undefined || disk.format !== format) continue
      takenCount += 1
      const path = join(folder, 'mutant')
      const bytes = mutant.bytes()
      await writeFile(path, bytes)
      const source = bufferSource(bytes)
      const content = await readMapped(source, await mapOf(source, disk))
      assert.ok(content.equals(await readByQemu(folder, path, format)), `${what}, number ${count}`)
    }
    counts[what] = takenCount
  }
  console.log(counts)
  assert.ok(Object.values(counts).every((count) => count > 0))
})
