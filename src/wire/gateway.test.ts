import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { createGateway, type Gateway } from './gateway.ts'
import type { Door, GatewayRecord, WireAnswer, WireRequest } from './gateway-contract.ts'
import { recognise } from './gateway-recognise.ts'

const LIMIT_BYTES = 4096
let gateway: Gateway
let url: string
let port: number
let records: GatewayRecord[]
let seen: WireRequest[]
/** What the wuying door does next instead of answering at once. */
let next: ((request: WireRequest) => Promise<WireAnswer>) | undefined

const answer = (status: number, body: string): WireAnswer => ({
  status,
  headers: { 'content-type': 'text/x-door' },
  body,
})

function door(name: string): Door {
  return {
    async handle(request) {
      seen.push(request)
      return next !== undefined ? await next(request) : answer(200, name)
    },
    refuse: (fault) => answer(200, `${name} refuses: ${fault.reason}`),
  }
}

beforeEach(async () => {
  records = []
  seen = []
  next = undefined
  const doors = { native: door('native'), wuying: door('wuying'), uhost: door('uhost') }
  gateway = createGateway({ doors, log: (record) => records.push(record), bodyLimitBytes: LIMIT_BYTES })
  ;({ url, port } = await gateway.listen('127.0.0.1', 0))
})
afterEach(() => gateway.close())

const post = (path: string, body: string, type?: string) =>
  fetch(`${url}${path}`, {
    method: 'POST',
    body,
    headers: type === undefined ? {} : { 'content-type': type },
  })

async function raw(text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.write(text)
  return readAll(socket)
}
async function readAll(socket: Socket): Promise<string> {
  let said = ''
  socket.on('data', (bytes) => {
    said += bytes
  })
  await once(socket, 'close')
  return said
}
/** Until the log has `count` records: the answer may be read before its record is written. */
async function logged(count: number): Promise<void> {
  while (records.length < count) await new Promise((resolve) => setImmediate(resolve))
}

test('the door is recognised by the request', () => {
  const at = (target: string, headers: Record<string, string> = {}, body = '') =>
    recognise({ url: target, headers, body: Buffer.from(body) })
  const json = { 'content-type': 'application/json' }
  const form = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }
  assert.equal(at('/v1'), 'native')
  assert.equal(at('/v1/images?Action=CreateImage'), 'native')
  assert.equal(at('/healthz'), 'health')
  assert.equal(at('/v10'), 'nothing')
  assert.equal(at('/index.html?Action=GetRegion'), 'nothing')
  assert.equal(at('/'), 'index')
  assert.equal(at('/?Action=GetRegion&PublicKey=k'), 'uhost')
  assert.equal(at('/?Action=GetRegion'), 'uhost')
  assert.equal(at('/', form, 'PublicKey=k'), 'uhost')
  assert.equal(at('/', {}, 'Action=GetRegion'), 'uhost')
  assert.equal(at('/', json, '{"PublicKey":"k"}'), 'uhost')
  assert.equal(at('/', json, '{"Action":'), 'uhost')
  assert.equal(at('/', json, '["Action"]'), 'index')
  assert.equal(at('/', json, 'null'), 'index')
  assert.equal(at('/?Action=CreateImage&Version=2020-09-30'), 'wuying')
  assert.equal(at('/?Action=CreateImage&Version=2019-01-01'), 'uhost')
  assert.equal(at('/?AccessKeyId=k'), 'wuying')
  assert.equal(at('/?SignatureNonce=n&Action=CreateImage'), 'wuying')
  assert.equal(at('/', form, 'Action=CreateImage&AccessKeyId=k'), 'wuying')
  assert.equal(at('/', { 'x-acs-action': 'CreateImage' }), 'wuying')
  assert.equal(at('/?Action=CreateImage', { 'x-acs-version': '2020-09-30' }), 'wuying')
  assert.equal(at('/', { authorization: 'ACS3-HMAC-SHA256 Credential=k' }), 'wuying')
  assert.equal(at('/?PublicKey=k', { authorization: 'ACS3-HMAC-SHA256 x' }), 'wuying')
  assert.equal(at('/?Action=GetRegion', { authorization: 'Bearer t' }), 'uhost')
})

test('a door gets the request as it came, and its answer goes out as it is', async () => {
  const answered = await post(
    '/?b=%20&Action=X&a=1',
    'PublicKey=k&x=%2B',
    'application/x-www-form-urlencoded',
  )
  assert.equal(await answered.text(), 'uhost')
  assert.equal(answered.headers.get('content-type'), 'text/x-door')
  assert.equal(answered.headers.get('x-content-type-options'), 'nosniff')
  const [request] = seen
  assert.equal(request?.url, '/?b=%20&Action=X&a=1')
  assert.equal(request?.body.toString(), 'PublicKey=k&x=%2B')
  assert.equal(request?.headers.host, `127.0.0.1:${port}`)
  assert.equal(request?.sourceIp, '127.0.0.1')
  assert.equal(request?.secureTransport, false)
  assert.match(request?.requestId ?? '', /^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$/)
  await logged(1)
  const { durationMs, ...record } = records[0] as GatewayRecord
  assert.ok(durationMs >= 0)
  assert.deepEqual(record, {
    requestId: request?.requestId,
    door: 'uhost',
    method: 'POST',
    path: '/',
    status: 200,
    sourceIp: '127.0.0.1',
    bodyBytes: 17,
    answerBytes: 5,
  })
})

test('bodies of any type, without a type, chunked, and none at all reach the door', async () => {
  for (const type of ['text/plain', 'application/xml', 'not a type', 'application/json;;;']) {
    const head = `POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: ${type}\r\ncontent-length: 2\r\n\r\nhi`
    assert.match(await raw(head), /native$/, type)
  }
  const untyped = 'POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n'
  assert.match(await raw(`${untyped}content-length: 2\r\n\r\nhi`), /native$/)
  assert.match(
    await raw(`${untyped}transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n`),
    /native$/,
  )
  assert.ok(seen.every(({ body }) => body.toString() === 'hi'))
  assert.match(await raw(`${untyped}content-length: 0\r\n\r\n`), /native$/)
  assert.equal(seen.at(-1)?.body.length, 0)
})

test('methods are judged by the door', async () => {
  for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'PURGE']) {
    const answered = await fetch(`${url}/v1/x`, { method })
    assert.equal(await answered.text(), 'native')
  }
  assert.deepEqual(
    seen.map((request) => request.method),
    ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'PURGE'],
  )
  const head = await fetch(`${url}/v1/x`, { method: 'HEAD' })
  assert.deepEqual([head.status, await head.text()], [200, ''])
})

test('a body over the limit is refused in the words of its door', async () => {
  const pad = 'x'.repeat(LIMIT_BYTES)
  const form = 'application/x-www-form-urlencoded'
  const cases: [path: string, body: string, type: string, says: string][] = [
    ['/v1/images', pad + pad, 'application/json', 'native refuses: too-large'],
    ['/?PublicKey=k', pad + pad, form, 'uhost refuses: too-large'],
    ['/', `{"Action":"X","pad":"${pad}"}`, 'application/json', 'uhost refuses: too-large'],
    ['/', `AccessKeyId=k&pad=${pad}`, form, 'wuying refuses: too-large'],
  ]
  for (const [path, body, type, says] of cases) {
    const answered = await post(path, body, type)
    assert.equal(await answered.text(), says)
    assert.equal(answered.headers.get('connection'), 'close')
  }
  assert.equal(seen.length, 0)
  assert.equal(await (await post('/v1/images', pad)).text(), 'native')
  const nowhere = await post('/', pad + pad, 'text/plain')
  assert.equal(nowhere.status, 413)
  assert.equal(((await nowhere.json()) as { error: { reason: string } }).error.reason, 'too-large')
})

test('without a mark: what this is; elsewhere 404; health', async () => {
  const index = await fetch(url)
  assert.equal(index.status, 200)
  const about = (await index.json()) as { service: string; doors: object }
  assert.equal(about.service, 'calotype')
  assert.deepEqual(Object.keys(about.doors), ['native', 'wuying', 'uhost'])
  assert.equal((await post('/', 'hello', 'text/plain')).status, 400)
  for (const path of ['/nothing', '/favicon.ico', '//', '/%zz', `/${'x'.repeat(9000)}`]) {
    const answered = await fetch(`${url}${path}`)
    assert.equal(answered.status, 404, path)
    assert.match(answered.headers.get('content-type') ?? '', /json/)
    const { error } = (await answered.json()) as { error: { kind: string; requestId: string } }
    assert.equal(error.kind, 'absent')
  }
  assert.match(
    await raw('OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
    /404 Not Found[\s\S]*"absent"/,
  )
  const health = await fetch(`${url}/healthz`)
  assert.deepEqual([health.status, await health.json()], [200, { status: 'ok' }])
  assert.equal((await fetch(`${url}/healthz`, { method: 'POST' })).status, 405)
})

test('a path that cannot be decoded is still its door’s', async () => {
  assert.equal(await (await fetch(`${url}/v1/images/%zz`)).text(), 'native')
  assert.equal(seen[0]?.url, '/v1/images/%zz')
})

test('malformed HTTP is answered as JSON and the server lives', async () => {
  const said = [
    await raw('NONSENSE\r\n\r\n'),
    await raw('BREW / HTTP/1.1\r\nhost: x\r\n\r\n'),
    await raw('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n'),
    await raw(
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    ),
    await raw(`GET / HTTP/1.1\r\nhost: x\r\nlong: ${'x'.repeat(20_000)}\r\n\r\n`),
  ]
  for (const text of said) {
    assert.match(text, /^HTTP\/1\.1 4(00|31) /)
    assert.match(text, /content-type: application\/json/i)
    assert.equal(JSON.parse(text.slice(text.indexOf('{'))).error.reason, 'malformed')
    assert.doesNotMatch(text, /<html|at .*\.ts/)
  }
  assert.match(said[4] ?? '', / 431 /)
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
})

test('an upload that is broken off is logged, reaches no door, and the server lives', async () => {
  const socket = connect(port, '127.0.0.1')
  socket.write('POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf')
  await once(socket, 'connect')
  // The server has begun to read once it answers another request after this one.
  await fetch(`${url}/healthz`)
  socket.destroy()
  await logged(2)
  assert.deepEqual([records[1]?.status, records[1]?.path], [499, '/v1/x'])
  assert.equal(seen.length, 0)
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
})

test('a caller who leaves aborts the signal of his request', async () => {
  const aborted = new Promise<void>((resolve) => {
    next = async ({ signal }) => {
      await new Promise((leave) => signal.addEventListener('abort', leave, { once: true }))
      resolve()
      return answer(200, 'nobody reads this')
    }
  })
  const client = httpRequest(`${url}/v1/x`)
  client.on('error', () => undefined)
  client.end()
  while (seen.length === 0) await new Promise((resolve) => setImmediate(resolve))
  client.destroy()
  await aborted
  await logged(1)
  assert.equal(records[0]?.status, 499)
})

test('a bug in a door is answered in its words, without its stack; the log has the error', async () => {
  next = () => Promise.reject(new TypeError('inside'))
  const answered = await post('/?PublicKey=k', '')
  assert.equal(await answered.text(), 'uhost refuses: internal')
  await logged(1)
  assert.match(String(records[0]?.error), /inside/)
})

test('a door that is not there, and one without words of its own, get plain JSON', async () => {
  const other = createGateway({
    doors: { uhost: { handle: () => Promise.reject(new Error('bug')) } },
    log: () => undefined,
  })
  const at = await other.listen('127.0.0.1', 0)
  assert.equal((await fetch(`${at.url}/v1/regions`)).status, 404)
  const broken = await fetch(`${at.url}/?PublicKey=k`)
  assert.equal(broken.status, 500)
  assert.equal(((await broken.json()) as { error: { reason: string } }).error.reason, 'internal')
  await other.close()
})

test('closing lets a running request answer, tells it so, and takes no more', async () => {
  let finish = (): void => undefined
  const told = new Promise<void>((resolve) => {
    next = async ({ signal }) => {
      await new Promise<void>((go) => {
        finish = go
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
      return answer(200, 'done all the same')
    }
  })
  const running = fetch(`${url}/v1/x`)
  while (seen.length === 0) await new Promise((resolve) => setImmediate(resolve))
  const closed = gateway.close()
  await told
  await assert.rejects(fetch(`${url}/healthz`))
  finish()
  assert.equal(await (await running).text(), 'done all the same')
  await closed
  await gateway.close()
})

test('an answer that never comes does not hold the close for ever', async () => {
  const other = createGateway({
    doors: { native: { handle: () => new Promise(() => undefined) } },
    log: () => undefined,
    closeGraceMs: 1,
  })
  const at = await other.listen('127.0.0.1', 0)
  const running = fetch(`${at.url}/v1/x`)
  const failed = assert.rejects(running)
  // Once this is answered, the server has the first one too.
  await fetch(`${at.url}/healthz`)
  await other.close()
  await failed
})

test('a port that is taken is a fault that says what to do', async () => {
  const other = createGateway({ doors: {}, log: () => undefined })
  await assert.rejects(other.listen('127.0.0.1', port), {
    kind: 'unavailable',
    message: `Cannot listen on 127.0.0.1:${port} (EADDRINUSE). Choose another address with --listen.`,
  })
  await other.close()
})
