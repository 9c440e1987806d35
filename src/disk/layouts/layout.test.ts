import assert from 'node:assert/strict'
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../../image/fault.ts'
import { runTool } from '../fixture.ts'
import { inspect } from '../formats/inspect.ts'
import { EXPORT_FORMATS, type ExportFormat } from './contract.ts'
import { crc32c } from './crc32c.ts'
import { cut } from './cut.ts'
import { bytesOf, type ToyDisk, toyDisk, writeFileOf } from './layout.fixture.ts'
import { makeLayout } from './layout.ts'

const KIB = 1024
const MIB = 1024 ** 2
const GIB = 1024 ** 3
const TIB = 1024 ** 4
/** What qemu-img has no check for. */
const UNCHECKED: readonly ExportFormat[] = ['raw']

const disks: Readonly<Record<string, ToyDisk>> = {
  'empty, 1 MiB': toyDisk(MIB, []),
  'full, 1 MiB': toyDisk(MIB, [[0, MIB]]),
  'full, 9 MiB and a sector': toyDisk(9 * MIB + 512, [[0, 9 * MIB + 512]]),
  'one sector': toyDisk(512, [[0, 512]]),
  'data in the last sector of 100 MiB': toyDisk(100 * MIB + 512, [[100 * MIB, 512]]),
  'odd places in 100 MiB': toyDisk(100 * MIB, [
    [512, 512],
    [64 * KIB - 512, 1024],
    [3 * MIB + 1536, 300 * KIB],
    [33 * MIB, 256 * KIB],
    [64 * MIB - 4096, 8192],
    [99 * MIB + 512, MIB - 512],
  ]),
  'several tables of 600 MiB': toyDisk(600 * MIB, [
    [0, 64 * KIB],
    [511 * MIB + 960 * KIB, 128 * KIB],
    [599 * MIB, MIB],
  ]),
}

/** Looked at where there is data alone: qemu-img would read all of a vhdx. */
const largeDisks: Readonly<Record<string, ToyDisk>> = {
  '9 GiB, behind the bitmaps of a vhdx': toyDisk(9 * GIB + 512, [
    [4 * GIB - 64 * KIB, 128 * KIB],
    [8 * GIB - MIB, MIB],
    [9 * GIB, 512],
  ]),
  '10 TiB with data in three places': toyDisk(10 * TIB, [
    [0, MIB],
    [5 * TIB - 4 * KIB, 256 * KIB],
    [10 * TIB - 64 * KIB, 64 * KIB],
  ]),
}

describe('files in the formats of others', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'layout-'))
  })
  after(() => rm(folder, { recursive: true }))

  /** The disk as a raw file, and as one of the format that qemu-img has nothing to say against. */
  async function write(format: ExportFormat, disk: ToyDisk) {
    const layout = makeLayout(format, disk)
    const path = join(folder, `disk.${format}`)
    await writeFileOf(layout, disk, path)
    assert.equal((await stat(path)).size, layout.sizeBytes)
    const info = JSON.parse(await runTool('qemu-img', ['info', '--output=json', '-f', format, path]))
    assert.equal(info['virtual-size'], disk.sizeBytes)
    if (!UNCHECKED.includes(format)) {
      const check = JSON.parse(await runTool('qemu-img', ['check', '--output=json', '-f', format, path]))
      assert.equal(check['check-errors'], 0)
      assert.equal(check.corruptions, undefined)
      assert.equal(check.leaks, undefined)
    }
    await accept(format, path, disk.sizeBytes)
    const rawPath = join(folder, 'disk')
    await writeFileOf(makeLayout('raw', disk), disk, rawPath)
    return { path, rawPath, lengthBytes: layout.sizeBytes }
  }

  /** Our own inspector lets it in again. */
  async function accept(format: ExportFormat, path: string, virtualBytes: number): Promise<void> {
    const file = await open(path)
    try {
      const { size } = await file.stat()
      const source = {
        sizeBytes: size,
        async read(offset: number, lengthBytes: number) {
          const bytes = Buffer.alloc(lengthBytes)
          assert.equal((await file.read(bytes, 0, lengthBytes, offset)).bytesRead, lengthBytes)
          return bytes
        },
      }
      const found = await inspect(source, { declared: format, virtualBytesMax: 64 * TIB })
      assert.ok(found.is === 'disk')
      assert.deepEqual([found.disk.format, found.disk.virtualBytes], [format, virtualBytes])
    } finally {
      await file.close()
    }
  }

  for (const format of EXPORT_FORMATS) {
    for (const [name, disk] of Object.entries(disks)) {
      test(`${format}: ${name}`, async () => {
        const { path, rawPath } = await write(format, disk)
        await runTool('qemu-img', ['compare', '-f', 'raw', '-F', format, rawPath, path])
        await rm(path)
      })
    }
  }
  for (const format of ['qcow2', 'vhdx'] as const) {
    for (const [name, disk] of Object.entries(largeDisks)) {
      test(`${format}: ${name}`, async () => {
        const { path, rawPath, lengthBytes } = await write(format, disk)
        assert.ok(lengthBytes < 150 * MIB)
        for (const { offset } of disk.extents) {
          const from = Math.max(0, offset - MIB)
          const part = `driver=raw,offset=${from},size=${Math.min(2 * MIB, disk.sizeBytes - from)}`
          await runTool('qemu-img', [
            ...['compare', '--image-opts', `${part},file.driver=file,file.filename=${rawPath}`],
            `${part},file.driver=${format},file.file.driver=file,file.file.filename=${path}`,
          ])
        }
        await rm(path)
      })
    }
  }
})

describe('layouts', () => {
  test('the first of the raw file is a file of its own', () => {
    const disk = disks['odd places in 100 MiB'] as ToyDisk
    assert.deepEqual(bytesOf(makeLayout('raw', disk), disk, 0, 4 * MIB), disk.read(0, 4 * MIB))
  })

  const runs = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 600 })), { maxLength: 12 })
    .map((steps) => {
      let at = 0
      return steps.map(([gap, length]) => {
        const offset = at + gap * 512
        at = offset + length * 512
        return [offset, length * 512] as const
      })
    })

  for (const format of EXPORT_FORMATS) {
    test(`${format}: any split into ranges gives the same bytes`, () => {
      const seed = Date.now() % 2 ** 31
      console.log(`seed ${seed}`)
      fc.assert(
        fc.property(
          runs,
          fc.integer({ min: 0, max: 500 }),
          fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
          (data, tail, splits) => {
            const last = data.at(-1)
            const disk = toyDisk((last === undefined ? 512 : last[0] + last[1]) + tail * 512, data)
            const layout = makeLayout(format, disk)
            const whole = bytesOf(layout, disk, 0, layout.sizeBytes)
            assert.equal(whole.length, layout.sizeBytes)
            const places = splits.map((share) => Math.floor(share * layout.sizeBytes))
            const ends = [...places, layout.sizeBytes].sort((a, b) => a - b)
            let at = 0
            for (const end of ends) {
              const part = bytesOf(layout, disk, at, end - at)
              assert.ok(part.equals(whole.subarray(at, end)))
              at = end
            }
          },
        ),
        { numRuns: 15, seed },
      )
    })

    test(`${format}: every byte of the tables, one by one`, () => {
      const disk = disks['odd places in 100 MiB'] as ToyDisk
      const made = makeLayout(format, disk).segments.filter((segment) => segment.is === 'made')
      for (const segment of made) {
        const lengthBytes = Math.min(segment.lengthBytes, 8192)
        const whole = segment.make(0, lengthBytes)
        for (let at = 0; at < lengthBytes; at++) assert.equal(segment.make(at, 1)[0], whole[at])
      }
    })

    test(`${format}: nothing of a layout reads behind the disk's end`, () => {
      for (const disk of Object.values(disks)) {
        for (const segment of makeLayout(format, disk).segments) {
          if (segment.is === 'disk') assert.ok(segment.diskOffset + segment.lengthBytes <= disk.sizeBytes)
        }
      }
    })
  }

  test('a seed fixes every byte, and another one changes the ids', () => {
    const disk = disks['full, 1 MiB'] as ToyDisk
    const other = { ...disk, seed: Buffer.alloc(16, 8) }
    for (const format of ['vmdk', 'vhdx'] as const) {
      const bytes = bytesOf(makeLayout(format, disk), disk, 0, MIB)
      assert.deepEqual(bytesOf(makeLayout(format, { ...disk }), disk, 0, MIB), bytes)
      assert.notDeepEqual(bytesOf(makeLayout(format, other), disk, 0, MIB), bytes)
    }
  })

  test('tables of 64 TiB are made where they are asked for', () => {
    const full = toyDisk(64 * TIB, [[0, 64 * TIB]])
    for (const format of ['raw', 'qcow2', 'vhdx'] as const) {
      const layout = makeLayout(format, full)
      assert.ok(layout.segments.length < 12)
      for (const piece of cut(layout, Math.max(0, layout.sizeBytes - 64 * TIB - MIB), MIB)) {
        if (piece.is === 'made') assert.equal(piece.make().length, piece.lengthBytes)
      }
    }
  })

  test('a disk that does not fit a format is refused with those that it fits', () => {
    const refused = (format: ExportFormat, disk: ToyDisk, others: RegExp) =>
      assert.throws(
        () => makeLayout(format, disk),
        (error) =>
          isFault(error, 'invalid') &&
          error.subject === 'file' &&
          error.reason === 'too-large' &&
          others.test(error.message),
      )
    refused('vmdk', toyDisk(2 * TIB + 512, []), /as qcow2, vhdx or raw/)
    refused('vmdk', toyDisk(2 * TIB, [[0, 2 * TIB]]), /as qcow2, vhdx or raw/)
    refused('vhdx', toyDisk(64 * TIB + 512, []), /as qcow2 or raw/)
    assert.equal(makeLayout('vmdk', toyDisk(2 * TIB, [])).format, 'vmdk')
  })

  test('CRC-32C is that of the RFC', () => {
    // RFC 3720, B.4: 32 bytes of zeroes, of ones, rising.
    assert.equal(crc32c(Buffer.alloc(32)), 0x8a91_36aa)
    assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8_ab43)
    assert.equal(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i))), 0x46dd_794e)
  })
})
