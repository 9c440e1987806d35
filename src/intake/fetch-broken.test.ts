import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  allClosed,
  BYTES,
  fetcherOf,
  never,
  readAll,
  refusal,
  START,
  serve,
  serveRaw,
  startRawServer,
  unavailable,
} from './fetch.fixture.ts'

// What a server does wrong, and what whoever stops leaves behind.

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
