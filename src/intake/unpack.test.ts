import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { sparseContent } from '../disk/fixture.ts'
import { PACKINGS, type Packing } from '../disk/formats/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { UnpackLimits } from './contract.ts'
import { unpack } from './unpack.ts'

const MIB = 1024 * 1024
const LIMITS: UnpackLimits = { sizeBytesMax: 1024 * MIB, ratioMax: 1000 }
const CONTENT = sparseContent(MIB)
const never = new AbortController().signal

/** What goes out of a tool's standard output when `content` goes in. */
function filter(command: string, args: readonly string[], content: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const pieces: Buffer[] = []
    child.stdout.on('data', (piece: Buffer) => void pieces.push(piece))
    child.once('error', reject)
    child.once('close', () => resolve(Buffer.concat(pieces)))
    child.stdin.end(content)
  })
}

async function pack(packing: Packing, content: Uint8Array): Promise<Buffer> {
  if (packing === 'gzip') return gzipSync(content)
  // As the tool does; without it, a changed byte of a raw block is nobody's to find.
  const params = { [constants.ZSTD_c_checksumFlag]: 1 }
  return packing === 'zstd'
    ? zstdCompressSync(content, { params })
    : await filter('xz', ['-1', '-c'], content)
}

async function* pieces(bytes: Uint8Array, pieceBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
}

async function unpackAll(
  packed: Uint8Array | AsyncIterable<Uint8Array>,
  packing: Packing,
  limits = LIMITS,
): Promise<Buffer> {
  const out: Buffer[] = []
  const source = packed instanceof Uint8Array ? pieces(packed) : packed
  for await (const piece of unpack(source, packing, limits, never)) {
    assert.ok(piece.length > 0 && piece.length <= MIB)
    out.push(Buffer.from(piece))
  }
  return Buffer.concat(out)
}

const refused = (reason: string) => (error: unknown) => {
  assert.ok(isFault(error, 'invalid'), String(error))
  assert.equal(error.subject, 'file')
  assert.equal(error.reason, reason, error.message)
  return true
}

/** Of a packed stream, endlessly: what a bomb repeats. */
async function bombOf(packing: Packing): Promise<AsyncGenerator<Uint8Array>> {
  const member = await pack(packing, Buffer.alloc(32 * MIB))
  return (async function* () {
    for (;;) yield member
  })()
}

async function xzProcessIds(): Promise<string[]> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    names.map(async (name) => {
      const [line, status] = await Promise.all(
        ['cmdline', 'status'].map((file) => readFile(`/proc/${name}/${file}`, 'utf8').catch(() => '')),
      )
      const isOurs = status?.includes(`PPid:\t${process.pid}\n`) && line?.startsWith('xz\0')
      return isOurs ? [name] : []
    }),
  )
  return found.flat()
}

for (const packing of PACKINGS) {
  test(`${packing}: one member and several come out as they went in`, async () => {
    const one = await pack(packing, CONTENT)
    assert.ok((await unpackAll(one, packing)).equals(CONTENT))
    const twice = Buffer.concat([one, one])
    assert.ok((await unpackAll(twice, packing)).equals(Buffer.concat([CONTENT, CONTENT])))
    assert.ok((await unpackAll(pieces(twice, one.length), packing)).equals(Buffer.concat([CONTENT, CONTENT])))
    const small = await pack(packing, Buffer.from('ab'))
    assert.equal(String(await unpackAll(pieces(Buffer.concat([small, small]), 1), packing)), 'abab')
    assert.equal((await unpackAll(await pack(packing, Buffer.alloc(0)), packing)).length, 0)
  })

  test(`${packing}: what is cut off, changed or followed by anything is refused`, async () => {
    const one = await pack(packing, CONTENT)
    for (const lengthBytes of [0, 5, one.length >> 1, one.length - 1]) {
      await assert.rejects(unpackAll(one.subarray(0, lengthBytes), packing), refused('packing'))
    }
    const changed = Buffer.from(one)
    changed[one.length >> 1] = (changed[one.length >> 1] ?? 0) ^ 0xff
    await assert.rejects(unpackAll(changed, packing), refused('packing'))
    for (const tail of [Buffer.from('x'), Buffer.alloc(513), one.subarray(0, 9)]) {
      await assert.rejects(unpackAll(Buffer.concat([one, tail]), packing), refused('packing'))
    }
    const apart = (async function* () {
      yield one
      yield Buffer.from('garbage')
    })()
    await assert.rejects(unpackAll(apart, packing), refused('packing'))
  })

  test(`${packing}: a bomb is cut at either limit, with flat memory`, async () => {
    const before = process.memoryUsage.rss()
    let most = before
    const wanted = { sizeBytesMax: 10 * 1024 * MIB, ratioMax: 100 }
    const measure = async (limits: UnpackLimits) => {
      let bytes = 0
      for await (const piece of unpack(await bombOf(packing), packing, limits, never)) {
        bytes += piece.length
        most = Math.max(most, process.memoryUsage.rss())
        assert.ok(bytes <= limits.sizeBytesMax)
      }
    }
    await assert.rejects(measure(wanted), refused('too-large'))
    await assert.rejects(measure({ sizeBytesMax: 256 * MIB, ratioMax: 1e9 }), refused('too-large'))
    assert.ok(most - before < 192 * MIB, `${(most - before) / MIB} MiB more`)
    assert.deepEqual(await xzProcessIds(), [])
  })

  test(`${packing}: what the source throws passes through, and an abort ends all`, async () => {
    const one = await pack(packing, CONTENT)
    const lost = new Fault('unavailable', 'The source is lost.')
    for (const lengthBytes of [0, one.length >> 1, one.length]) {
      const broken = (async function* () {
        yield one.subarray(0, lengthBytes)
        throw lost
      })()
      await assert.rejects(unpackAll(broken, packing), (error) => error === lost)
    }

    const abort = new AbortController()
    const stuck = (async function* () {
      yield one.subarray(0, one.length >> 1)
      await new Promise(() => {})
    })()
    const reading = (async () => {
      for await (const _ of unpack(stuck, packing, LIMITS, abort.signal)) abort.abort(new Error('enough'))
    })()
    await assert.rejects(reading, /enough/)
    assert.deepEqual(await xzProcessIds(), [])
  })

  test(`${packing}: who leaves early leaves nothing behind`, async () => {
    let isReturned = false
    const bomb = await bombOf(packing)
    const source = (async function* () {
      try {
        yield* bomb
      } finally {
        isReturned = true
      }
    })()
    for await (const piece of unpack(source, packing, LIMITS, never)) {
      assert.ok(piece.length > 0)
      break
    }
    assert.deepEqual(await xzProcessIds(), [])
    while (!isReturned) await new Promise((resolve) => setImmediate(resolve))
  })
}

test('zstd: skippable frames are skipped, and a window over 128 MiB is refused', async () => {
  const one = zstdCompressSync(CONTENT)
  const skipped = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3])
  const all = Buffer.concat([skipped, one, skipped])
  assert.ok((await unpackAll(all, 'zstd')).equals(CONTENT))
  // A frame whose header wants 2^30 bytes, with one empty block.
  const wide = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 1, 0, 0])
  await assert.rejects(
    unpackAll(wide, 'zstd'),
    (error) => refused('packing')(error) && /window/.test(String(error)),
  )
})

test('xz: a dictionary over 128 MiB is refused; padding between streams is as its format has it', async () => {
  const large = await filter('xz', ['--lzma2=preset=0,dict=512MiB', '-c'], CONTENT)
  await assert.rejects(
    unpackAll(large, 'xz'),
    (error) => refused('packing')(error) && /dictionary/.test(String(error)),
  )
  const one = await pack('xz', CONTENT)
  const padded = Buffer.concat([one, Buffer.alloc(8), one])
  assert.equal((await unpackAll(padded, 'xz')).length, 2 * CONTENT.length)
})

test('xz runs without rights, and as another user where the service is root', async () => {
  const one = await pack('xz', Buffer.alloc(32 * MIB))
  let text = ''
  for await (const piece of unpack(pieces(one), 'xz', LIMITS, never)) {
    assert.ok(piece.length > 0)
    const [pid] = await xzProcessIds()
    assert.ok(pid !== undefined)
    text = await readFile(`/proc/${pid}/status`, 'utf8')
    break
  }
  assert.match(text, /^NoNewPrivs:\t1$/m)
  if (process.getuid?.() === 0) assert.match(text, /^Uid:\t(?!0\t)/m)
})

test('only one layer is taken off: what is packed twice comes out packed', async () => {
  const inner = gzipSync(CONTENT)
  assert.ok((await unpackAll(zstdCompressSync(inner), 'zstd')).equals(inner))
})
