import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import {
  allClosed,
  BYTES,
  fetcherOf,
  never,
  readAll,
  refusal,
  START,
  serve,
  unavailable,
} from './fetch.fixture.ts'
import { createFetcher } from './fetch.ts'

test('fetch: a file comes whole, with what is known of it', async (t) => {
  const server = await serve(t, (_, response) => {
    response.writeHead(200, { ETag: '"one"', 'Content-Length': BYTES.length }).end(BYTES)
  })
  const file = await fetcherOf(server).open({ url: `${server.origin}/a?key=secret` }, START, never)
  assert.deepEqual([file.sizeBytes, file.etag, file.offset], [1000, '"one"', 0])
  assert.deepEqual(await readAll(file), BYTES)
  await allClosed(server)
  const [request] = server.requests
  assert.equal(request?.url, '/a?key=secret')
  assert.deepEqual(request?.headers, {
    ...{ accept: '*/*', 'user-agent': 'calotype', host: `127.0.0.1:${server.port}` },
    ...{ 'accept-encoding': 'identity', connection: 'close' },
  })
})

test('fetch: one of unknown length, and an empty one', async (t) => {
  const server = await serve(t, (request, response) => {
    if (request.url === '/empty') response.writeHead(200, { 'Content-Length': 0 }).end()
    else response.write('a', () => response.end('b'))
  })
  const chunked = await fetcherOf(server).open({ url: `${server.origin}/` }, START, never)
  assert.equal(chunked.sizeBytes, undefined)
  assert.equal(String(await readAll(chunked)), 'ab')
  const empty = await fetcherOf(server).open({ url: `${server.origin}/empty` }, START, never)
  assert.equal(empty.sizeBytes, 0)
  assert.equal((await readAll(empty)).length, 0)
})

test('fetch: redirects are followed, each on a connection of its own, with nothing but what we ask for', async (t) => {
  const last = await serve(t, (_, response) => response.end('there'))
  const first = await serve(t, (request, response) => {
    const count = Number(request.url?.slice(1))
    const Location = count === 5 ? `${last.origin}/x#part` : `/${count + 1}`
    response
      .writeHead([301, 302, 303, 307, 308][count - 1] ?? 302, { Location, 'Set-Cookie': 'a=b' })
      .end('words')
  })
  const fetcher = createFetcher({ allow: [`127.0.0.1:${first.port}`, `127.0.0.1:${last.port}`] })
  const file = await fetcher.open({ url: `${first.origin}/1` }, START, never)
  assert.equal(String(await readAll(file)), 'there')
  assert.equal(first.connectionCount(), 5)
  assert.equal(last.requests[0]?.url, '/x')
  assert.deepEqual(Object.keys(last.requests[0]?.headers ?? {}).sort(), [
    ...['accept', 'accept-encoding', 'connection', 'host', 'user-agent'],
  ])
  await assert.rejects(fetcher.open({ url: `${first.origin}/0` }, START, never), refusal('url'))
})

test('fetch: a redirect does not open what the settings do not', async (t) => {
  const canary = await serve(t, (_, response) => response.end('secret'))
  let location = ''
  const server = await serve(t, (_, response) => response.writeHead(302, { Location: location }).end())
  const fetcher = fetcherOf(server)
  for (const host of [
    '127.0.0.1',
    'localhost',
    '0x7f.1',
    '2130706433',
    '0177.0.0.1',
    '[::ffff:127.0.0.1]',
    '[::1]',
    '0',
    '127.1',
  ]) {
    location = `http://${host}:${canary.port}/`
    await assert.rejects(
      fetcher.open({ url: `${server.origin}/` }, START, never),
      refusal('address'),
      location,
    )
  }
  location = 'http://169.254.169.254/latest/meta-data/'
  await assert.rejects(fetcher.open({ url: `${server.origin}/` }, START, never), refusal('address'))
  for (location of [
    ...[
      'file:///etc/passwd',
      'ftp://example.com/',
      's3://bucket/key',
      'data:,x',
      'gopher://127.0.0.1:6379/_x',
      'unix:/run/x',
    ],
    ...[
      `http://user:pass@127.0.0.1:${canary.port}/`,
      `http://127.0.0.1:${server.port}@127.0.0.1:${canary.port}/`,
      '//[/',
      'http://a b/',
    ],
  ]) {
    await assert.rejects(fetcher.open({ url: `${server.origin}/` }, START, never), (error) => {
      // What a stranger's answer says is not shown to anybody.
      return refusal('url')(error) && !String((error as Error).stack).includes(location)
    })
  }
  assert.equal(canary.connectionCount(), 0)
  await allClosed(server)
})

test('fetch: a download goes on where it was', async (t) => {
  const server = await serve(t, (request, response) => {
    const first = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1])
    assert.equal(request.headers['if-range'], '"one"')
    response.writeHead(206, {
      ...{ ETag: '"one"', 'Content-Range': `bytes ${first}-999/1000`, 'Content-Length': 1000 - first },
    })
    response.end(BYTES.subarray(first))
  })
  const file = await fetcherOf(server).open(
    { url: `${server.origin}/` },
    { offset: 400, etag: '"one"' },
    never,
  )
  assert.deepEqual([file.sizeBytes, file.etag, file.offset], [1000, '"one"', 400])
  assert.deepEqual(await readAll(file), BYTES.subarray(400))
})

test('fetch: where it cannot go on it begins again', async (t) => {
  const parts: readonly (readonly [status: number, headers: Record<string, string>])[] = [
    [206, {}],
    [206, { 'Content-Range': 'bytes 0-999/1000' }],
    [206, { 'Content-Range': 'bytes 401-999/1000' }],
    [206, { 'Content-Range': 'bytes 400-999/*' }],
    [206, { 'Content-Range': 'bytes 400-1000/1000' }],
    [206, { 'Content-Range': 'bytes 400-399/1000' }],
    [206, { 'Content-Range': 'bytes 400-999/99999999999999999999' }],
    [206, { 'Content-Range': 'bytes 400-9007199254740993/9007199254740995' }],
    [206, { 'Content-Range': 'bytes 400-999/1000', 'Content-Length': '3' }],
    [206, { 'Content-Range': 'bytes 400-999/1000', ETag: '"two"' }],
    [206, { 'Content-Type': 'multipart/byteranges; boundary=x' }],
    [416, {}],
    [416, { 'Content-Range': 'bytes */1000' }],
    [416, { 'Content-Range': 'bytes */400', ETag: '"two"' }],
    [412, {}],
  ]
  for (const [status, headers] of parts) {
    const server = await serve(t, (request, response) => {
      if (request.headers.range === undefined) response.writeHead(200, { ETag: '"two"' }).end(BYTES)
      else response.writeHead(status, headers).end('bad')
    })
    const file = await fetcherOf(server).open(
      { url: `${server.origin}/` },
      { offset: 400, etag: '"one"' },
      never,
    )
    assert.deepEqual([file.etag, file.offset], ['"two"', 0])
    assert.deepEqual(await readAll(file), BYTES)
    assert.equal(server.requests.length, 2)
  }
})

test('fetch: a changed file, and one without a strong validator, come from the start at once', async (t) => {
  const server = await serve(t, (_, response) => {
    response.writeHead(200, { ETag: 'W/"weak"', 'Last-Modified': 'Sun, 22 Nov 2026 10:00:00 GMT' }).end(BYTES)
  })
  for (const etag of ['"one"', 'W/"weak"', undefined, 'one', '"a"b"', '"\r\nX: y"']) {
    const file = await fetcherOf(server).open({ url: `${server.origin}/` }, { offset: 400, etag }, never)
    assert.deepEqual([file.offset, file.etag], [0, undefined])
    assert.deepEqual(await readAll(file), BYTES)
  }
  assert.equal(server.requests.length, 6)
  assert.equal(server.requests.filter(({ headers }) => headers.range !== undefined).length, 1)
})

test('fetch: a file that was whole already has no more bytes', async (t) => {
  const server = await serve(t, (_, response) => {
    response.writeHead(416, { 'Content-Range': 'bytes */1000', ETag: '"one"' }).end('not satisfiable')
  })
  const file = await fetcherOf(server).open(
    { url: `${server.origin}/` },
    { offset: 1000, etag: '"one"' },
    never,
  )
  assert.deepEqual([file.sizeBytes, file.offset], [1000, 1000])
  assert.equal((await readAll(file)).length, 0)
  await allClosed(server)
})

test('fetch: what the server says is told apart by what to do about it', async (t) => {
  let status = 0
  const server = await serve(t, (_, response) => {
    response.writeHead(status, { 'X-Secret': 'canary' }).end('canary')
  })
  for (const [kind, statuses] of [
    ['absent', [404, 410]],
    ['denied', [401, 403]],
    [
      'unavailable',
      [201, 204, 206, 300, 304, 400, 405, 407, 408, 412, 416, 418, 429, 451, 500, 502, 503, 504, 599, 999],
    ],
  ] as const) {
    for (status of statuses) {
      await assert.rejects(
        fetcherOf(server).open({ url: `${server.origin}/x?canary` }, START, never),
        (error) => {
          assert.ok(isFault(error, kind) && error.subject === 'file', `${status} ${error}`)
          return !`${error.stack} ${error.cause}`.includes('canary')
        },
      )
    }
  }
  // A redirect to nowhere.
  status = 302
  await assert.rejects(fetcherOf(server).open({ url: `${server.origin}/` }, START, never), unavailable)
  await allClosed(server)
})
