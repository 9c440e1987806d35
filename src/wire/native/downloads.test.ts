import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { fakeImage } from './fixture-nouns.ts'
import { type NativeServer, startNative } from './fixture-server.ts'

let server: NativeServer
let bytes: Buffer
let imagePath: string

beforeEach(async () => {
  server = await startNative()
  const image = fakeImage()
  server.fake.images.set(image.id, image)
  imagePath = `/v1/images/img-${image.id}`
  bytes = server.fake.transfers.exported = randomBytes(200_003)
})
afterEach(async () => {
  await server.gateway.close()
  assert.deepEqual(server.bugs, [])
  const { bodiesBegun, bodiesEnded } = server.fake.transfers
  assert.equal(bodiesBegun, bodiesEnded)
})

async function link(wish: object = { format: 'qcow2' }): Promise<ReturnType<typeof JSON.parse>> {
  const made = await server.askSigned('POST', `${imagePath}/exports`, wish)
  assert.equal(made.status, 201, made.body.toString())
  return made.json()
}
const get = (path: string, headers: Record<string, string> = {}) => server.ask('GET', path, headers)
const digestOf = (of: Buffer) => `sha-256=:${createHash('sha256').update(of).digest('base64')}:`

test('a link is a path that anybody may read, whole', async () => {
  const made = await link()
  assert.match(made.path, /^\/v1\/downloads\/[A-Za-z0-9_-]{43}\/golden\.qcow2$/)
  assert.equal(made.url, `${server.url}${made.path}`)
  assert.deepEqual([made.sizeBytes, made.taskId, made.fileName], [bytes.length, null, 'golden.qcow2'])
  const said = await get(made.path)
  assert.equal(said.status, 200)
  assert.ok(said.body.equals(bytes))
  const { headers } = said
  assert.equal(headers['content-length'], String(bytes.length))
  assert.equal(headers['content-type'], 'application/octet-stream')
  assert.equal(headers['accept-ranges'], 'bytes')
  assert.match(String(headers.etag), /^"[0-9a-f]{16}"$/)
  assert.equal(
    headers['content-disposition'],
    `attachment; filename="golden.qcow2"; filename*=UTF-8''golden.qcow2`,
  )
  assert.equal(headers['x-content-type-options'], 'nosniff')
  assert.deepEqual([headers['repr-digest'], headers['content-digest']], [undefined, undefined])
  const head = await server.ask('HEAD', made.path, { range: 'bytes=0-1' })
  assert.deepEqual([head.status, head.body.length], [200, 0])
  assert.equal(head.headers['content-length'], String(bytes.length))
  assert.equal(head.headers.etag, headers.etag)
  // The name is for whoever saves the file; the token is what counts.
  assert.ok((await get(made.path.replace('golden.qcow2', 'other'))).body.equals(bytes))
})

test('ranges', async () => {
  const { path } = await link({ format: 'raw' })
  const size = bytes.length
  for (const [range, first, end] of [
    ['bytes=0-0', 0, 1],
    ['bytes=65536-131071', 65_536, 131_072],
    ['bytes=200000-', 200_000, size],
    ['bytes=200000-999999999999999999999', 200_000, size],
    ['bytes=-3', size - 3, size],
    ['bytes=-999999999', 0, size],
  ] as const) {
    const said = await get(path, { range })
    assert.equal(said.status, 206, range)
    assert.equal(said.headers['content-range'], `bytes ${first}-${end - 1}/${size}`)
    assert.equal(said.headers['content-length'], String(end - first))
    assert.ok(said.body.equals(bytes.subarray(first, end)))
  }
  for (const range of ['bytes=0-1,3-4', 'bytes=9-5', 'lines=1-2', 'bytes=x']) {
    const said = await get(path, { range })
    assert.deepEqual([said.status, said.headers['content-range'], said.body.length], [200, undefined, size])
  }
  for (const range of [`bytes=${size}-`, 'bytes=-0', `bytes=${'9'.repeat(35)}-`]) {
    const said = await get(path, { range })
    assert.deepEqual([said.status, said.headers['content-range']], [416, `bytes */${size}`])
    assert.equal(said.json().error.reason, 'range')
  }
})

test('conditions: the tag says whether it is still the same file', async () => {
  const { path } = await link({ format: 'vmdk' })
  const etag = String((await server.ask('HEAD', path)).headers.etag)
  const range = 'bytes=10-19'
  assert.equal((await get(path, { range, 'if-range': etag })).status, 206)
  assert.equal((await get(path, { range, 'if-range': '"other"' })).status, 200)
  assert.equal((await get(path, { range, 'if-range': `W/${etag}` })).status, 200)
  assert.equal((await get(path, { range, 'if-range': new Date().toUTCString() })).status, 200)
  for (const given of [etag, `"x", W/${etag}`, '*']) {
    const same = await get(path, { 'if-none-match': given, range })
    assert.deepEqual([same.status, same.headers.etag, same.body.length], [304, etag, 0])
  }
  assert.equal((await get(path, { 'if-none-match': '"x"' })).status, 200)
  assert.equal((await server.ask('HEAD', path, { 'if-none-match': etag })).status, 304)
  assert.equal((await get(path, { 'if-match': etag, range })).status, 206)
  const other = await get(path, { 'if-match': `W/${etag}`, range })
  assert.deepEqual([other.status, other.json().error.reason], [412, 'etag'])
})

test('digests: of the whole where it is known, of a range where it is asked for', async () => {
  const { path, taskId } = await link({ format: 'vhdx', digest: true })
  assert.match(taskId, /^task-/)
  server.fake.transfers.isDigestKnown = true
  const wants = { 'want-content-digest': 'sha-256=10' }
  const part = await get(path, { ...wants, range: 'bytes=100-70099' })
  assert.equal(part.headers['content-digest'], digestOf(bytes.subarray(100, 70_100)))
  assert.equal(part.headers['repr-digest'], digestOf(bytes))
  assert.equal((await get(path, wants)).headers['content-digest'], digestOf(bytes))
  assert.equal((await get(path, { range: 'bytes=0-9' })).headers['content-digest'], undefined)
  const head = await server.ask('HEAD', path, wants)
  assert.deepEqual(
    [head.headers['repr-digest'], head.headers['content-digest']],
    [digestOf(bytes), undefined],
  )
})

test('a compressed file and a bundle have no size, and no ranges', async () => {
  for (const wish of [
    { format: 'raw', compress: 'zstd', disk: 1 },
    { bundle: { inventory: '{"version":1}' } },
  ]) {
    const { path, sizeBytes } = await link(wish)
    assert.equal(sizeBytes, null)
    const said = await get(path, { range: 'bytes=0-9' })
    assert.deepEqual([said.status, said.headers['accept-ranges']], [200, 'none'])
    assert.equal(said.headers['content-length'], undefined)
    assert.ok(said.body.equals(bytes))
    const head = await server.ask('HEAD', path)
    assert.deepEqual([head.status, head.headers['content-length']], [200, undefined])
  }
})

test('what keeps a file from being read is told; what breaks it off is seen', async () => {
  const { path } = await link()
  for (const [fault, status, retryAfter] of [
    [new Fault('absent', 'Gone.', { subject: 'file' }), 404, undefined],
    [new Fault('conflict', 'Its digest is being made.', { subject: 'file' }), 409, '5'],
    [new Fault('unavailable', 'Too many.', { reason: 'busy' }), 503, '5'],
    [new Fault('corrupt', 'A chunk is damaged.', { subject: 'store' }), 500, undefined],
  ] as const) {
    server.fake.failNext('exports.open', fault)
    const said = await get(path)
    assert.deepEqual([said.status, said.headers['retry-after']], [status, retryAfter])
    assert.equal(said.json().error.message, fault.message)
  }
  const damaged = new Fault('corrupt', 'A chunk is damaged.', { subject: 'store' })
  server.fake.transfers.beforePiece = async () => {
    throw damaged
  }
  const atOnce = await get(path)
  assert.deepEqual([atOnce.status, atOnce.json().error.kind], [500, 'corrupt'])
  server.fake.transfers.beforePiece = async (offset) => {
    if (offset >= 131_072) throw damaged
  }
  await assert.rejects(get(path), /aborted|socket hang up/)
  await server.logged(7)
  assert.deepEqual([server.records.at(-1)?.status, server.records.at(-1)?.error], [500, damaged])
})

test('a reader who leaves ends the work behind it', async () => {
  const { path } = await link()
  const { transfers } = server.fake
  let held = 0
  transfers.beforePiece = async (offset) => {
    if (offset === 0) return
    held++
    await new Promise<void>((resolve) => {
      const look = () => (socket.destroyed ? resolve() : void setImmediate(look))
      look()
    })
  }
  const socket = connect(server.port, '127.0.0.1')
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`)
  await once(socket, 'data')
  while (held === 0) await new Promise((resolve) => setImmediate(resolve))
  socket.destroy()
  while (transfers.bodiesEnded < transfers.bodiesBegun) await new Promise((resolve) => setImmediate(resolve))
  await server.logged(2)
  assert.equal(server.records.at(-1)?.status, 499)
})

test('names of any kind neither begin another header nor leave their folder', async () => {
  for (const [name, plain] of [
    ['镜像 v1', '__ v1'],
    ['a"b\\c', 'a_b_c'],
    ['x\r\nset-cookie: a=b', 'x__set-cookie: a=b'],
    ['../../etc/passwd', '.._.._etc_passwd'],
    ['100%41', '100_41'],
    ['\ud800', '_'],
    ['é\u0000\u007f', '___'],
  ] as const) {
    const image = fakeImage({ name })
    server.fake.images.set(image.id, image)
    const made = await server.askSigned('POST', `/v1/images/img-${image.id}/exports`, { format: 'raw' })
    assert.equal(made.status, 201, name)
    const { path } = made.json()
    assert.equal(path.split('/').length, 5)
    const said = await get(path)
    assert.equal(said.status, 200)
    const { 'content-disposition': disposition } = said.headers
    assert.ok(disposition?.startsWith(`attachment; filename="${plain}.raw"; filename*=UTF-8''`))
    const [, star = ''] = disposition?.split("UTF-8''") ?? []
    assert.equal(decodeURIComponent(star), `${name.toWellFormed()}.raw`)
    assert.equal(said.headers['set-cookie'], undefined)
    assert.ok(said.body.equals(bytes))
  }
})

test('tags of any kind stay one header', async () => {
  const { exports } = server.fake.app
  const { open } = exports
  const { path } = await link()
  try {
    for (const etag of ['"quoted"', 'a"b\r\nx: y']) {
      Object.assign(exports, {
        open: async (...asked: Parameters<typeof open>) => ({ ...(await open(...asked)), etag }),
      })
      const said = await server.ask('HEAD', path)
      assert.match(String(said.headers.etag), /^"(quoted|a_b__x:_y)"$/)
    }
  } finally {
    Object.assign(exports, { open })
  }
})

test('paths around a token, and tokens that are none', async () => {
  const { path } = await link()
  const [, , , token = ''] = path.split('/')
  for (const target of [
    `/v1/downloads/${token}`,
    `/v1/downloads/${token}/`,
    `/v1/downloads/${token}/a/b`,
    `/v1/downloads/${token}/../../images`,
    `/v1/downloads/../downloads/${token}/x`,
    `/v1/downloads/${token}x/golden.qcow2`,
    `/v1/downloads/${token.slice(1)}/golden.qcow2`,
    `/v1/downloads/${encodeURIComponent(`${token}/x`)}/y`,
    '/v1/downloads/short/golden.qcow2',
    `/v1/downloads/${'x'.repeat(43)}/golden.qcow2`,
    '/v1/downloads/',
    '/v1/downloads',
  ])
    assert.equal((await get(target)).status, 404, target)
  for (const target of [
    `/v1/%64ownloads/${token}/x`,
    `/v1//downloads/${token}/x`,
    `/V1/../v1/downloads/${token}/x`,
  ])
    assert.ok([403, 404].includes((await get(target)).status), target)
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
    assert.equal((await server.ask(method, path)).status, 405, method)
  const opened = server.fake.calls.filter(({ name }) => name === 'exports.open')
  assert.ok(opened.every(({ input }) => /^[A-Za-z0-9_-]{32,128}$/.test((input as { token: string }).token)))
  assert.ok(server.records.length > 15)
  assert.doesNotMatch(JSON.stringify(server.records), new RegExp(`${token.slice(1)}|xxxxxxxx`))
})

test('an export says one thing that can be made', async () => {
  const bad = async (wish: object, field: string) => {
    const said = await server.askSigned('POST', `${imagePath}/exports`, wish)
    assert.deepEqual([said.status, said.json().error.field], [400, field], said.body.toString())
  }
  await bad({}, 'format')
  await bad({ format: 'vdi' }, 'format')
  await bad({ format: 'raw', compress: 'gzip' }, 'compress')
  await bad({ format: 'raw', disk: -1 }, 'disk')
  await bad({ format: 'raw', bundle: { inventory: 'x' } }, 'bundle')
  await bad({ bundle: {} }, 'bundle.inventory')
  await bad({ bundle: { inventory: 'x'.repeat(900_001) } }, 'bundle.inventory')
  // Half a mebibyte, with a quotation mark for every second character.
  await link({ bundle: { inventory: '"x'.repeat(256 * 1024) } })
  await link({ format: 'qcow2', disk: 2, digest: true })
  assert.deepEqual(server.fake.calls.at(-1)?.input, {
    regionId: 'cn-hangzhou',
    projectId: undefined,
    imageId: imagePath.slice(-17),
    what: { is: 'disk', diskIndex: 2, format: 'qcow2', compress: undefined },
    withDigest: true,
  })
  const gone = await server.askSigned('POST', `/v1/images/img-${'0'.repeat(17)}/exports`, { format: 'raw' })
  assert.equal(gone.status, 404)
  server.fake.transfers.inventory = '{"pages":[]}'
  const inventory = await server.askSigned('GET', '/v1/inventory?region=hk')
  assert.deepEqual(inventory.json(), { inventory: '{"pages":[]}' })
})
