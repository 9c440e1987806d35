import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { InspectedDisk } from './contract.ts'
import { DiskMap, PAGE_UNITS, type UnitTable } from './disk-map.ts'
import { NOWHERE } from './file-runs.ts'
import { inspect } from './inspect.ts'
import { mapDisk } from './mapped.ts'
import { bufferSource, countingSource } from './source.ts'
import { buildVdi } from './vdi.fixture.ts'
import { buildVhd } from './vhd.fixture.ts'
import { buildVhdx } from './vhdx.fixture.ts'
import { buildVmdk } from './vmdk.fixture.ts'

const MIB = 1024 * 1024
const OPTIONS = { virtualBytesMax: 2 ** 42 }

/** Units of 100 bytes whose places are told by `placeOf`; remembers which pages were read. */
function tableOf(sizeBytes: number, placeOf: (unit: number) => number) {
  const reads: number[] = []
  const table: UnitTable = {
    ...{ sizeBytes, unitBytes: 100 },
    async read(first, places) {
      reads.push(first)
      for (let index = 0; index < places.length; index++) places[index] = placeOf(first + index)
    },
  }
  return { map: new DiskMap(table), reads }
}

describe('the map of a disk', () => {
  test('joins what follows each other in the file, and what is not there', async () => {
    const places = [1000, 1100, NOWHERE, NOWHERE, 5000, 300]
    const { map } = tableOf(560, (unit) => places[unit] ?? NOWHERE)
    assert.deepEqual(await map.runs(0, 560), [
      { lengthBytes: 200, place: 1000 },
      { lengthBytes: 200, place: undefined },
      { lengthBytes: 100, place: 5000 },
      { lengthBytes: 60, place: 300 },
    ])
    assert.deepEqual(await map.runs(150, 100), [
      { lengthBytes: 50, place: 1150 },
      { lengthBytes: 50, place: undefined },
    ])
    assert.deepEqual(await map.runs(559, 1), [{ lengthBytes: 1, place: 359 }])
    assert.deepEqual(await map.runs(560, 0), [])
    assert.throws(() => map.runs(559, 2), /inside its disk/)
  })

  test('answers at once once its page is there, and reads each page once for all that ask', async () => {
    const { map, reads } = tableOf(PAGE_UNITS * 300, (unit) => unit * 1000)
    const [one, other] = await Promise.all([map.runs(10, 20), map.runs(110, 20)])
    assert.deepEqual(one, [{ lengthBytes: 20, place: 10 }])
    assert.deepEqual(other, [{ lengthBytes: 20, place: 1010 }])
    assert.deepEqual(map.runs(250, 10), [{ lengthBytes: 10, place: 2050 }])
    assert.deepEqual(reads, [0])
    const across = await map.runs(PAGE_UNITS * 100 - 10, 20)
    assert.deepEqual(across, [
      { lengthBytes: 10, place: (PAGE_UNITS - 1) * 1000 + 90 },
      { lengthBytes: 10, place: PAGE_UNITS * 1000 },
    ])
    assert.deepEqual(reads, [0, PAGE_UNITS])
  })

  test('holds so many pages and no more, however large the disk and the question', async () => {
    const pageBytes = PAGE_UNITS * 100
    const { map, reads } = tableOf(1500 * pageBytes, () => NOWHERE)
    assert.deepEqual(await map.runs(0, map.sizeBytes), [{ lengthBytes: map.sizeBytes, place: undefined }])
    assert.equal(reads.length, 1500)
    // The last ones are kept, the first are read again.
    await map.runs(1499 * pageBytes, 1)
    await map.runs(476 * pageBytes, 1)
    assert.equal(reads.length, 1500)
    await map.runs(0, 1)
    assert.equal(reads.length, 1501)
  })

  test('a page that cannot be read is asked for again the next time', async () => {
    let isBroken = true
    const table: UnitTable = {
      ...{ sizeBytes: 1000, unitBytes: 100 },
      async read(_first, places) {
        if (isBroken) throw new Error('not now')
        places.fill(7)
      },
    }
    const map = new DiskMap(table)
    await assert.rejects(async () => map.runs(0, 10), /not now/)
    isBroken = false
    assert.deepEqual(await map.runs(0, 10), [{ lengthBytes: 10, place: 7 }])
  })
})

/** All runs of what was inspected as `file`, and had become something else when it was read. */
async function readChanged(file: Buffer, change: (file: Buffer) => void) {
  const inspection = await inspect(bufferSource(file), OPTIONS)
  assert.ok(inspection.is === 'disk')
  const later = Buffer.from(file)
  change(later)
  const map = await mapDisk(bufferSource(later), inspection.disk)
  assert.ok(map !== undefined)
  return await map.runs(0, map.sizeBytes)
}

describe('tables that are not as they were inspected', () => {
  const vmdk = buildVmdk()
  const grainTable = vmdk.readUInt32LE(vmdk.readUInt32LE(56) * 512) * 512
  const vhdx = buildVhdx({ blocks: new Map([[0, Buffer.alloc(MIB, 1)]]) })
  const blocks = 3 * MIB
  const vdi = buildVdi({ places: new Map([[0, 0]]) })
  const vhd = buildVhd()
  const cases: [what: string, file: Buffer, change: (file: Buffer) => void][] = [
    ['a VMDK with a grain behind its end', vmdk, (file) => file.writeUInt32LE(99_999, grainTable)],
    ['a VMDK with a grain on its header', vmdk, (file) => file.writeUInt32LE(1, grainTable)],
    [
      'a VMDK with a table behind its end',
      vmdk,
      (file) => file.writeUInt32LE(99_999, file.readUInt32LE(56) * 512),
    ],
    [
      'a VMDK with a table among its grains',
      vmdk,
      (file) => file.writeUInt32LE(file.readUInt32LE(64), file.readUInt32LE(56) * 512),
    ],
    ['a VMDK with its directory elsewhere', vmdk, (file) => file.writeBigUInt64LE(2n ** 60n, 56)],
    ['a VMDK of another size', vmdk, (file) => file.writeBigUInt64LE(127n, 12)],
    [
      'a VHDX with a block behind its end',
      vhdx,
      (file) => file.writeBigUInt64LE(BigInt(99 * MIB) | 6n, blocks),
    ],
    ['a VHDX with a block of 2^63', vhdx, (file) => file.writeBigUInt64LE((2n ** 63n) | 6n, blocks)],
    ['a VHDX with a block on its log', vhdx, (file) => file.writeBigUInt64LE(BigInt(MIB) | 6n, blocks)],
    ['a VHDX with a block on its table', vhdx, (file) => file.writeBigUInt64LE(BigInt(3 * MIB) | 6n, blocks)],
    ['a VHDX with a block on its header', vhdx, (file) => file.writeBigUInt64LE(6n, blocks)],
    [
      'a VHDX with a block that is there in part',
      vhdx,
      (file) => file.writeBigUInt64LE(BigInt(4 * MIB) | 7n, blocks),
    ],
    [
      'a VHDX with bits that mean nothing',
      vhdx,
      (file) => file.writeBigUInt64LE(BigInt(4 * MIB) | 14n, blocks),
    ],
    ['a VDI with a block behind its end', vdi, (file) => file.writeUInt32LE(1, 512)],
    ['a VDI with a block that no map has', vdi, (file) => file.writeUInt32LE(0xfffffff0, 512)],
    ['a VDI with its map on its header', vdi, (file) => file.writeUInt32LE(0, 340)],
    ['a VDI of another size', vdi, (file) => file.writeBigUInt64LE(BigInt(MIB), 368)],
    ['a VHD with a block behind its end', vhd, (file) => file.writeUInt32BE(99_999, 1536 + 4)],
    ['a VHD with a block on its table', vhd, (file) => file.writeUInt32BE(3, 1536 + 4)],
    ['a VHD with a block on its footer', vhd, (file) => file.writeUInt32BE(file.length / 512 - 9, 1536 + 4)],
    ['a VHD with blocks of another size', vhd, (file) => file.writeUInt32BE(5, 512 + 32)],
  ]
  for (const [what, file, change] of cases) {
    test(`${what} is a file that was changed`, async () => {
      assert.ok((await readChanged(file, () => {})).some(({ place }) => place !== undefined))
      await assert.rejects(readChanged(file, change), { kind: 'conflict', subject: 'file' })
    })
  }
})

test('a table that changes while others were read already is noticed when it is read', async () => {
  // 8 GiB: the tables take 8 MiB, far more than what is kept of them.
  const capacitySectors = 2 ** 24
  const file = buildVmdk({ capacitySectors, grains: new Map([[0, Buffer.alloc(4096, 1)]]) })
  const inspection = await inspect(bufferSource(file), OPTIONS)
  assert.ok(inspection.is === 'disk')
  const later = Buffer.from(file)
  const map = await mapDisk(bufferSource(later), inspection.disk)
  assert.ok(map !== undefined)
  const lastGrain = map.sizeBytes - 4096
  const firstRuns = [{ lengthBytes: 4096, place: later.readUInt32LE(64) * 512 }]
  assert.deepEqual(await map.runs(0, 4096), firstRuns)
  const directory = later.readUInt32LE(56) * 512
  const lastTable = later.readUInt32LE(directory + (capacitySectors / 8 / 512 - 1) * 4) * 512
  later.writeUInt32LE(1, lastTable + 511 * 4)
  await assert.rejects(async () => map.runs(lastGrain, 4096), { kind: 'conflict', subject: 'file' })
  assert.deepEqual(await map.runs(0, 4096), firstRuns)
})

test('reads nothing but tables, however much data there is', async () => {
  const grains = new Map(Array.from({ length: 2000 }, (_, grain) => [grain, Buffer.alloc(4096, grain)]))
  const file = buildVmdk({ capacitySectors: 2000 * 8, grains })
  const source = countingSource(bufferSource(file))
  const disk: InspectedDisk = {
    ...{ format: 'vmdk', variant: 'monolithicSparse', offset: 0 },
    ...{ lengthBytes: file.length, virtualBytes: 2000 * 4096 },
  }
  const map = await mapDisk(source, disk)
  assert.equal((await map?.runs(0, disk.virtualBytes))?.length, 1)
  assert.ok(source.count.bytes <= 256 * 1024)
})
