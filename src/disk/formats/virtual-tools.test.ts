import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeFolder, runTool, sparseContent } from '../fixture.ts'
import { fileSource, qemuInfo } from './checks.fixture.ts'
import type { ImageFormat } from './contract.ts'
import { inspect } from './inspect.ts'
import { bufferSource } from './source.ts'
import { buildVdi } from './vdi.fixture.ts'
import { buildVhd } from './vhd.fixture.ts'
import { buildVhdx } from './vhdx.fixture.ts'
import { buildVmdk } from './vmdk.fixture.ts'

/** What QEMU writes, and what is made by hand: both sides tell the same disk, and QEMU reads it as it was made. */

const MIB = 1024 * 1024
const OPTIONS = { virtualBytesMax: 2 ** 42 }
const QEMU_NAME: Partial<Record<ImageFormat, string>> = { vhd: 'vpc' }

const written: [format: ImageFormat, options: string, variant: string][] = [
  ['vmdk', 'subformat=monolithicSparse', 'monolithicSparse'],
  ['vmdk', 'subformat=monolithicSparse,zeroed_grain=on', 'monolithicSparse'],
  ['vmdk', 'subformat=monolithicSparse,adapter_type=lsilogic,compat6=on', 'monolithicSparse'],
  ['vmdk', 'subformat=streamOptimized', 'streamOptimized'],
  ['vhd', 'subformat=dynamic', 'dynamic'],
  ['vhd', 'subformat=dynamic,force_size=on', 'dynamic'],
  ['vhd', 'subformat=fixed', 'fixed'],
  ['vhd', 'subformat=fixed,force_size=on', 'fixed'],
  ['vhdx', 'subformat=dynamic', 'dynamic'],
  ['vhdx', 'subformat=dynamic,block_size=1M,block_state_zero=off', 'dynamic'],
  ['vhdx', 'subformat=fixed,block_size=2M', 'fixed'],
  ['vdi', 'static=off', 'dynamic'],
  ['vdi', 'static=on', 'fixed'],
]

for (const [format, options, variant] of written) {
  test(`what qemu-img writes as ${format} with ${options} is taken as it is`, async (t) => {
    const folder = await makeFolder(t)
    const qemuFormat = QEMU_NAME[format] ?? format
    for (const sizeBytes of [5 * MIB, 3 * MIB + 512]) {
      const [raw, path] = [join(folder, 'raw'), join(folder, `${sizeBytes}`)]
      await writeFile(raw, sparseContent(sizeBytes))
      await runTool('qemu-img', ['convert', '-f', 'raw', '-O', qemuFormat, '-o', options, raw, path])
      const inspection = await inspect(await fileSource(t, path), { ...OPTIONS, declared: format })
      assert.ok(inspection.is === 'disk')
      const { virtualBytes } = await qemuInfo(path, qemuFormat)
      assert.deepEqual([inspection.disk.format, inspection.disk.variant], [format, variant])
      assert.equal(inspection.disk.virtualBytes, virtualBytes)
    }
  })
}

test('large disks without data are taken, and read in windows', async (t) => {
  const folder = await makeFolder(t)
  const kinds: [ImageFormat, string][] = [
    ['vmdk', 'subformat=monolithicSparse'],
    ['vhd', 'subformat=dynamic,force_size=on'],
    ['vhdx', 'subformat=dynamic'],
    ['vdi', 'static=off'],
  ]
  for (const [format, options] of kinds) {
    const path = join(folder, format)
    const qemuFormat = QEMU_NAME[format] ?? format
    await runTool('qemu-img', ['create', '-q', '-f', qemuFormat, '-o', options, path, '1T'])
    const inspection = await inspect(await fileSource(t, path), OPTIONS)
    assert.ok(inspection.is === 'disk')
    assert.equal(inspection.disk.virtualBytes, 2 ** 40)
  }
})

test('QEMU reads what is made by hand as it was made', async (t) => {
  const folder = await makeFolder(t)
  const grain = Buffer.from(sparseContent(65536, 7).subarray(0, 4096))
  const block = Buffer.alloc(MIB, 'block')
  const grains = new Map([
    [3, grain],
    [513, Buffer.alloc(4096, 9)],
  ])
  const disk = (sizeBytes: number, pieces: ReadonlyMap<number, Buffer>, pieceBytes: number) => {
    const content = Buffer.alloc(sizeBytes)
    for (const [index, bytes] of pieces) bytes.copy(content, index * pieceBytes)
    return content
  }
  const large = { capacitySectors: 8 * 1000 + 3, grains }
  const content = disk(large.capacitySectors * 512, grains, 4096)
  const blocks = new Map([[1, block]])
  const made: [ImageFormat, Buffer, Buffer][] = [
    ['vmdk', buildVmdk(large), content],
    ['vmdk', buildVmdk({ ...large, kind: 'streamOptimized' }), content],
    ['vmdk', buildVmdk({ ...large, kind: 'streamOptimized', hasFooter: false }), content],
    ['vhd', buildVhd({ blocks: new Map([[2, grain]]) }), disk(16384, new Map([[2, grain]]), 4096)],
    [
      'vhd',
      buildVhd({ type: 'fixed', blocks: new Map([[2, grain]]) }),
      disk(16384, new Map([[2, grain]]), 4096),
    ],
    ['vhdx', buildVhdx({ blocks }), disk(4 * MIB, blocks, MIB)],
    [
      'vdi',
      buildVdi({ places: new Map([[1, 0]]), fill: 3 }),
      disk(2 * MIB, new Map([[1, Buffer.alloc(MIB, 3)]]), MIB),
    ],
  ]
  for (const [format, file, expected] of made) {
    const [path, raw] = [join(folder, 'file'), join(folder, 'raw')]
    await writeFile(path, file)
    await runTool('qemu-img', ['convert', '-f', QEMU_NAME[format] ?? format, '-O', 'raw', path, raw])
    assert.ok((await readFile(raw)).equals(expected), format)
    const inspection = await inspect(bufferSource(file), OPTIONS)
    assert.ok(inspection.is === 'disk' && inspection.disk.format === format)
    assert.equal(inspection.disk.virtualBytes, expected.length)
  }
})

test('a VHD is as large as QEMU says, whoever wrote it, or it is refused', async (t) => {
  const folder = await makeFolder(t)
  // 16 KiB by its size, 8 KiB by its geometry.
  const geometry = [1, 4, 4] as const
  for (const creator of [
    'win ',
    'd2v ',
    'tap\0',
    'CTXS',
    'wa\0\0',
    'qem2',
    'vpc ',
    'qemu',
    'vbox',
    'vs  ',
    '\0\0\0\0',
  ]) {
    for (const type of ['fixed', 'dynamic'] as const) {
      const file = buildVhd({ creator, geometry, type })
      const path = join(folder, 'file')
      await writeFile(path, file)
      const { virtualBytes } = await qemuInfo(path, 'vpc')
      const found = await inspect(bufferSource(file), OPTIONS).catch(() => undefined)
      if (['wa\0\0', 'qemu', 'vbox', 'vs  ', '\0\0\0\0'].includes(creator))
        assert.equal(found, undefined, creator)
      else assert.ok(found?.is === 'disk' && found.disk.virtualBytes === virtualBytes, creator)
    }
  }
})
