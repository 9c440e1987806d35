import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { nameServer, startRawServer, startServer, world } from './fetch.fixture.ts'
import { createSender } from './sender.ts'

const never = new AbortController().signal
const PUBLIC = '93.184.215.14'
const MESSAGE = { headers: { 'Content-Type': 'application/json' }, body: Buffer.from('{"a":"é"}') }

const refusal = (reason: 'address' | 'url') => (error: unknown) =>
  isFault(error, 'invalid') &&
  error.subject === 'request' &&
  error.reason === reason &&
  error.field === 'url' &&
  !/fetch/.test(error.message)
const unavailable = (words: RegExp) => (error: unknown) =>
  isFault(error, 'unavailable') && error.subject === 'webhook' && words.test(error.message)

/** A server that nobody may ever reach. */
async function canary(t: TestContext) {
  const server = await startServer((_, response) => response.end('secret'))
  t.after(() => server.close())
  return server
}

test('sender: a message arrives whole, with its length and the host of its address', async (t) => {
  const bodies: string[] = []
  const methods: unknown[] = []
  const server = await startServer(async (request, response) => {
    bodies.push(Buffer.concat(await Array.fromAsync(request)).toString())
    methods.push(request.method)
    response.writeHead(Number(request.url?.slice(1, 4))).end('an answer that nobody reads')
  })
  t.after(() => server.close())
  const sender = createSender({ allow: [`127.0.0.1:${server.port}`] })
  for (const status of [200, 204, 301, 307, 404, 500])
    assert.equal(await sender.post(`${server.origin}/${status}?key=1`, MESSAGE, never), status)
  assert.deepEqual(bodies, Array(6).fill('{"a":"é"}'))
  assert.deepEqual(methods, Array(6).fill('POST'))
  const { headers, url } = server.requests[0] ?? assert.fail()
  assert.equal(url, '/200?key=1')
  assert.deepEqual([headers['content-length'], headers['transfer-encoding']], ['10', undefined])
  assert.equal(headers.host, `127.0.0.1:${server.port}`)
  assert.equal(headers['content-type'], 'application/json')
  // A connection each, and none is left.
  assert.equal(server.connectionCount(), 6)
  while (server.openCount() > 0) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(sender.check(`${server.origin}/200?key=1`), `${server.origin}/…`)
})

test('sender: a large message arrives whole, or its refusal before the end is read', async (t) => {
  let sizeBytes = 0
  const server = await startServer(async (request, response) => {
    if (request.url === '/early') return response.writeHead(413, { connection: 'close' }).end()
    for await (const piece of request) sizeBytes += (piece as Buffer).length
    response.end()
  })
  t.after(() => server.close())
  const sender = createSender({ allow: ['127.0.0.1'] })
  const large = { headers: {}, body: Buffer.alloc(300_000, 'x') }
  assert.equal(await sender.post(`${server.origin}/`, large, never), 200)
  assert.equal(sizeBytes, 300_000)
  assert.equal(await sender.post(`${server.origin}/early`, large, never), 413)
})

test('sender: addresses that are inside are refused at once, and never connected to', async (t) => {
  const inside = await canary(t)
  const sender = createSender({ allow: [] })
  for (const host of [
    ...[
      '127.0.0.1',
      '127.1',
      '2130706433',
      '0x7f.1',
      '017700000001',
      '0.0.0.0',
      '0',
      'localhost',
      'a.localhost.',
    ],
    ...[
      '[::1]',
      '[::]',
      '[::ffff:127.0.0.1]',
      '[64:ff9b::7f00:1]',
      '[fe80::1]',
      '１２７.０.０.１',
      '127。0。0。1',
    ],
    ...['169.254.169.254', '[fd00:ec2::254]', '100.100.100.200', '10.0.0.1', '172.16.0.1', '192.168.1'],
  ]) {
    const url = `http://${host}:${inside.port}/x`
    assert.throws(() => sender.check(url), refusal('address'), url)
    await assert.rejects(sender.post(url, MESSAGE, never), refusal('address'), url)
  }
  for (const url of [
    ...['file:///etc/passwd', 'gopher://x/', 's3://bucket/x', 'x', `http://u:p@127.0.0.1:${inside.port}/`],
    ...[`http://example.com#@127.0.0.1:${inside.port}/`, `http:\\\\127.0.0.1:${inside.port}/`, ''],
  ]) {
    assert.throws(() => sender.check(url), refusal('url'), url)
    await assert.rejects(sender.post(url, MESSAGE, never), refusal('url'), url)
  }
  for (const port of [22, 25, 6667])
    assert.throws(() => sender.check(`http://${PUBLIC}:${port}/`), refusal('address'))
  assert.equal(inside.connectionCount(), 0)
})

test('sender: a name that leads inside is not connected to, now or at its second answer', async (t) => {
  const inside = await canary(t)
  const outside = await startServer((_, response) => response.end('public'))
  t.after(() => outside.close())
  const names = nameServer({
    'rebind.example': [[PUBLIC], ['127.0.0.1']],
    'inside.example': [['127.0.0.1', '::1', '169.254.169.254']],
  })
  const places = world({ [PUBLIC]: outside, '127.0.0.1': inside })
  const sender = createSender({ allow: [], lookup: names.lookup, connect: places.connect })
  const url = `http://rebind.example:${inside.port}/`
  assert.equal(sender.check(url), url)
  assert.equal(await sender.post(url, MESSAGE, never), 200)
  await assert.rejects(sender.post(url, MESSAGE, never), refusal('address'))
  await assert.rejects(sender.post('http://inside.example/', MESSAGE, never), refusal('address'))
  assert.deepEqual([names.asked.length, places.tried], [3, [`${PUBLIC} ${inside.port}`]])
  assert.equal(inside.connectionCount(), 0)
})

test('sender: a redirect is an answer, wherever it leads', async (t) => {
  const inside = await canary(t)
  const outside = await startServer((_, response) =>
    response.writeHead(307, { Location: `http://127.0.0.1:${inside.port}/` }).end(),
  )
  t.after(() => outside.close())
  const { lookup } = nameServer({ 'hooks.example': [[PUBLIC]] })
  const { connect } = world({ [PUBLIC]: outside })
  const sender = createSender({ allow: [], lookup, connect })
  assert.equal(await sender.post('http://hooks.example/', MESSAGE, never), 307)
  assert.equal(inside.connectionCount(), 0)
})

test('sender: a connection that leads elsewhere ends before a byte is sent', async (t) => {
  const inside = await canary(t)
  const { lookup } = nameServer({ 'led.example': [[PUBLIC]] })
  const { connect } = await import('node:net')
  const elsewhere = () => connect({ host: '127.0.0.1', port: inside.port })
  const sender = createSender({ allow: [], lookup, connect: elsewhere })
  await assert.rejects(sender.post('http://led.example/', MESSAGE, never), refusal('address'))
  assert.equal(inside.requests.length, 0)
})

test('sender: who never answers, says no HTTP or is not there ends in a fault, and so does a caller who stops', async (t) => {
  const silent = await startRawServer((socket) => socket.resume())
  const odd = await startRawServer((socket) => socket.end('no HTTP at all, but a secret\r\n\r\n'))
  const endless = await startRawServer((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nx: ')
      const timer = setInterval(() => socket.write('y'), 5)
      socket.on('close', () => clearInterval(timer))
    })
  })
  t.after(() => Promise.all([silent.close(), odd.close(), endless.close()]))
  const sender = createSender({ allow: ['127.0.0.1'], totalMs: 50 })
  const late = unavailable(/^It did not answer within 0\.05 s\.$/)
  await assert.rejects(sender.post(silent.origin, MESSAGE, never), late)
  await assert.rejects(sender.post(endless.origin, MESSAGE, never), late)
  await assert.rejects(sender.post(odd.origin, MESSAGE, never), unavailable(/^[^"]*understood\.$/))
  await odd.close()
  await assert.rejects(sender.post(odd.origin, MESSAGE, never), unavailable(/cannot be reached/))
  const patient = createSender({ allow: ['127.0.0.1'] })
  const stop = new AbortController()
  const sent = patient.post(silent.origin, MESSAGE, stop.signal)
  while (silent.connectionCount() < 2) await new Promise((resolve) => setImmediate(resolve))
  stop.abort(new Error('enough'))
  await assert.rejects(sent, /enough/)
  while (silent.openCount() > 0) await new Promise((resolve) => setImmediate(resolve))
})
