import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createGateway, type Gateway, type GatewayOptions } from './gateway.ts'
import type { GatewayRecord, WireAnswer, WireRequest } from './gateway-contract.ts'
import { loggedPath } from './gateway-path.ts'

const MIB = 1024 ** 2
let gateway: Gateway
let url: string
let port: number
let records: GatewayRecord[]
/** What the door does with a request; everything under /v1/stream is one. */
let handle: (request: WireRequest) => Promise<WireAnswer>
const plain = (body: string, headers: Record<string, string> = {}): WireAnswer => ({
  status: 200,
  headers,
  body,
})
const streamed = (stream: AsyncIterable<Uint8Array>, headers: Record<string, string> = {}): WireAnswer => ({
  ...plain('', headers),
  stream,
})

async function start(options: Partial<GatewayOptions> = {}): Promise<void> {
  gateway = createGateway({
    doors: {
      native: {
        streams: (head) => head.url.startsWith('/v1/stream'),
        handle: (request) => handle(request),
        refuse: (fault) => ({ status: 503, headers: {}, body: `refused: ${fault.reason}` }),
      },
    },
    log: (record) => records.push(record),
    bodyLimitBytes: 1024,
    ...options,
  })
  ;({ url, port } = await gateway.listen('127.0.0.1', 0))
}

beforeEach(async () => {
  records = []
  handle = async () => plain('ok')
  await start()
})
afterEach(() => gateway.close())

const turn = () => new Promise((resolve) => setImmediate(resolve))
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await turn()
}
async function open(head: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.on('error', () => undefined)
  socket.write(head)
  return socket
}
const PATCH = 'PATCH /v1/stream HTTP/1.1\r\nhost: x\r\n'
const GET = 'GET /v1/stream HTTP/1.1\r\nhost: x\r\n'
function saidOn(socket: Socket): () => string {
  let said = ''
  socket.on('data', (bytes) => {
    said += bytes
  })
  return () => said
}
async function countOf(stream: AsyncIterable<Uint8Array> | undefined): Promise<number> {
  let count = 0
  for await (const bytes of stream ?? []) count += bytes.length
  return count
}

test('a body far over the limit of others comes as a stream, the rest as ever', async () => {
  handle = async (request) => plain(`${request.body.length} ${await countOf(request.stream)}`)
  const body = Buffer.alloc(20 * MIB, 1)
  for (const path of ['/v1/stream', '/v1/stream/x?y=1']) {
    const answered = await fetch(`${url}${path}`, { method: 'PATCH', body })
    assert.equal(await answered.text(), `0 ${20 * MIB}`)
  }
  await until(() => records.length === 2)
  assert.deepEqual(
    records.map(({ bodyBytes, status }) => [bodyBytes, status]),
    [
      [20 * MIB, 200],
      [20 * MIB, 200],
    ],
  )
  const other = await fetch(`${url}/v1/other`, { method: 'PATCH', body })
  assert.equal(await other.text(), 'refused: too-large')
  assert.equal(
    await (await fetch(`${url}/v1/other`, { method: 'PATCH', body: 'x'.repeat(1024) })).text(),
    '1024 0',
  )
})

test('nothing is read from a sender while the door does not ask', async () => {
  let go = (): void => undefined
  const gate = new Promise<void>((resolve) => {
    go = resolve
  })
  let seen = 0
  handle = async ({ stream }) => {
    for await (const bytes of stream ?? []) {
      seen += bytes.length
      await gate
    }
    return plain(String(seen))
  }
  const total = 64 * MIB
  const socket = await open(`${PATCH}connection: close\r\ncontent-length: ${total}\r\n\r\n`)
  const said = saidOn(socket)
  const piece = Buffer.alloc(MIB)
  let sent = 0
  // Until the kernel's buffers on both sides are full.
  while (socket.write(piece)) sent += MIB
  await until(() => seen > 0)
  assert.ok(seen < 2 * MIB, String(seen))
  sent += MIB
  go()
  for (; sent < total; sent += MIB) if (!socket.write(piece)) await once(socket, 'drain')
  await once(socket, 'close')
  assert.match(said(), new RegExp(`${total}$`))
})

test('an answer is made no faster than it is taken, and arrives whole', async () => {
  let made = 0
  async function* pieces(count: number) {
    for (let i = 0; i < count; i++) {
      made++
      yield Buffer.alloc(MIB, i)
    }
  }
  handle = async () => streamed(pieces(64), { 'content-length': String(64 * MIB) })
  const socket = await open(`${GET}connection: close\r\n\r\n`)
  socket.pause()
  // Until nothing more is made for as long as another request takes.
  for (let before = -1; before !== made; ) {
    before = made
    for (let i = 0; i < 20; i++) await fetch(`${url}/healthz`)
  }
  assert.ok(made < 32, String(made))
  let count = 0
  socket.on('data', (bytes: Buffer) => {
    count += bytes.length
  })
  socket.resume()
  await once(socket, 'close')
  assert.equal(made, 64)
  assert.ok(count > 64 * MIB)
  await until(() => records.some(({ path }) => path === '/v1/stream'))
  assert.equal(records.find(({ path }) => path === '/v1/stream')?.answerBytes, 64 * MIB)
  // Without a length it is chunked, and the connection is used again.
  handle = async () => streamed(pieces(3))
  const answered = await fetch(`${url}/v1/stream`)
  assert.equal(answered.headers.get('transfer-encoding'), 'chunked')
  assert.equal((await answered.arrayBuffer()).byteLength, 3 * MIB)
})

test('memory that is used for one piece after the other arrives as it was, however slowly it is read', async () => {
  for (const pieceBytes of [10_000, 4 * MIB]) {
    const memory = Buffer.alloc(pieceBytes)
    async function* pieces() {
      for (let i = 0; i < 16; i++) {
        memory.fill(i)
        yield memory
      }
      memory.fill(0xff)
    }
    handle = async () => streamed(pieces(), { 'content-length': String(16 * pieceBytes) })
    const answered = await fetch(`${url}/v1/stream`)
    const got: Buffer[] = []
    for await (const bytes of answered.body ?? assert.fail()) {
      await delay(1)
      got.push(Buffer.from(bytes))
    }
    const expected = Buffer.concat(Array.from({ length: 16 }, (_, i) => Buffer.alloc(pieceBytes, i)))
    assert.ok(Buffer.concat(got).equals(expected))
  }
})

test('a caller who leaves ends what is made for him, also while it is being read', async () => {
  for (const isWaiting of [false, true]) {
    let isEnded = false
    let asked = 0
    const body: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => ({
        next: () => {
          asked++
          return isWaiting && asked > 1
            ? new Promise(() => undefined)
            : Promise.resolve({ done: false, value: Buffer.alloc(MIB) })
        },
        return: async () => {
          isEnded = true
          return { done: true, value: undefined }
        },
      }),
    }
    handle = async () => streamed(body)
    const socket = await open(`${GET}\r\n`)
    await once(socket, 'data')
    socket.destroy()
    await until(() => isEnded)
    const logged = isWaiting ? 2 : 1
    await until(() => records.length === logged)
    assert.equal(records.at(-1)?.status, 499)
  }
})

test('a sender who leaves is a fault to the door, which may end its work', async () => {
  const faults: unknown[] = []
  let seen = 0
  handle = async ({ stream }) => {
    try {
      for await (const bytes of stream ?? []) seen += bytes.length
    } catch (error) {
      faults.push(error)
      throw error
    }
    return plain('')
  }
  const socket = await open(`${PATCH}content-length: 1000\r\n\r\nhalf`)
  await until(() => seen === 4)
  socket.destroy()
  await until(() => records.length === 1)
  const [fault] = faults as { kind: string; reason: string }[]
  assert.deepEqual([fault?.kind, fault?.reason], ['unavailable', 'broken-off'])
  assert.equal(records[0]?.status, 499)
})

test('who sends nothing for too long is told so and cut off; who goes on slowly is not', async () => {
  await gateway.close()
  await start({ idleMs: 150 })
  const reasons: (string | undefined)[] = []
  handle = async ({ stream }) => {
    try {
      return plain(`got ${await countOf(stream)}`)
    } catch (error) {
      reasons.push((error as { reason?: string }).reason)
      return { status: 408, headers: {}, body: 'stalled' }
    }
  }
  const slow = await open(`${PATCH}connection: close\r\ncontent-length: 10\r\n\r\n`)
  const said = saidOn(slow)
  const drip = setInterval(() => slow.write('x'), 40)
  const loris = await open(`${PATCH}content-length: 10\r\n\r\nx`)
  const lorisSaid = saidOn(loris)
  await once(loris, 'close')
  assert.match(lorisSaid(), /^HTTP\/1\.1 408 [\s\S]*connection: close[\s\S]*stalled$/i)
  assert.deepEqual(reasons, ['stalled'])
  await once(slow, 'close')
  clearInterval(drip)
  assert.match(said(), /200 OK[\s\S]*got 10$/)

  // A request that is read whole has to be there by then, however it comes.
  const other = await open('POST /v1/other HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n')
  const otherSaid = saidOn(other)
  const otherDrip = setInterval(() => other.write('x'), 40)
  await once(other, 'close')
  clearInterval(otherDrip)
  assert.match(otherSaid(), /^HTTP\/1\.1 408 [\s\S]*"malformed"/)
  await until(() => records.some(({ path }) => path === '/v1/other'))
})

test('who takes nothing for too long is cut off', async () => {
  await gateway.close()
  await start({ idleMs: 100 })
  let isEnded = false
  async function* endless() {
    try {
      for (;;) yield Buffer.alloc(MIB)
    } finally {
      isEnded = true
    }
  }
  handle = async () => streamed(endless())
  const socket = await open(`${GET}\r\n`)
  socket.pause()
  await until(() => isEnded)
  await until(() => records.length === 1)
  assert.equal(records[0]?.status, 499)
  socket.destroy()
})

test('an answer that breaks off, or is not as long as it said, cuts the connection', async () => {
  async function* broken() {
    yield Buffer.from('some')
    throw new Error('the store went away')
  }
  async function* four() {
    yield Buffer.from('four')
  }
  for (const [answer, says] of [
    [streamed(broken()), /the store went away/],
    [streamed(four(), { 'content-length': '5' }), /ended after 4/],
    [streamed(four(), { 'content-length': '3' }), /goes on behind/],
    [streamed(four(), { 'x-bad': 'a\r\nb: c' }), /Invalid character/],
  ] as const) {
    handle = async () => answer
    await assert.rejects(async () => (await fetch(`${url}/v1/stream`)).text())
    const count = records.length
    await until(() => records.length > count || records.at(-1)?.error !== undefined)
    const record = records.at(-1)
    assert.equal(record?.status, 500)
    assert.match(String(record?.error), says)
    records.length = 0
  }
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
})

test('a refusal before the body was read is read by a caller who is still sending', async () => {
  handle = async () => ({ status: 409, headers: {}, body: 'another offset' })
  const body = Buffer.alloc(8 * MIB)
  for (let i = 0; i < 3; i++) {
    const answered = await fetch(`${url}/v1/stream`, { method: 'PATCH', body })
    assert.deepEqual([answered.status, await answered.text()], [409, 'another offset'])
  }
  // Without end nobody is listened to.
  const socket = await open(`${PATCH}transfer-encoding: chunked\r\n\r\n`)
  const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(MIB), Buffer.from('\r\n')])
  let isClosed = false
  const closed = new Promise<void>((resolve) => socket.once('close', resolve)).then(() => {
    isClosed = true
  })
  for (let sent = 0; !isClosed && sent < 4096; sent++) {
    if (socket.write(piece)) continue
    const drained = new Promise<void>((resolve) => socket.once('drain', resolve))
    await Promise.race([drained, closed])
  }
  assert.ok(isClosed)
})

test('there are only so many streams at once, and everything else goes on', async () => {
  await gateway.close()
  await start({ streamCountMax: 50 })
  handle = async ({ stream, url: target }) =>
    plain(target === '/v1/stream' ? `got ${await countOf(stream)}` : 'images')
  const slow = await Promise.all(
    Array.from({ length: 50 }, () => open(`${PATCH}connection: close\r\ncontent-length: 2\r\n\r\nx`)),
  )
  const said = slow.map(saidOn)
  const tooMany = async () => (await fetch(`${url}/v1/stream`, { method: 'PATCH', body: 'xx' })).text()
  while ((await tooMany()) !== 'refused: busy') await turn()
  for (let i = 0; i < 50; i++) assert.equal(await (await fetch(`${url}/v1/images`)).text(), 'images')
  for (const socket of slow) socket.write('y')
  await Promise.all(slow.map((socket) => once(socket, 'close')))
  for (const text of said) assert.match(text(), /got 2$/)
  assert.equal(await tooMany(), 'got 2')
})

test('closing tells streams, and waits only so long', async () => {
  await gateway.close()
  await start({ closeGraceMs: 50 })
  let told = 0
  async function* untilTold(signal: AbortSignal) {
    yield Buffer.from('x')
    if (!signal.aborted) await once(signal, 'abort')
    told++
  }
  handle = async (request) =>
    request.method === 'GET'
      ? streamed(untilTold(request.signal))
      : plain(`got ${await countOf(request.stream)}`)
  const reading = await open(`${GET}\r\n`)
  await once(reading, 'data')
  const sending = await open(`${PATCH}content-length: 2\r\n\r\nx`)
  await fetch(`${url}/healthz`)
  const closed = Promise.all([once(reading, 'close'), once(sending, 'close')])
  await gateway.close()
  await closed
  assert.equal(told, 1)
})

test('HEAD and 304 say no length of their own', async () => {
  handle = async ({ method }) => ({
    status: method === 'HEAD' ? 200 : 304,
    headers: method === 'HEAD' ? { 'content-length': '12345' } : {},
    body: '',
  })
  const head = await fetch(`${url}/v1/stream`, { method: 'HEAD' })
  assert.equal(head.headers.get('content-length'), '12345')
  const same = await fetch(`${url}/v1/stream`)
  assert.deepEqual([same.status, same.headers.get('content-length')], [304, null])
  handle = async () => plain('')
  assert.equal((await fetch(`${url}/v1/other`, { method: 'HEAD' })).headers.get('content-length'), null)
  assert.equal((await fetch(`${url}/v1/other`)).headers.get('content-length'), '0')
})

test('what may be a token is not in the log', () => {
  const token = 'T'.repeat(43)
  for (const [target, shown] of [
    ['/v1/images/img-0123456789abcdefg?x=y', '/v1/images/img-0123456789abcdefg'],
    [`/v1/uploads/${token}`, '/v1/uploads/…'],
    ['/v1/uploads/0123456789abcdefg', '/v1/uploads/…'],
    [`/v1/downloads/${token}/a%20b.qcow2`, '/v1/downloads/…'],
    [`/v1/%75PLOADS/${token}`, '/v1/%75PLOADS/…'],
    [`/v1//downloads//${token}/x`, '/v1//downloads/…'],
    [`/v2/${token}/x`, '/v2/…/x'],
    [`http://h.example/v1/uploads/${token}`, '/v1/uploads/…'],
    [`//uploads/%zz/${token}`, '//uploads/…'],
    ['/', '/'],
  ] as const)
    assert.equal(loggedPath(target), shown)
})
