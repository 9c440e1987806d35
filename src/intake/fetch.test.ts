import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { type LocalServer, readAll, startRawServer, startServer } from './fetch.fixture.ts'
import { createFetcher, type FetcherOptions } from './fetch.ts'

const never = new AbortController().signal
const START = { offset: 0, etag: undefined }
const BYTES = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251))
const refusal = (reason: 'address' | 'url') => (error: unknown) =>
  isFault(error, 'invalid') && error.subject === 'request' && error.reason === reason
const unavailable = (error: unknown) => isFault(error, 'unavailable') && error.subject === 'file'
const fetcherOf = ({ port }: LocalServer, options: Partial<FetcherOptions> = {}) =>
  createFetcher({ allow: [`127.0.0.1:${port}`], ...options })

type Answer = Parameters<typeof startServer>[0]

async function serve(t: TestContext, answer: Answer): Promise<LocalServer> {
  const server = await startServer(answer)
  t.after(() => server.close())
  return server
}

/** Writes exactly this and waits; 'end' closes behind it. */
async function serveRaw(t: TestContext, text: string | Buffer, then: 'end' | 'wait'): Promise<LocalServer> {
  const server = await startRawServer((socket) => {
    socket.once('data', () => {
      if (then === 'end') socket.end(text)
      else socket.write(text)
    })
  })
  t.after(() => server.close())
  return server
}

async function allClosed(server: LocalServer): Promise<void> {
  while (server.openCount() > 0) await new Promise((resolve) => setImmediate(resolve))
}

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

test('fetch: an answer that is packed for the way is refused', async (t) => {
  for (const headers of [
    'Content-Encoding: gzip',
    'Content-Encoding: identity, br',
    'Transfer-Encoding: gzip, chunked',
  ]) {
    const server = await serveRaw(t, `HTTP/1.1 200 OK\r\n${headers}\r\n\r\n`, 'wait')
    await assert.rejects(
      fetcherOf(server).open({ url: `${server.origin}/` }, START, never),
      refusal('url'),
      headers,
    )
  }
  const server = await serveRaw(t, 'HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\nabc', 'end')
  assert.equal(
    String(await readAll(await fetcherOf(server).open({ url: `${server.origin}/` }, START, never))),
    'abc',
  )
})

test('fetch: what is no HTTP, or too much of it, ends in a fault', async (t) => {
  for (const text of [
    ...['', 'SSH-2.0-OpenSSH_9.2\r\n', '220 smtp ready\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'],
    ...[
      'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n',
    ],
    ...[
      'HTTP/1.1 200 OK\r\nContent-Length: 9007199254740993\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
    ],
    ...[
      `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(17_000)}\r\n\r\n`,
      `HTTP/1.1 200 OK\r\n${'X: aaaaaaaaaa\r\n'.repeat(1500)}\r\n`,
    ],
    ...[
      'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      'HTTP/1.1 200 OK\nX : y\r\n\r\n',
    ],
  ]) {
    const server = await serveRaw(t, text, 'end')
    await assert.rejects(
      fetcherOf(server).open({ url: `${server.origin}/` }, START, never),
      unavailable,
      text.slice(0, 60),
    )
    await allClosed(server)
  }
})

test('fetch: a body that breaks off, has less or stands still ends in a fault, and what came before is kept', async (t) => {
  for (const [text, then] of [
    ['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', 'end'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', 'end'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n', 'end'],
    ['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', 'wait'],
  ] as const) {
    const server = await serveRaw(t, text, then)
    const file = await fetcherOf(server, { idleMs: 300 }).open({ url: `${server.origin}/` }, START, never)
    let came = ''
    await assert.rejects(async () => {
      for await (const piece of file.body) came += String(piece)
    }, unavailable)
    assert.equal(came, 'abc')
    await allClosed(server)
  }
})

test('fetch: more than was announced never reaches the reader', async (t) => {
  const longer = await serveRaw(t, 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef', 'wait')
  assert.equal(
    String(await readAll(await fetcherOf(longer).open({ url: `${longer.origin}/` }, START, never))),
    'abc',
  )
  const part = await serveRaw(
    t,
    'HTTP/1.1 206 Partial\r\nContent-Range: bytes 7-9/10\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n',
    'wait',
  )
  const file = await fetcherOf(part).open({ url: `${part.origin}/` }, { offset: 7, etag: '"one"' }, never)
  await assert.rejects(readAll(file), unavailable)
  await allClosed(part)
})

test('fetch: a part that ends before the file does is asked for again by whoever reads', async (t) => {
  const server = await serve(t, (_, response) => {
    response.writeHead(206, { 'Content-Range': 'bytes 400-499/1000' }).end(BYTES.subarray(400, 500))
  })
  const file = await fetcherOf(server).open(
    { url: `${server.origin}/` },
    { offset: 400, etag: '"one"' },
    never,
  )
  let doneBytes = 0
  await assert.rejects(async () => {
    for await (const piece of file.body) doneBytes += piece.length
  }, unavailable)
  assert.equal(doneBytes, 100)
})

test('fetch: silence and slowness have an end', async (t) => {
  const silent = await startRawServer((socket) => socket.resume())
  t.after(() => silent.close())
  await assert.rejects(
    fetcherOf(silent, { idleMs: 50 }).open({ url: `${silent.origin}/` }, START, never),
    unavailable,
  )
  await assert.rejects(
    fetcherOf(silent, { totalMs: 50 }).open({ url: `${silent.origin}/` }, START, never),
    unavailable,
  )
  const dripping = await serve(t, (_, response) => {
    const timer = setInterval(() => response.write('a'), 5)
    response.on('close', () => clearInterval(timer))
  })
  const file = await fetcherOf(dripping, { totalMs: 300 }).open({ url: `${dripping.origin}/` }, START, never)
  await assert.rejects(readAll(file), unavailable)
  // Also where nobody reads.
  await fetcherOf(dripping, { totalMs: 300 }).open({ url: `${dripping.origin}/` }, START, never)
  await allClosed(dripping)
  // A flood of heads that are none.
  const early = await startRawServer((socket) => {
    const timer = setInterval(() => socket.write('HTTP/1.1 100 Continue\r\n\r\n'), 5)
    socket.on('close', () => clearInterval(timer))
  })
  t.after(() => early.close())
  await assert.rejects(
    fetcherOf(early, { idleMs: 100 }).open({ url: `${early.origin}/` }, START, never),
    unavailable,
  )
  await allClosed(early)
})

test('fetch: whoever stops ends the connection', async (t) => {
  const server = await serve(t, (_, response) => {
    response.writeHead(200, { 'Content-Length': 1e9 })
    const fill = () => {
      while (response.write(Buffer.alloc(65_536)));
    }
    response.on('drain', fill)
    fill()
  })
  const url = `${server.origin}/`
  const closed = await fetcherOf(server).open({ url }, START, never)
  closed.close()
  closed.close()
  await allClosed(server)
  const left = await fetcherOf(server).open({ url }, START, never)
  for await (const piece of left.body) {
    assert.ok(piece.length > 0)
    break
  }
  await allClosed(server)
  const abort = new AbortController()
  const aborted = await fetcherOf(server).open({ url }, START, abort.signal)
  await assert.rejects(async () => {
    for await (const _ of aborted.body) abort.abort(new Error('enough'))
  }, /enough/)
  await allClosed(server)
  const unread = new AbortController()
  await fetcherOf(server).open({ url }, START, unread.signal)
  unread.abort()
  await allClosed(server)
  await assert.rejects(fetcherOf(server).open({ url }, START, unread.signal), { name: 'AbortError' })
})

test('fetch: an end while the head is awaited', async (t) => {
  const server = await startRawServer((socket) => socket.resume())
  t.after(() => server.close())
  const abort = new AbortController()
  const opening = fetcherOf(server).open({ url: `${server.origin}/` }, START, abort.signal)
  while (server.openCount() === 0) await new Promise((resolve) => setImmediate(resolve))
  abort.abort(new Error('enough'))
  await assert.rejects(opening, /enough/)
  await allClosed(server)
})
