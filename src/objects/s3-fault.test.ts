import assert from 'node:assert/strict'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { after, before, test } from 'node:test'
import { type FaultKind, isFault } from '../image/fault.ts'
import { parseObjectName } from './names.ts'
import { openS3Objects } from './s3.ts'

const name = parseObjectName('packs/ab/abcdef')
const SECRET = 'a-secret-that-nobody-may-see'
let server: Server
let endpoint: string
let requestCount = 0
let answer: (response: ServerResponse) => void

/** A server that answers every request as the test says. */
before(async () => {
  server = createServer((request, response) => {
    requestCount++
    request.resume()
    request.on('end', () => answer(response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
})
after(() => {
  server.closeAllConnections()
  server.close()
})

const open = (more: { endpoint?: string; idleMs?: number; clean?: boolean } = {}) =>
  openS3Objects({
    ...{ endpoint, region: 'default', bucket: 'images', prefix: 'a', isPathStyle: true, clean: false },
    ...{ accessKeyId: 'key-id', secretAccessKey: SECRET },
    ...more,
  })
const failsWith = (kind: FaultKind, words: RegExp) => (error: unknown) => {
  assert.ok(isFault(error, kind), `${kind} expected: ${error}`)
  assert.equal(error.subject, 'store')
  assert.match(error.message, words)
  const cause = error.cause as Error | undefined
  const shown = `${error.stack} ${cause?.stack} ${JSON.stringify(cause)}`
  assert.ok(!shown.includes(SECRET) && !shown.includes('Signature='), shown)
  return true
}

test('s3: each answer of a service becomes a fault that says what to do, at the first try', async () => {
  const cases: [status: number, code: string, kind: FaultKind, words: RegExp][] = [
    [400, 'BadDigest', 'unavailable', /could not take the request just now/],
    [400, 'XAmzContentSHA256Mismatch', 'unavailable', /'images'/],
    [400, 'RequestTimeout', 'unavailable', /Try again/],
    [400, 'AuthorizationHeaderMalformed', 'invalid', /Correct endpoint and region/],
    [400, 'InvalidArgument', 'invalid', /Check that it is S3/],
    [403, 'AccessDenied', 'denied', /'images'.* rights to list the bucket/],
    [403, 'InvalidAccessKeyId', 'denied', /Check CALOTYPE_S3_ACCESS_KEY_ID/],
    [403, 'RequestTimeTooSkewed', 'denied', /clocks/],
    [403, 'QuotaExceeded', 'full', /full or over its quota/],
    [404, 'NoSuchBucket', 'invalid', /no bucket 'images' at http:\/\/127/],
    [405, 'MethodNotAllowed', 'invalid', /Check that it is S3/],
    [409, 'ConditionalRequestConflict', 'unavailable', /Try again/],
    [409, 'OperationAborted', 'unavailable', /Try again/],
    [409, 'Other', 'unavailable', /busy/],
    [429, 'TooMany', 'unavailable', /busy/],
    [500, 'InternalError', 'unavailable', /failed \(500\)/],
    [501, 'NotImplemented', 'invalid', /Check that it is S3/],
    [503, 'SlowDown', 'unavailable', /Try again/],
    [507, 'XMinioStorageFull', 'full', /Make room/],
    [507, 'Other', 'full', /no space left/],
  ]
  const objects = await open()
  for (const [status, code, kind, words] of cases) {
    answer = (response) => {
      response.writeHead(status, { 'content-type': 'application/xml' })
      response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${SECRET}</Message></Error>`)
    }
    const before = requestCount
    await assert.rejects(objects.put(name, Buffer.from('x')), failsWith(kind, words), code)
    assert.equal(requestCount, before + 1, code)
    await assert.rejects(objects.get(name, 0, 1), failsWith(kind, words), code)
    await assert.rejects(Array.fromAsync(objects.list('')), failsWith(kind, words), code)
    await assert.rejects(objects.remove(name), failsWith(kind, words), code)
    await assert.rejects(open({ clean: true }), failsWith(kind, words), code)
  }
})

test('s3: a head without a body is judged by its status', async () => {
  const objects = await open()
  const cases: [number, FaultKind][] = [
    [403, 'denied'],
    [500, 'unavailable'],
    [503, 'unavailable'],
  ]
  for (const [status, kind] of cases) {
    answer = (response) => response.writeHead(status).end()
    await assert.rejects(objects.size(name), failsWith(kind, /./))
  }
  answer = (response) => response.writeHead(404).end()
  assert.equal(await objects.size(name), undefined)
})

test('s3: something that is not S3 is a fault, never a crash', async () => {
  const objects = await open()
  answer = (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html><p>Hello')
  await assert.rejects(objects.get(name, 0, 1), failsWith('invalid', /does not answer ranges/))
  await assert.rejects(Array.fromAsync(objects.list('')), failsWith('unavailable', /failed \(200\)/))
  answer = (response) => response.writeHead(502, { 'content-type': 'text/html' }).end('<html>Bad gateway')
  await assert.rejects(objects.get(name, 0, 1), failsWith('unavailable', /502/))
  await assert.rejects(objects.put(name, Buffer.from('x')), failsWith('unavailable', /502/))
  answer = (response) => response.socket?.end('no HTTP at all\r\n\r\n')
  await assert.rejects(objects.get(name, 0, 1), failsWith('unavailable', /cannot be reached/))
})

test('s3: who does not answer, stops answering, hangs up or is not there is unavailable', async () => {
  const impatient = await open({ idleMs: 100 })
  answer = () => {}
  await assert.rejects(impatient.put(name, Buffer.from('x')), failsWith('unavailable', /reached \(timeout\)/))
  await assert.rejects(impatient.size(name), failsWith('unavailable', /cannot be reached/))
  const range = { 'content-range': 'bytes 0-9/10', 'content-length': 10 }
  answer = (response) => response.writeHead(206, range).write('half')
  await assert.rejects(impatient.get(name, 0, 10), failsWith('unavailable', /./))
  answer = (response) => {
    response.writeHead(206, range).write('half', () => response.destroy())
  }
  await assert.rejects(impatient.get(name, 0, 10), failsWith('unavailable', /./))
  answer = (response) => response.destroy()
  await assert.rejects(impatient.get(name, 0, 10), failsWith('unavailable', /./))
  // Nobody listens on the port that only answers on its own end.
  const nobody = await open({ endpoint: 'http://127.0.0.1:1' })
  await assert.rejects(
    nobody.get(name, 0, 10),
    failsWith('unavailable', /127.0.0.1:1 cannot be reached \(ECONNREFUSED\)/),
  )
  const unknown = await open({ endpoint: 'http://nowhere.invalid' })
  await assert.rejects(unknown.size(name), failsWith('unavailable', /nowhere.invalid cannot be reached \(E/))
})
