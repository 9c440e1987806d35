import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { type MemoryIoOptions, type Ran, startServer, type TestServer } from './fixture.ts'
import { startProxy, type TestProxy } from './fixture-proxy.ts'

const PART_BYTES = 64 * 1024
const DISK_BYTES = 5 * PART_BYTES + 1000

let server: TestServer
let proxy: TestProxy
let folder: string
let disk: string
let content: Buffer
beforeEach(async () => {
  server = await startServer()
  proxy = await startProxy(server.url)
  folder = mkdtempSync(join(tmpdir(), 'calotype-import-'))
  disk = join(folder, 'disk.qcow2')
  content = randomBytes(DISK_BYTES)
  writeFileSync(disk, content)
})
afterEach(async () => {
  await proxy.close()
  await server.gateway.close()
  rmSync(folder, { recursive: true })
})

const state = () => join(folder, 'state')
const run = (argv: readonly string[], options: MemoryIoOptions = {}): Promise<Ran> => {
  const environment = { CALOTYPE_ENDPOINT: proxy.url, XDG_STATE_HOME: state(), ...options.environment }
  return server.runWith({ ...options, environment }, 'image', 'import', ...argv)
}
const upload = (...more: string[]) => [disk, '--name', 'i', '--part-size', '64KiB', ...more]
const ofMethod = (method: string) => proxy.passed.filter((passing) => passing.method === method)
const notes = () => readdirSync(join(state(), 'calotype', 'uploads'))
const arrived = () => [...server.fake.transfers.uploads.values()].map((one) => Buffer.concat(one.bytes))
const inputOf = (name: string) =>
  server.fake.calls.findLast((call) => call.name === name)?.input as Record<string, unknown>

test('a file of this computer is sent in checked parts, and waited for', async () => {
  const { exitCode, stdout, stderr } = await run(
    upload('--format', 'qcow2', '--sha256', 'AB'.repeat(32), '--base', '--os-type', 'Windows', '--tag', 't'),
  )
  assert.equal(exitCode, 0, stderr)
  assert.match(stdout, /^Image img-\w{17} is available\.\nname {4,}i\n/)
  assert.deepEqual(arrived(), [content])
  const parts = ofMethod('PATCH')
  assert.equal(parts.length, 6)
  assert.ok(
    parts.every(({ headers }) => /^sha256 [A-Za-z0-9+/]{43}=$/.test(String(headers['upload-checksum']))),
  )
  assert.ok(parts.every(({ headers }) => headers['upload-length'] === undefined))
  const { kind, osType, format, checksum, tag, lengthBytes, firmware } = inputOf('uploads.create')
  assert.deepEqual([kind, osType, format, tag], ['base', 'Windows', 'qcow2', 't'])
  assert.deepEqual([lengthBytes, firmware], [DISK_BYTES, undefined])
  assert.deepEqual(checksum, { algorithm: 'sha256', hex: 'ab'.repeat(32) })
  assert.match(stderr, /upload .*disk\.qcow2 {2}0 % {2}0 B of 321 KiB\n/)
  assert.match(stderr, /100 % {2}321 KiB of 321 KiB/)
  assert.match(stderr, /import-image cn-hangzhou: done/)
  assert.deepEqual(notes(), [])
  assert.doesNotMatch(stdout + stderr, /v1\/uploads/)
})

test('on a terminal the upload is one line that redraws', async () => {
  const { stderr } = await run(upload('--no-wait'), { isTerminal: true })
  assert.match(stderr.replaceAll('\x1b', 'ESC'), /\rESC\[2K\[█{24}\] upload .*disk\.qcow2 {2}100 %.*\n$/)
})

test('whatever breaks once on the way is got over', async () => {
  proxy.trouble = ({ method, index }) => {
    if (method === 'PATCH' && index === 1) return { is: 'cut', when: 'before' }
    if (method === 'HEAD' && index === 0) return { is: 'cut', when: 'before' }
    // Done, but nobody heard of it: the server says where to go on.
    if (method === 'PATCH' && index === 3) return { is: 'cut', when: 'after' }
    if (method === 'PATCH' && index === 4) return { is: 'answer', status: 502, text: '<html>' }
    if (method === 'PATCH' && index === 6) return { is: 'damage', what: 'request' }
    if (method === 'PATCH' && index === 8) return { is: 'answer', status: 423 }
    return undefined
  }
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 0, stderr)
  assert.deepEqual(arrived(), [content])
})

test('the answer to the last part may be lost', async () => {
  proxy.trouble = ({ headers }) =>
    headers['upload-offset'] === String(5 * PART_BYTES) ? { is: 'cut', when: 'after' } : undefined
  const { exitCode, stdout, stderr } = await run(upload())
  assert.equal(exitCode, 0, stderr)
  assert.match(stdout, /is available/)
})

test('a part that comes damaged twice ends it, and what came before is kept', async () => {
  proxy.trouble = ({ method, index }) =>
    method === 'PATCH' && index > 0 ? { is: 'damage', what: 'request' } : undefined
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 1)
  assert.equal(ofMethod('PATCH').length, 3)
  assert.match(
    stderr,
    /calotype: The checksum is another\. .*What came is kept on the server: run the same command/,
  )
  proxy.trouble = () => undefined
  assert.equal((await run(upload())).exitCode, 0)
  assert.deepEqual(arrived(), [content])
})

test('the same command goes on where an earlier one was stopped; --restart does not', async () => {
  const stopAt = (count: number) => {
    const pressed = new AbortController()
    let seen = 0
    proxy.trouble = ({ method }) => {
      if (method === 'PATCH' && ++seen === count) pressed.abort()
      return undefined
    }
    return run(upload(), { interrupt: pressed.signal })
  }
  const stopped = await stopAt(3)
  assert.equal(stopped.exitCode, 130)
  assert.match(
    stopped.stderr,
    /calotype: Stopped at \d+ KiB\. What came is kept on the server: run the same command again/,
  )
  const [note = ''] = notes()
  const path = join(state(), 'calotype', 'uploads', note)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  proxy.trouble = () => undefined
  proxy.passed.length = 0
  // Another wish is another upload.
  assert.equal((await run([disk, '--name', 'other', '--part-size', '64KiB'])).exitCode, 0)
  assert.equal(ofMethod('PATCH').length, 6)
  proxy.passed.length = 0
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 0, stderr)
  assert.match(stderr, /^Going on with upload \w{17}\.\n/)
  assert.ok(ofMethod('PATCH').length <= 4)
  assert.deepEqual(arrived(), [content, content])
  await stopAt(3)
  proxy.trouble = () => undefined
  proxy.passed.length = 0
  assert.equal((await run(upload('--restart'))).exitCode, 0)
  assert.deepEqual([ofMethod('DELETE').length, ofMethod('PATCH').length], [1, 6])
  assert.equal(server.fake.transfers.uploads.size, 3)
})

test('an upload that the server no longer has begins again', async () => {
  const pressed = new AbortController()
  proxy.trouble = ({ method }) => {
    if (method === 'PATCH') pressed.abort()
    return undefined
  }
  await run(upload(), { interrupt: pressed.signal })
  server.fake.transfers.uploads.clear()
  proxy.trouble = () => undefined
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 0, stderr)
  assert.match(stderr, /The server no longer has it: it begins again\.\n/)
  assert.deepEqual(arrived(), [content])
  // In the middle of sending it is told, because nobody knows why.
  proxy.passed.length = 0
  proxy.trouble = ({ method }) => {
    if (method === 'PATCH') server.fake.transfers.uploads.clear()
    return undefined
  }
  const gone = await run([...upload(), '--tag', 'x'])
  assert.deepEqual([gone.exitCode, ofMethod('PATCH').length], [1, 1])
  assert.match(
    gone.stderr,
    /The server no longer has this upload: it expired or was deleted\. Run the command again\.\n$/,
  )
  assert.deepEqual(notes(), [])
})

test('a server that stays away ends it after ten tries, with what to do', async () => {
  proxy.trouble = ({ method }) =>
    method === 'PATCH' || method === 'HEAD' ? { is: 'cut', when: 'before' } : undefined
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 3)
  assert.equal(ofMethod('PATCH').length + ofMethod('HEAD').length, 10)
  assert.match(
    stderr,
    /Cannot reach the server at .*What came is kept on the server: run the same command again/,
  )
  assert.equal(notes().length, 1)
})

test('the server’s own refusals are told as they are', async () => {
  server.fake.failNext('uploads.create', new Fault('full', 'The quota leaves no room.', { reason: 'quota' }))
  const full = await run(upload())
  assert.deepEqual([full.exitCode, /calotype: The quota leaves no room\./.test(full.stderr)], [1, true])
  assert.equal(ofMethod('PATCH').length, 0)
  // What comes once the upload is there may be mended, and gone on with.
  const noRoom = new Fault('full', 'The region has no room. Make some.', { subject: 'store' })
  server.fake.failNext('uploads.receive', noRoom)
  const later = await run(upload())
  assert.equal(later.exitCode, 1)
  assert.match(later.stderr, /calotype: The region has no room\. Make some\. .*What came is kept/)
  assert.deepEqual([ofMethod('PATCH').length, notes().length], [1, 1])
  // A file that is refused stays refused.
  const refused = new Fault('invalid', 'It has a backing file. Flatten it first: qemu-img convert …', {
    ...{ subject: 'file' as const, reason: 'backing-file' },
  })
  server.fake.failNext('uploads.receive', refused)
  const bad = await run(upload())
  assert.equal(bad.exitCode, 1)
  assert.match(
    bad.stderr,
    /calotype: It has a backing file\. Flatten it first: qemu-img convert … \(request [\w-]+\)\n$/,
  )
  assert.deepEqual(notes(), [])
})

test('a file refused while nobody listened is told of when somebody asks', async () => {
  proxy.trouble = ({ method, index }) => {
    if (method !== 'PATCH' || index < 1) return undefined
    for (const one of server.fake.transfers.uploads.values()) {
      one.upload = { ...one.upload, state: { at: 'refused', reason: 'It has a parent. Flatten it.' } }
    }
    return { is: 'cut', when: 'before' }
  }
  const { exitCode, stderr } = await run(upload())
  assert.deepEqual([exitCode, /calotype: It has a parent\. Flatten it\.\n$/.test(stderr)], [1, true])
  assert.deepEqual(notes(), [])
})

test('a file that changes while it is sent makes no image', async () => {
  proxy.trouble = ({ method, index }) => {
    if (method === 'PATCH' && index === 2) utimesSync(disk, new Date(1), new Date(1))
    return undefined
  }
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 1)
  assert.match(
    stderr,
    /disk\.qcow2 changed while it was sent\. Stop what writes to it, and run the command again\.\n$/,
  )
  assert.equal(server.fake.transfers.uploads.size, 0)
  assert.deepEqual(notes(), [])
})

test('a pipe is sent as it comes, and its length told at its end', async () => {
  for (const sizeBytes of [1, PART_BYTES, 2 * PART_BYTES, DISK_BYTES]) {
    server.fake.transfers.uploads.clear()
    proxy.passed.length = 0
    const stdin = new PassThrough()
    const bytes = content.subarray(0, sizeBytes)
    stdin.write(bytes.subarray(0, 700))
    stdin.end(bytes.subarray(700))
    // Of the last part both the checksum and the length come again.
    proxy.trouble = ({ headers }) =>
      headers['upload-length'] !== undefined && !proxy.passed.some(({ method }) => method === 'HEAD')
        ? { is: 'cut', when: 'before' }
        : undefined
    const { exitCode, stderr } = await run(['-', '--name', 'i', '--part-size', '64KiB'], { stdin })
    assert.equal(exitCode, 0, stderr)
    assert.deepEqual(arrived(), [bytes])
    assert.equal(inputOf('uploads.create').lengthBytes, sizeBytes > PART_BYTES ? undefined : sizeBytes)
    const told = ofMethod('PATCH').map(({ headers }) => headers['upload-length'])
    const wanted = sizeBytes > PART_BYTES ? String(sizeBytes) : undefined
    assert.equal(told.at(-1), wanted)
    // Once over the connection that was kept, once over its own, once when the server was asked.
    assert.ok(told.slice(0, -3).every((one) => one === undefined))
  }
})

test('a pipe that is empty, breaks or is interrupted leaves nothing behind', async () => {
  const empty = new PassThrough()
  empty.end()
  const nothing = await run(['-', '--name', 'i'], { stdin: empty })
  assert.deepEqual([nothing.exitCode, /Nothing came through/.test(nothing.stderr)], [2, true])
  assert.equal(proxy.passed.length, 0)

  const pressed = new AbortController()
  const open = new PassThrough()
  open.write(content)
  proxy.trouble = ({ method, index }) => {
    if (method === 'PATCH' && index === 4) setImmediate(() => pressed.abort())
    return undefined
  }
  const stopped = await run(['-', '--name', 'i', '--part-size', '64KiB'], {
    stdin: open,
    interrupt: pressed.signal,
  })
  assert.equal(stopped.exitCode, 130)
  assert.match(stopped.stderr, /What came through the pipe is dropped\.\n$/)
  assert.equal(server.fake.transfers.uploads.size, 0)
  assert.ok(open.destroyed)
})

test('where nothing can be remembered the upload goes on without', async () => {
  writeFileSync(state(), '')
  const { exitCode, stderr } = await run(upload())
  assert.equal(exitCode, 0, stderr)
  assert.match(
    stderr,
    /Cannot write to .* \(ENOTDIR\): should this break off, it begins again from the start\.\n/,
  )
})

test('parts go over one connection, which may be closed in between', async () => {
  const ports = new Set<number | undefined>()
  proxy.trouble = ({ method, port }) => {
    if (method === 'PATCH') ports.add(port)
    return undefined
  }
  assert.equal((await run(upload())).exitCode, 0)
  assert.equal(ports.size, 1)
  proxy.trouble = ({ method, index }) =>
    method === 'PATCH' && index === 1 ? { is: 'cut', when: 'before' } : undefined
  proxy.passed.length = 0
  assert.equal((await run(upload('--tag', 't'))).exitCode, 0)
  // It went again at once: the server was not asked where to go on.
  assert.equal(ofMethod('HEAD').length, 0)
  assert.deepEqual(arrived(), [content, content])
})

test('uploads are listed and deleted', async () => {
  const pressed = new AbortController()
  proxy.trouble = ({ method, index }) => {
    if (method === 'PATCH' && index === 2) pressed.abort()
    return undefined
  }
  await run(upload(), { interrupt: pressed.signal })
  const listed = await server.run('image', 'upload', 'list')
  assert.match(
    listed.stdout,
    /^UPLOAD +NAME +STATE +CAME +OF +REGION +CREATED \(UTC\) +EXPIRES \(UTC\) +REASON\n/,
  )
  const id = /^(\w{17}) +i +receiving +(128|192) KiB +321 KiB +cn-hangzhou/m.exec(listed.stdout)?.[1] ?? ''
  assert.match(id, /^\w{17}$/)
  assert.equal(JSON.parse((await server.run('image', 'upload', 'list', '--json')).stdout).total, 1)
  assert.equal((await server.run('image', 'upload', 'delete', id)).stdout, `Upload ${id} is deleted.\n`)
  assert.equal((await server.run('image', 'upload', 'list')).stdout, 'No uploads.\n')
  assert.equal((await server.run('image', 'upload', 'delete', id)).exitCode, 1)
})

test('a pipe that cannot be read is told of', async () => {
  const stdin = new PassThrough()
  stdin.write('x')
  setImmediate(() => stdin.destroy(Object.assign(new Error('broken'), { code: 'EIO' })))
  const { exitCode, stderr } = await run(['-', '--name', 'i'], { stdin })
  assert.deepEqual([exitCode, /Cannot read standard input \(EIO\)/.test(stderr)], [1, true])
})
