import assert from 'node:assert/strict'
import { createHash, hash, randomBytes } from 'node:crypto'
import { mkdtemp, open, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { runTool } from '../../disk/fixture.ts'
import { EXPORT_FORMATS, type ExportFormat } from '../../disk/layouts/contract.ts'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { serveNbd } from '../../disk/nbd-server.ts'
import { isFault } from '../../image/fault.ts'
import type { Digest, RegionId } from '../../image/ids.ts'
import type { ExportJob } from '../store-jobs.ts'
import { Exports } from './export.ts'
import { SLAB_BYTES } from './export-runs.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'
import type { RegionPlace } from './region.ts'

const REGION = 'cn-hangzhou' as RegionId
const MIB = 1024 * 1024
const never = new AbortController().signal

/** Data, a long hole, data that is not a whole number of anything, a chunk that is there twice. */
const twice = randomBytes(256 * 1024)
const disk = Buffer.concat([
  randomBytes(10 * MIB),
  twice,
  Buffer.alloc(14 * MIB - 512),
  Buffer.from('somewhere'),
  Buffer.alloc(3 * MIB + 512 - 9),
  twice,
  randomBytes(5 * MIB + 512),
])

/** A piece is good until the next one is asked for. */
async function all(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(body, (piece) => Buffer.from(piece)))
}

describe('exporting in threads', () => {
  let folder: string
  let place: RegionPlace
  let digest: Digest
  let exports: Exports

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'export-'))
    const socketPath = join(folder, 'disk.sock')
    place = {
      regionId: REGION,
      objects: { kind: 'directory', folder: join(folder, 'objects') },
      indexPath: join(folder, 'index', 'index.db'),
      domainsKey: new Uint8Array(randomBytes(32)),
      regionKey: new Uint8Array(randomBytes(32)),
      isEncrypting: true,
    }
    const server = await serveNbd({ listen: { socketPath }, resolve: async () => memoryDisk(disk) })
    const nbdSocketPath = join(folder, 'images.sock')
    const jobs = createJobs({
      places: [place],
      bundleSeed: new Uint8Array(32),
      threadCount: 1,
      nbdSocketPath,
      log: () => {},
    })
    try {
      await jobs.prepare()
      const source = { sizeBytes: disk.length, bus: 'virtio-blk' as const, socketPath }
      const disks = [{ ...source, exportName: 'a', mapName: 'a' }]
      digest = (await writeOne(jobs, imageJob(REGION, 's1', disks))).digest
    } finally {
      await jobs.close()
      await server.close()
    }
  })
  after(() => rm(folder, { recursive: true }))
  beforeEach(() => {
    exports = new Exports({ threadCount: 2 })
  })
  afterEach(() => exports.close())

  const jobOf = (format: ExportFormat): ExportJob => ({ regionId: REGION, digest, diskIndex: 0, format })
  const range = (format: ExportFormat, offset: number, lengthBytes: number, sha256 = false, signal = never) =>
    exports.bytes(place, jobOf(format), { is: 'range', offset, lengthBytes, sha256 }, signal)
  const whole = async (format: ExportFormat) => {
    const sizeBytes = await exports.size(place, jobOf(format), never)
    const bytes = await all((await range(format, 0, sizeBytes)).body)
    assert.equal(bytes.length, sizeBytes)
    return bytes
  }

  for (const format of EXPORT_FORMATS) {
    test(`${format}: the disk is in it, packed it is the same, and so is its digest`, async () => {
      const bytes = await whole(format)
      if (format === 'raw') assert.ok(bytes.equals(disk))
      const rawPath = join(folder, 'raw')
      const path = join(folder, 'exported')
      await writeFile(rawPath, disk)
      await writeFile(path, bytes)
      await runTool('qemu-img', ['compare', '-f', 'raw', '-F', format, rawPath, path])

      const { sha256, body } = await exports.bytes(place, jobOf(format), { is: 'packed' }, never)
      assert.equal(sha256, undefined)
      const packed = await all(body)
      assert.ok(packed.length < bytes.length)
      await writeFile(`${path}.zst`, packed)
      await runTool('zstd', ['-q', '-d', '-f', `${path}.zst`, '-o', `${path}.plain`])
      await runTool('cmp', [path, `${path}.plain`])
      assert.ok((zstdDecompressSync(packed) as Buffer).equals(bytes))

      const seen: number[] = []
      const onBytes = ({ doneBytes }: { doneBytes: number }) => seen.push(doneBytes)
      const found = await exports.digest(place, jobOf(format), onBytes, never)
      assert.deepEqual(found, { sizeBytes: bytes.length, sha256: hash('sha256', bytes) })
      assert.equal(seen.at(-1), bytes.length)
    })
  }

  test('any range is what it is in the whole, with its digest', async () => {
    const bytes = await whole('qcow2')
    for (const [offset, lengthBytes] of [
      [0, 1],
      [65535, 2],
      [0, bytes.length],
      [3 * MIB + 17, 2 * MIB],
      [bytes.length - 513, 513],
      [bytes.length, 0],
    ] as const) {
      const expected = bytes.subarray(offset, offset + lengthBytes)
      assert.ok((await all((await range('qcow2', offset, lengthBytes)).body)).equals(expected))
      const { sha256, body } = await range('qcow2', offset, lengthBytes, true)
      assert.deepEqual(sha256, createHash('sha256').update(expected).digest())
      assert.ok((await all(body)).equals(expected))
    }
  })

  test('ranges of nothing but zeroes have their digest, each time and whatever their length', async () => {
    for (const [offset, lengthBytes] of [
      [11 * MIB, 8 * MIB],
      [12 * MIB, 8 * MIB],
      [12 * MIB, 5 * MIB],
      [11 * MIB, 8 * MIB],
      // Data before it: not what was hashed last, though it is as long.
      [10 * MIB, 8 * MIB],
    ] as const) {
      const { sha256, body } = await range('raw', offset, lengthBytes, true)
      const expected = disk.subarray(offset, offset + lengthBytes)
      assert.deepEqual(sha256, createHash('sha256').update(expected).digest())
      assert.ok((await all(body)).equals(expected))
    }
  })

  test('many readers at once have each their own bytes', async () => {
    const parts = await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        const { sha256, body } = await range('raw', i * MIB, 20 * MIB, i % 2 === 0)
        const bytes = await all(body)
        if (sha256 !== undefined) assert.deepEqual(sha256, createHash('sha256').update(bytes).digest())
        return bytes
      }),
    )
    for (const [i, bytes] of parts.entries()) assert.ok(bytes.equals(disk.subarray(i * MIB, (i + 20) * MIB)))
  })

  test('one that is left early or cancelled takes nothing from the others', async () => {
    const abort = new AbortController()
    const reason = new Error('cancelled')
    const cancelled = (await range('raw', 0, disk.length, false, abort.signal)).body
    const other = (await range('raw', 0, disk.length)).body
    for await (const _slab of (await range('vhdx', 0, 4 * MIB)).body) break
    await assert.rejects(async () => {
      for await (const _slab of cancelled) abort.abort(reason)
    }, reason)
    assert.ok((await all(other)).equals(disk))
    await assert.rejects(range('raw', 0, 512, false, abort.signal), reason)
  })

  test('what is not there is told at once', async () => {
    const absent = { ...jobOf('raw'), digest: '0'.repeat(64) as Digest }
    await assert.rejects(
      exports.size(place, absent, never),
      (error) => isFault(error, 'absent') && error.subject === 'image',
    )
    await assert.rejects(
      exports.bytes(place, { ...jobOf('raw'), diskIndex: 1 }, { is: 'packed' }, never),
      (error) => isFault(error, 'absent') && error.subject === 'disk',
    )
  })

  test('threads that were ended are followed by others', async () => {
    const { body } = await range('raw', 0, disk.length)
    await assert.rejects(
      async () => {
        for await (const _slab of body) await exports.close()
      },
      (error) => isFault(error, 'unavailable'),
    )
    assert.ok((await whole('raw')).equals(disk))
  })

  test('damage ends the stream where it is, and names the byte', async () => {
    const objects = join(folder, 'objects')
    const names = await readdir(objects, { recursive: true })
    const packs = names.filter((name) => name.includes('pack') && /[0-9a-f]{64}$/.test(name))
    const sizes = await Promise.all(packs.map(async (name) => (await stat(join(objects, name))).size))
    const smallest = Math.min(...sizes)
    // The one that was written last, when there was no more to come: the slabs before it are whole.
    const last = packs[sizes.indexOf(smallest)]
    assert.ok(packs.length > 1 && last !== undefined)
    const file = await open(join(objects, last), 'r+')
    await file.write(Buffer.alloc(64, 0xaa), 0, 64, Math.floor(smallest / 2))
    await file.close()
    const isCorrupt = (error: unknown) => isFault(error, 'corrupt')
    let doneBytes = 0
    const isAtByte = (error: unknown) => {
      const [, byte] = /^Disk 0 cannot be exported at byte (\d+): /.exec((error as Error).message) ?? []
      const aheadBytes = Number(byte) - doneBytes
      return isCorrupt(error) && aheadBytes > -256 * 1024 && aheadBytes < SLAB_BYTES
    }
    await assert.rejects(async () => {
      for await (const slab of (await range('raw', 0, disk.length)).body) {
        assert.ok(Buffer.from(slab).equals(disk.subarray(doneBytes, doneBytes + slab.length)))
        doneBytes += slab.length
      }
    }, isAtByte)
    assert.ok(doneBytes > 0)
    const digest = exports.digest(place, jobOf('raw'), () => {}, never)
    await assert.rejects(digest, isCorrupt)
    await assert.rejects(range('raw', disk.length - 30 * MIB, 30 * MIB, true), isCorrupt)
  })
})
