import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { newId } from '../../image/ids.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp } from './fixture.ts'
import { fakeImage, NOW_MS, PROJECT } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'
import { startNative } from './fixture-server.ts'

const seed = Date.now() % 2 ** 31
console.log(`seed ${seed}`)

test('no headers of a stranger make a bug of uploads and downloads', async () => {
  const fake = createFakeApp()
  const bugs: unknown[] = []
  const door = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 60_000,
    onBug: (error) => bugs.push(error),
  })
  const caller = await fake.keyring.caller('user-1', 'native', {
    ...{ requestId: 'r', sourceIp: '127.0.0.1', secureTransport: false },
  })
  const image = fakeImage()
  fake.images.set(image.id, image)
  const where = { regionId: image.regionId, projectId: PROJECT }
  const link = await fake.app.exports.create(caller, {
    ...{ ...where, imageId: image.id, withDigest: false },
    what: { is: 'disk', diskIndex: 0, format: 'raw', compress: undefined },
  })
  const place = async () =>
    (await fake.app.uploads.create(caller, { ...where, name: 'a', kind: 'custom', lengthBytes: 10 })).token

  const odd = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.nat().map(String),
    fc.constantFrom(
      '0',
      '-1',
      '1.0.0',
      '9'.repeat(17),
      'bytes=0-3',
      'bytes=-1',
      '*',
      '"x"',
      'sha256 AAAA',
      'PATCH',
    ),
    fc.constantFrom('name YQ==', 'name YQ==,sha256 YQ==', 'application/offset+octet-stream', 'HEAD', '1'),
  )
  const names = [
    ...['upload-offset', 'upload-length', 'upload-defer-length', 'upload-checksum', 'upload-metadata'],
    ...['content-type', 'content-length', 'content-encoding', 'x-http-method-override', 'tus-resumable'],
    ...['range', 'if-range', 'if-match', 'if-none-match', 'want-content-digest', 'x-forwarded-proto', 'host'],
  ]
  const headers = fc.dictionary(fc.constantFrom(...names), odd, { maxKeys: 8 })
  const method = fc.constantFrom('HEAD', 'PATCH', 'DELETE', 'GET', 'POST', 'OPTIONS', 'PUT')
  const at = fc.constantFrom('upload', 'download', 'creation')
  await fc.assert(
    fc.asyncProperty(at, method, headers, fc.boolean(), async (at, method, headers, isTus) => {
      const path = {
        upload: `/v1/uploads/${await place()}`,
        download: `/v1/downloads/${link.token}/x`,
        creation: '/v1/uploads',
      }[at]
      const given = { ...headers, ...(isTus ? { 'tus-resumable': '1.0.0' } : {}) }
      async function* body() {
        yield Buffer.from('abc')
      }
      const signed = signedRequest(method, path)
      const request = {
        ...signed,
        headers: at === 'creation' ? { ...given, ...signed.headers } : given,
        stream: body(),
      }
      door.streams?.(request)
      const answer = await door.handle(request)
      assert.notEqual(answer.status, 500, String(answer.body))
      for (const [name, value] of Object.entries(answer.headers)) {
        assert.match(name, /^[a-z0-9-]+$/)
        assert.match(value, /^[\x20-\x7e]*$/, name)
      }
      for await (const bytes of answer.stream ?? []) assert.ok(bytes.length > 0)
    }),
    { numRuns: 1500, seed },
  )
  assert.deepEqual(bugs, [])
  assert.equal(fake.transfers.bodiesBegun, fake.transfers.bodiesEnded)
})

test('fifty slow uploads at once hold up nobody else', async () => {
  const server = await startNative()
  try {
    const id = newId('image')
    server.fake.images.set(id, fakeImage({ id }))
    const paths: string[] = []
    for (let i = 0; i < 50; i++) {
      const made = await server.askSigned('POST', '/v1/uploads', { name: `slow-${i}`, lengthBytes: 4 })
      paths.push(made.json().location)
    }
    const sockets = paths.map((path) => {
      const socket = connect(server.port, '127.0.0.1')
      socket.write(
        `PATCH ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\n` +
          'content-type: application/offset+octet-stream\r\ncontent-length: 4\r\n\r\nx',
      )
      return socket
    })
    const isBusy = () => [...server.fake.transfers.uploads.values()].filter((one) => one.isBusy).length
    while (isBusy() < 50) await new Promise((resolve) => setImmediate(resolve))
    for (let i = 0; i < 50; i++) {
      const list = await server.askSigned('GET', '/v1/images')
      assert.deepEqual([list.status, list.json().total], [200, 1])
    }
    // Another who comes for the same place waits his turn.
    const second = await server.ask(
      ...(['PATCH', paths[0] ?? ''] as const),
      {
        ...{ 'tus-resumable': '1.0.0', 'upload-offset': '0' },
        'content-type': 'application/offset+octet-stream',
      },
      'abcd',
    )
    assert.deepEqual([second.status, second.json().error.reason], [423, 'busy'])
    const ends = sockets.map(async (socket) => {
      let said = ''
      socket.on('data', (bytes) => {
        said += bytes
      })
      socket.write('yz')
      socket.write('!')
      await once(socket, 'close')
      return said
    })
    for (const said of await Promise.all(ends)) assert.match(said, /^HTTP\/1\.1 204 [\s\S]*upload-offset: 4/i)
  } finally {
    await server.gateway.close()
  }
})

test('a server that closes tells a sender to go on later, and calls it no bug', async () => {
  const server = await startNative({ closeGraceMs: 10_000 })
  const made = await server.askSigned('POST', '/v1/uploads', { name: 'a', lengthBytes: 4 })
  const { location } = made.json()
  const socket = connect(server.port, '127.0.0.1')
  let said = ''
  socket.on('data', (bytes) => {
    said += bytes
  })
  socket.write(
    `PATCH ${location} HTTP/1.1\r\nhost: x\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\n` +
      'content-type: application/offset+octet-stream\r\ncontent-length: 4\r\n\r\nx',
  )
  const held = [...server.fake.transfers.uploads.values()][0]
  while (!held?.isBusy) await new Promise((resolve) => setImmediate(resolve))
  const closed = server.gateway.close()
  socket.write('y')
  await once(socket, 'close')
  await closed
  assert.match(said, /^HTTP\/1\.1 503 [\s\S]*"kind":"unavailable"/)
  assert.deepEqual(server.bugs, [])
})
