import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { runTool, sparseContent } from '../../disk/fixture.ts'
import { inspect } from '../../disk/formats/inspect.ts'
import { mapDisk } from '../../disk/formats/mapped.ts'
import { bufferSource } from '../../disk/formats/source.ts'
import { buildVmdk } from '../../disk/formats/vmdk.fixture.ts'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { openNbd } from '../../disk/nbd-client.ts'
import type { OpenFile } from '../store-jobs.ts'
import type { HeldFile } from './file-source.ts'
import { openFile } from './files.ts'
import { mappedDisk } from './mapped-disk.ts'
import { runSlabs } from './run-slabs.ts'

const MIB = 1024 * 1024
const OPTIONS = { virtualBytesMax: 2 ** 42 }
const { signal } = new AbortController()

describe('a file whose tables are simple', () => {
  let folder: string
  let content: Buffer
  let opened: OpenFile | undefined
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'calotype-mapped-'))
    content = sparseContent(9 * MIB + 3 * 512, 3)
    content.fill(0, 3 * MIB, 6 * MIB)
    writeFileSync(join(folder, 'raw'), content)
    for (const [driver, ...options] of [
      ['vmdk'],
      ['vhdx', '-o', 'block_size=1M'],
      ['vdi'],
      ['vpc', '-o', 'force_size=on'],
      ['qcow2'],
    ] as const) {
      const target = join(folder, driver)
      const words = ['-f', 'raw', '-O', driver, ...options, '-m', '16', '-W', join(folder, 'raw'), target]
      await runTool('qemu-img', ['convert', ...words])
    }
    const stream = ['-o', 'subformat=streamOptimized', join(folder, 'raw'), join(folder, 'stream')]
    await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', ...stream])
  })
  after(() => rmSync(folder, { recursive: true }))
  afterEach(() => opened?.close())

  const serve = async (name: string) => {
    opened = await openFile({ is: 'file', path: join(folder, name) }, undefined, OPTIONS, signal)
    const socketPath = join(folder, `${name}.socket`)
    await opened.serve(socketPath)
    return { opened, client: await openNbd({ socketPath, exportName: '0' }, { signal }) }
  }

  for (const name of ['vmdk', 'vhdx', 'vdi', 'vpc']) {
    test(`${name}: the disk is served, with what of it is zero`, async () => {
      const { opened, client } = await serve(name)
      assert.deepEqual(opened.isPlain, [true])
      assert.equal(client.sizeBytes, content.length)
      const read: Buffer[] = []
      for (let at = 0; at < content.length; at += 256 * 1024) {
        read.push(await client.read(at, Math.min(256 * 1024, content.length - at)))
      }
      assert.ok(Buffer.concat(read).equals(content))
      // Longer than what is kept, of one run and of many, and within a sector.
      for (const [offset, lengthBytes] of [
        [0, content.length],
        [MIB - 1, 2 * MIB + 7],
        [content.length - 100, 99],
      ] as const) {
        const bytes = await client.read(offset, lengthBytes)
        assert.ok(bytes.equals(content.subarray(offset, offset + lengthBytes)))
      }
      const extents = await client.extents(0, content.length)
      assert.ok(
        extents.some(
          ({ holds, offset, lengthBytes }) =>
            holds === 'zero' && offset <= 4 * MIB && offset + lengthBytes >= 5 * MIB,
        ),
      )
      assert.equal(
        extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
        content.length,
      )
      for (const { holds, offset, lengthBytes } of extents) {
        if (holds === 'data') continue
        assert.ok(content.subarray(offset, offset + lengthBytes).every((byte) => byte === 0))
      }
      await client.close()
    })
  }

  for (const name of ['qcow2', 'stream']) {
    test(`${name}: the file itself is served, to whoever reads the format`, async () => {
      const { opened, client } = await serve(name)
      assert.deepEqual(opened.isPlain, [false])
      const file = readFileSync(join(folder, name))
      assert.equal(client.sizeBytes, file.length)
      assert.ok((await client.read(0, file.length)).equals(file))
      await client.close()
    })
  }

  test('raw is plain as it is', async () => {
    const { opened, client } = await serve('raw')
    assert.deepEqual(opened.isPlain, [true])
    assert.equal(client.sizeBytes, content.length)
    await client.close()
  })

  test('a table that is written to after the inspection is no way out of the file', async () => {
    const file = buildVmdk({ capacitySectors: 2 ** 24 })
    const path = join(folder, 'changed')
    writeFileSync(path, file)
    const { client } = await serve('changed')
    assert.deepEqual(await client.read(0, 4096), Buffer.alloc(4096, 1))
    const directory = file.readUInt32LE(56) * 512
    // Each in a table that was not read yet: what was read is kept with what lies beside it.
    const places = [
      [4095, 1],
      [3000, 0xffffffff],
      [2000, file.length / 512],
    ] as const
    for (const [table, sector] of places) {
      const entry = Buffer.alloc(4)
      entry.writeUInt32LE(sector)
      const descriptor = openSync(path, 'r+')
      writeSync(descriptor, entry, 0, 4, file.readUInt32LE(directory + table * 4) * 512)
      closeSync(descriptor)
      await assert.rejects(client.read(table * 512 * 4096, 4096), { kind: 'unavailable' })
    }
    assert.deepEqual(await client.read(0, 4096), Buffer.alloc(4096, 1))
    await client.close()
  })
})

test('a disk in a part of a blob is what its pieces are, and zero where the blob is', async () => {
  const grains = new Map([
    [3, Buffer.alloc(4096, 'a')],
    [2, Buffer.alloc(4096, 'b')],
    [9, Buffer.alloc(4096)],
  ])
  const vmdk = buildVmdk({ capacitySectors: 83, grains })
  const archive = Buffer.concat([Buffer.alloc(1536, 9), vmdk])
  const blob = memoryDisk(archive)
  const inspection = await inspect(bufferSource(vmdk), OPTIONS)
  assert.ok(inspection.is === 'disk')
  const map = await mapDisk(bufferSource(vmdk), inspection.disk)
  assert.ok(map !== undefined)
  const expected = Buffer.alloc(83 * 512)
  for (const [grain, bytes] of grains) bytes.copy(expected, grain * 4096)
  const file: HeldFile = { ...blob, descriptor: undefined }
  const piecewise: HeldFile = {
    ...file,
    pieces: (offset, lengthBytes) => [{ lengthBytes, bytes: archive.subarray(offset, offset + lengthBytes) }],
  }
  for (const held of [file, piecewise]) {
    const disk = mappedDisk(held, map, 1536)
    assert.ok((await disk.read(0, expected.length)).equals(expected))
    assert.ok((await disk.read(4095, 8195)).equals(expected.subarray(4095, 4095 + 8195)))
    assert.deepEqual(await disk.extents(4096, expected.length - 4096), [
      { offset: 4096, lengthBytes: 4096, holds: 'zero' },
      { offset: 8192, lengthBytes: 8192, holds: 'data' },
      { offset: 16_384, lengthBytes: expected.length - 16_384, holds: 'zero' },
    ])
  }
})

describe('memory that runs are read into', () => {
  const content = sparseContent(MIB, 2)
  let folder: string
  let descriptor: number
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'calotype-runs-'))
    writeFileSync(join(folder, 'file'), content)
    descriptor = openSync(join(folder, 'file'), 'r')
  })
  afterEach(() => {
    closeSync(descriptor)
    rmSync(folder, { recursive: true })
  })

  test('joins what lies side by side on the disk, and leaves out what is not in the file', () => {
    const pieces = runSlabs(descriptor).read(
      [
        { lengthBytes: 100, place: 5000 },
        { lengthBytes: 50, place: 900 },
        { lengthBytes: 70_000, place: undefined },
        { lengthBytes: 3, place: 0 },
      ],
      1000,
    )
    assert.deepEqual(
      pieces.map(({ lengthBytes, bytes }) => [lengthBytes, bytes && Buffer.from(bytes)]),
      [
        [150, Buffer.concat([content.subarray(6000, 6100), content.subarray(1900, 1950)])],
        [70_000, undefined],
        [3, content.subarray(1000, 1003)],
      ],
    )
  })

  test('is used again once for each answer that was sent, whatever its pieces', () => {
    const slabs = runSlabs(descriptor)
    const runs = [
      { lengthBytes: 10, place: 0 },
      { lengthBytes: 10, place: undefined },
      { lengthBytes: 10, place: 20 },
    ]
    const first = slabs.read(runs, 0)
    slabs.release(first)
    const second = slabs.read(runs, 0)
    const third = slabs.read(runs, 0)
    assert.equal(second[0]?.bytes?.buffer, first[0]?.bytes?.buffer)
    assert.notEqual(third[0]?.bytes?.buffer, second[0]?.bytes?.buffer)
    assert.equal(third[0]?.bytes?.buffer, third[2]?.bytes?.buffer)
    const empty = slabs.read([{ lengthBytes: 10, place: undefined }], 0)
    slabs.release(empty)
    assert.deepEqual(empty, [{ lengthBytes: 10, bytes: undefined }])
    assert.throws(() => slabs.read([{ lengthBytes: 10, place: MIB }], 0), { kind: 'unavailable' })
  })
})
