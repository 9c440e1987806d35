import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { Image } from '../image/image.ts'
import { fakeImage } from '../wire/native/fixture-nouns.ts'
import { type MemoryIoOptions, type Ran, startServer, type TestServer } from './fixture.ts'
import { startProxy, type TestProxy } from './fixture-proxy.ts'

const MIB = 1024 ** 2
const RANGE_BYTES = 1 * MIB
/** Three whole ranges and a part; data here and there, an odd length. */
const FILE_BYTES = 3 * RANGE_BYTES + 5000

function sparseContent(): Buffer {
  const bytes = Buffer.alloc(FILE_BYTES)
  for (const at of [0, 8 * 4096, RANGE_BYTES - 100, 2 * RANGE_BYTES + 70_000])
    randomBytes(200).copy(bytes, at)
  return bytes
}

let server: TestServer
let proxy: TestProxy
let folder: string
let image: Image
let file: string
let content: Buffer
const home = process.cwd()
beforeEach(async () => {
  server = await startServer()
  proxy = await startProxy(server.url)
  folder = mkdtempSync(join(tmpdir(), 'calotype-export-'))
  file = join(folder, 'out.qcow2')
  image = fakeImage({ disks: [{ index: 0, sizeBytes: 4096, bus: 'virtio-blk' }] })
  server.fake.images.set(image.id, image)
  content = sparseContent()
  server.fake.transfers.exported = content
})
afterEach(async () => {
  process.chdir(home)
  await proxy.close()
  await server.gateway.close()
  rmSync(folder, { recursive: true })
})

const runWith = (options: MemoryIoOptions, ...argv: string[]): Promise<Ran> =>
  server.runWith({ ...options, environment: { CALOTYPE_ENDPOINT: proxy.url } }, 'image', ...argv)
const run = (...argv: string[]) => runWith({}, ...argv)
const packed = () => ['export', `img-${image.id}`, '--format', 'raw', '-o', file, '--compress', 'zstd']
const exported = (...more: string[]) => [
  'export',
  `img-${image.id}`,
  '--format',
  'qcow2',
  '-o',
  file,
  '--part-size',
  '1MiB',
  ...more,
]
const ranges = () => proxy.passed.flatMap(({ headers }) => headers.range ?? [])
const exportInputs = () =>
  server.fake.calls
    .filter((call) => call.name === 'exports.create')
    .map((call) => call.input as { what: object })

test('a disk is written with its holes left out, and has its name once it is whole', async () => {
  proxy.trouble = () => void assert.ok(!existsSync(file))
  const { exitCode, stdout, stderr } = await run(...exported())
  assert.equal(exitCode, 0, stderr)
  assert.equal(stdout, `${file} is disk 0 of img-${image.id}, 3.0 MiB.\n`)
  assert.ok(readFileSync(file).equals(content))
  assert.ok(statSync(file).blocks * 512 < 100_000)
  assert.deepEqual(readdirSync(folder), ['out.qcow2'])
  assert.deepEqual(exportInputs()[0]?.what, {
    is: 'disk',
    diskIndex: 0,
    format: 'qcow2',
    compress: undefined,
  })
  assert.equal(ranges().length, 4)
  assert.match(stderr, /download .*out\.qcow2 {2}0 % {2}0 B of 3\.0 MiB\n/)
  assert.match(stderr, /100 % {2}3\.0 MiB of 3\.0 MiB/)
})

test('pieces go over a few connections that stay open', async () => {
  const ports = new Set<number | undefined>()
  proxy.trouble = ({ headers, port }) => {
    if (headers.range !== undefined) ports.add(port)
    return undefined
  }
  assert.equal((await run(...exported('--part-size', '64KiB'))).exitCode, 0)
  assert.equal(ranges().length, 49)
  assert.ok(ports.size <= 4, `${ports.size} connections`)
  assert.ok(readFileSync(file).equals(content))
})

test('zeroes at the end are part of the file', async () => {
  content = Buffer.concat([randomBytes(10), Buffer.alloc(3 * MIB)])
  server.fake.transfers.exported = content
  assert.equal((await run(...exported('--format', 'raw'))).exitCode, 0)
  assert.ok(readFileSync(file).equals(content))
})

test('what is there is replaced with --force alone', async () => {
  writeFileSync(file, 'mine')
  const kept = await run(...exported())
  assert.deepEqual([kept.exitCode, /is there already\. .*--force/.test(kept.stderr)], [2, true])
  assert.equal(exportInputs().length, 0)
  assert.equal(readFileSync(file, 'utf8'), 'mine')
  assert.equal((await run(...exported('--force'))).exitCode, 0)
  assert.ok(readFileSync(file).equals(content))
})

test('broken connections, damage and a busy server are got over', async () => {
  proxy.trouble = ({ headers, index }) => {
    if (headers.range === undefined) return undefined
    if (index === 1) return { is: 'cut', when: 'before' }
    if (index === 2) return { is: 'cut-answer', afterBytes: 10_000 }
    if (index === 3) return { is: 'damage', what: 'answer' }
    if (index === 4)
      return { is: 'answer', status: 503, text: '{"error":{"kind":"unavailable","message":"busy"}}' }
    return undefined
  }
  const { exitCode, stderr } = await run(...exported())
  assert.equal(exitCode, 0, stderr)
  assert.ok(readFileSync(file).equals(content))
})

test('a piece that comes damaged twice, or without a digest, is not taken', async () => {
  const at = `bytes=${2 * RANGE_BYTES}-${3 * RANGE_BYTES - 1}`
  proxy.trouble = ({ headers }) => (headers.range === at ? { is: 'damage', what: 'answer' } : undefined)
  const twice = await run(...exported())
  assert.equal(twice.exitCode, 1)
  assert.match(
    twice.stderr,
    /calotype: The same piece came damaged twice\. .*Stopped at 2 MiB\. What came is in .*out\.qcow2\.part: run the same/,
  )
  assert.equal(ranges().filter((range) => range === at).length, 2)
  assert.deepEqual(readdirSync(folder).sort(), ['out.qcow2.part', 'out.qcow2.part.json'])
  proxy.trouble = ({ headers }) =>
    headers.range === undefined ? undefined : { is: 'drop-header', name: 'content-digest' }
  const none = await run(...exported())
  assert.deepEqual([none.exitCode, /does not say the digest/.test(none.stderr)], [1, true])
  assert.ok(!existsSync(file))
})

test('the same command goes on with what came, if it is still the same', async () => {
  const stopAt = async (start: number) => {
    const pressed = new AbortController()
    proxy.trouble = ({ headers }) => {
      if (headers.range?.startsWith(`bytes=${start}-`)) {
        // Not before the ones in front of it are written.
        const timer = setInterval(() => {
          if ((statSync(`${file}.part`, { throwIfNoEntry: false })?.size ?? 0) < start - RANGE_BYTES) return
          clearInterval(timer)
          pressed.abort()
        }, 5)
        return new Promise((resolve) => pressed.signal.addEventListener('abort', () => resolve(undefined)))
      }
      return undefined
    }
    const stopped = await runWith({ interrupt: pressed.signal }, ...exported())
    proxy.trouble = () => undefined
    proxy.passed.length = 0
    return stopped
  }
  const stopped = await stopAt(2 * RANGE_BYTES)
  assert.equal(stopped.exitCode, 130)
  assert.match(
    stopped.stderr,
    /calotype: Stopped at (0 B|[12] MiB)\. What came is in .*out\.qcow2\.part: run the same command again to go on\.\n$/,
  )
  const note = JSON.parse(readFileSync(`${file}.part.json`, 'utf8'))
  assert.ok(note.doneBytes >= RANGE_BYTES && note.sizeBytes === FILE_BYTES)
  const { exitCode, stderr } = await run(...exported())
  assert.equal(exitCode, 0, stderr)
  assert.ok(!ranges().includes(`bytes=0-${RANGE_BYTES - 1}`))
  assert.ok(readFileSync(file).equals(content))
  assert.deepEqual(readdirSync(folder), ['out.qcow2'])
  // Of another content nothing may stay behind in the holes.
  await stopAt(2 * RANGE_BYTES)
  rmSync(file, { force: true })
  content = Buffer.alloc(FILE_BYTES)
  server.fake.transfers.exported = content
  assert.equal((await run(...exported())).exitCode, 0)
  assert.equal(ranges().length, 4)
  assert.ok(readFileSync(file).equals(content))
})

test('a file that another process is writing is left to it', async () => {
  const note = { etag: '"x"', sizeBytes: FILE_BYTES, doneBytes: 0, processId: process.ppid }
  writeFileSync(`${file}.part.json`, JSON.stringify(note))
  const { exitCode, stderr } = await run(...exported())
  assert.deepEqual([exitCode, /Process \d+ is writing .*out\.qcow2\.part/.test(stderr)], [1, true])
  for (const text of ['', '[]', '{"etag":1}', JSON.stringify({ ...note, doneBytes: -1 }), '{']) {
    writeFileSync(`${file}.part.json`, text)
    assert.equal((await run(...exported('--force'))).exitCode, 0)
  }
})

test('a link that is no longer good is asked for again', async () => {
  proxy.trouble = ({ headers, index }) => {
    if (headers.range !== undefined && index === 2) server.fake.transfers.exports.clear()
    return undefined
  }
  const { exitCode, stderr } = await run(...exported())
  assert.equal(exitCode, 0, stderr)
  assert.ok(readFileSync(file).equals(content))
  assert.ok(exportInputs().length >= 2)
})

test('content that changes on the way ends it', async () => {
  proxy.trouble = ({ headers }) => {
    if (headers.range?.startsWith(`bytes=${2 * RANGE_BYTES}-`)) {
      server.fake.transfers.exported = Buffer.alloc(FILE_BYTES)
    }
    return undefined
  }
  const { exitCode, stderr } = await run(...exported())
  assert.deepEqual([exitCode, /no longer what it was when the download began/.test(stderr)], [1, true])
  assert.ok(!existsSync(file))
})

test('a server that is gone ends it after ten tries', async () => {
  proxy.trouble = ({ headers }) => (headers.range === undefined ? undefined : { is: 'cut', when: 'before' })
  const { exitCode, stderr } = await run(...exported())
  assert.deepEqual([exitCode, /Cannot reach the server .*What came is in /.test(stderr)], [3, true])
  // And once more at once: the connection that the HEAD left open might only have been closed for its age.
  assert.equal(ranges().filter((range) => range.startsWith('bytes=0-')).length, 11)
})

test('what the server says against a download is told, though a HEAD has no words', async () => {
  const damaged = new Fault('corrupt', 'A chunk is damaged. Repair the region: calotype store scrub', {
    subject: 'file',
  })
  const { open } = server.fake.app.exports
  server.fake.app.exports.open = () => Promise.reject(damaged)
  const { exitCode, stderr } = await run(...exported())
  assert.equal(exitCode, 1)
  assert.match(stderr, /calotype: A chunk is damaged\. Repair the region: calotype store scrub \(request/)
  server.fake.app.exports.open = open
  server.fake.failNext('exports.create', new Fault('conflict', 'It is being made.', { subject: 'image' }))
  const early = await run(...exported())
  assert.deepEqual([early.exitCode, /calotype: It is being made\./.test(early.stderr)], [1, true])
})

test('standard output gets the bytes in order, and nothing else', async () => {
  proxy.trouble = ({ headers, index }) =>
    headers.range !== undefined && index === 1 ? { is: 'cut', when: 'before' } : undefined
  const { exitCode, bytes, stderr } = await run(
    'export',
    `img-${image.id}`,
    '--format',
    'raw',
    '-o',
    '-',
    '--part-size',
    '1MiB',
  )
  assert.equal(exitCode, 0, stderr)
  assert.ok(bytes.equals(content))
  const whole = await run('export', `img-${image.id}`, '--format', 'raw', '-o', '-', '--compress', 'zstd')
  assert.equal(whole.exitCode, 0, whole.stderr)
  assert.ok(whole.bytes.equals(content))
  const onTerminal = await runWith({ isTerminal: true }, 'export', 'img-x', '--format', 'raw', '-o', '-')
  assert.deepEqual([onTerminal.exitCode, onTerminal.stdout], [2, ''])
})

test('a packed file is one stream, of which nothing is kept when it breaks', async () => {
  const { exitCode, stderr } = await run(...packed())
  assert.equal(exitCode, 0, stderr)
  assert.ok(readFileSync(file).equals(content))
  assert.deepEqual(readdirSync(folder), ['out.qcow2'])
  rmSync(file)
  proxy.trouble = ({ method, path }) =>
    method === 'GET' && path.startsWith('/v1/downloads/') ? { is: 'cut-answer', afterBytes: 1000 } : undefined
  const broken = await run(...packed())
  assert.equal(broken.exitCode, 3)
  assert.match(broken.stderr, /is sent in one go: run the command again\. Nothing of it is kept\.\n$/)
  assert.deepEqual(readdirSync(folder), [])
})

test('a link is printed, with a digest where one is wanted', async () => {
  const { stdout } = await run('export', `img-${image.id}`, '--format', 'raw', '--link')
  assert.match(
    stdout,
    /^disk {5}0\nlink {5}http:\/\/.*\/v1\/downloads\/[\w-]{43}\/\S+\nsize {5}3\.0 MiB\nexpires {2}\d{4}-.* UTC\n/,
  )
  assert.doesNotMatch(stdout, /sha256/)
  const digested = await run('export', `img-${image.id}`, '--format', 'raw', '--link', '--digest')
  assert.match(digested.stdout, /^sha256 {3}[0-9a-f]{64}$/m)
  assert.match(digested.stderr, /export-image cn-hangzhou: done/)
  const [link] = JSON.parse(
    (await run('export', `img-${image.id}`, '--format', 'raw', '--link', '--json')).stdout,
  ).links
  assert.deepEqual([link.disk, link.sizeBytes, link.sha256], [0, FILE_BYTES, null])
  const answer = await fetch(link.url, { method: 'HEAD' })
  assert.equal(answer.headers.get('content-length'), String(FILE_BYTES))
})

test('what cannot be meant is bad usage', async () => {
  mkdirSync(file)
  for (const argv of [
    ['export', 'img-x'],
    ['export', 'img-x', '--format', 'vdi'],
    ['export', 'img-x', '--format', 'raw', '--part-size', '33MiB'],
    ['export', 'img-x', '--format', 'raw', '--part-size', '1MiB', '--link'],
    ['export', 'img-x', '--format', 'raw', '--part-size', '1MiB', '--compress', 'zstd'],
    ['export', 'img-x', '--format', 'raw', '--digest'],
    ['export', 'img-x', '--format', 'raw', '--link', '-o', 'x'],
    ['export', 'img-x', '--format', 'raw', '--all-disks', '--disk', '0'],
    ['export', 'img-x', '--format', 'raw', '--all-disks', '-o', '-'],
    ['export', 'img-x', '--format', 'raw', '-o', '-', '--json'],
    ['bundle', 'img-x', '-o', 'x'],
    ['bundle', 'img-x', '--for', join(folder, 'none'), '-o', 'x'],
    exported('--force'),
    exported('-o', join(folder, 'none', 'x')),
  ]) {
    const { exitCode, stdout, stderr } = await run(...argv)
    assert.deepEqual([exitCode, stdout], [2, ''], `${argv.join(' ')}: ${stderr}`)
    assert.notEqual(stderr, '')
  }
  assert.equal(exportInputs().length, 0)
})
