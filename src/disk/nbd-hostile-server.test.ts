import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { scriptedExport, serveScript } from './fixture.ts'
import { openNbd } from './nbd-client.ts'
import type { Link } from './nbd-link.ts'
import { decodeOption, encodeGreeting, encodeOptionReply, OPTION_BYTES, REPLY } from './nbd-options.ts'
import {
  CHUNK,
  CHUNK_DONE,
  EXPORT_FLAG,
  encodeBlockStatus,
  encodeChunk,
  encodeError,
  encodeSimpleReply,
  type Request,
  writeUint64,
} from './nbd-protocol.ts'

const unavailable = (error: unknown) => isFault(error, 'unavailable')

function dataChunk(
  request: Request,
  offset: number,
  lengthBytes: number,
  flags = 0,
  sent = lengthBytes,
): Buffer {
  const rest = Buffer.alloc(8 + sent, 1)
  writeUint64(rest, offset, 0)
  return encodeChunk({ flags, type: CHUNK.offsetData, cookie: request.cookie }, 8 + lengthBytes, rest)
}

async function answerOptions(link: Link, reply: (option: number) => Buffer[]): Promise<void> {
  link.send([encodeGreeting(3)])
  await link.take(4)
  for (;;) {
    const { option, dataBytes } = decodeOption(await link.take(OPTION_BYTES))
    await link.take(dataBytes)
    link.send(reply(option))
  }
}

const handshakes: Record<string, (link: Link) => Promise<void>> = {
  'no NBD': async (link) => link.flush(Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian\r\n')),
  'the old handshake': async (link) =>
    link.flush(Buffer.from('NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53'), Buffer.alloc(136)),
  'nothing at all': async (link) => link.end(new Error('bye')),
  'half a greeting': async (link) => {
    await link.flush(encodeGreeting(3).subarray(0, 11))
    link.end(new Error('bye'))
  },
  'answers without end': (link) =>
    answerOptions(link, (option) => Array(100).fill(encodeOptionReply(option, REPLY.info, Buffer.alloc(12)))),
  'an answer to another option': (link) => answerOptions(link, () => [encodeOptionReply(99, REPLY.ack)]),
  'an answer too long': (link) =>
    answerOptions(link, (option) => {
      const reply = encodeOptionReply(option, REPLY.ack)
      reply.writeUInt32BE(0xffffffff, 16)
      return [reply]
    }),
  'no size': (link) => answerOptions(link, (option) => [encodeOptionReply(option, REPLY.ack)]),
  'noise for an answer': (link) => answerOptions(link, () => [Buffer.alloc(64, 0x5a)]),
  'no flags': scriptedExport({ flags: 0 }, async () => {}),
  'a size beyond numbers': scriptedExport({ sizeBytes: 2 ** 60 }, async () => {}),
}
for (const [name, script] of Object.entries(handshakes)) {
  test(`a server that greets with ${name} is a fault`, async (t) => {
    await assert.rejects(openNbd(await serveScript(t, script)), unavailable)
  })
}

test('a server that never greets is given up', async (t) => {
  const address = await serveScript(t, async () => {})
  await assert.rejects(openNbd(address, { connectMs: 20 }), unavailable)
})

test('a server that never answers is given up, but not while nothing is asked', async (t) => {
  const address = await serveScript(
    t,
    scriptedExport({}, async (request, link) => {
      if (request.offset === 0) link.send([dataChunk(request, 0, request.lengthBytes, CHUNK_DONE)])
    }),
  )
  const client = await openNbd(address, { silenceMs: 500 })
  await new Promise((resolve) => setTimeout(resolve, 1200))
  assert.equal((await client.read(0, 10)).length, 10)
  await assert.rejects(client.read(1, 10), unavailable)
})

/** Each answers a read of 4096 at 8192, wrongly. */
const readAnswers: Record<string, (request: Request) => Buffer[]> = {
  'an unknown cookie': (request) => [encodeSimpleReply(request.cookie + 1n, 0)],
  'a wrong number': () => [Buffer.alloc(64, 7)],
  'a simple success': (request) => [encodeSimpleReply(request.cookie, 0), Buffer.alloc(4096)],
  'too much data': (request) => [dataChunk(request, 8192, 4097, CHUNK_DONE)],
  'a length of four thousand million': (request) => [dataChunk(request, 8192, 0xfffffff0, CHUNK_DONE, 10)],
  'data before it': (request) => [dataChunk(request, 8191, 10)],
  'data behind it': (request) => [dataChunk(request, 8192 + 4090, 10)],
  'data far away': (request) => [dataChunk(request, 2 ** 62, 10)],
  'the same data twice': (request) => [dataChunk(request, 8192, 4096), dataChunk(request, 8192, 4096)],
  'overlapping data': (request) => [
    dataChunk(request, 8192, 3000),
    dataChunk(request, 9192, 1096, CHUNK_DONE),
  ],
  'half the data': (request) => [dataChunk(request, 8192, 2048, CHUNK_DONE)],
  'no data': (request) => [encodeChunk({ flags: CHUNK_DONE, type: CHUNK.none, cookie: request.cookie }, 0)],
  'an empty chunk of data': (request) => [dataChunk(request, 8192, 0)],
  'emptiness without end': (request) => [
    encodeChunk({ flags: 0, type: CHUNK.none, cookie: request.cookie }, 0),
  ],
  'a hole too large': (request) => {
    const rest = Buffer.alloc(12)
    writeUint64(rest, 8192, 0)
    rest.writeUInt32BE(0xffffffff, 8)
    return [encodeChunk({ flags: 1, type: CHUNK.offsetHole, cookie: request.cookie }, 12, rest)]
  },
  'a malformed hole': (request) => [
    encodeChunk({ flags: 1, type: CHUNK.offsetHole, cookie: request.cookie }, 13, Buffer.alloc(13)),
  ],
  'block status': (request) => [encodeBlockStatus(request.cookie, 7, [{ lengthBytes: 4096, state: 0 }])],
  'an unknown chunk': (request) => [encodeChunk({ flags: 1, type: 77, cookie: request.cookie }, 0)],
  'an error of no number': (request) => [encodeError(request.cookie, 0, 'fine')],
  'an error cut short': (request) => [
    encodeChunk({ flags: 1, type: CHUNK.error, cookie: request.cookie }, 3, Buffer.alloc(3)),
  ],
  'an error without end': (request) => [
    encodeChunk({ flags: 1, type: CHUNK.error, cookie: request.cookie }, 0x7fffffff),
  ],
  'errors without end': (request) => {
    const error = encodeError(request.cookie, 5, 'again')
    error.writeUInt16BE(0, 4)
    return Array(1000).fill(error)
  },
  'an answer too many': (request) => [
    dataChunk(request, 8192, 4096, CHUNK_DONE),
    encodeSimpleReply(request.cookie, 0),
  ],
}
for (const [name, answer] of Object.entries(readAnswers)) {
  test(`a server that answers a read with ${name} is a fault`, async (t) => {
    const address = await serveScript(
      t,
      scriptedExport({}, async (request, link) => link.send(answer(request))),
    )
    const client = await openNbd(address)
    // The second waits for an answer that never comes: it must fail with the connection.
    const reads = [client.read(8192, 4096), client.read(0, 1)]
    const outcomes = await Promise.allSettled(reads)
    const right = name === 'an answer too many' ? 1 : 0
    for (const outcome of outcomes.slice(right)) {
      assert.ok(outcome.status === 'rejected' && unavailable(outcome.reason))
    }
    await client.close()
  })
}

test('a server that goes away inside the data is a fault', async (t) => {
  const address = await serveScript(
    t,
    scriptedExport({}, async (request, link) => {
      await link.flush(dataChunk(request, 0, 65536, CHUNK_DONE, 40000))
      link.end(new Error('bye'))
    }),
  )
  const client = await openNbd(address)
  await assert.rejects(client.read(0, 65536), unavailable)
})

/** Each answers a block status of 65536 at 0, wrongly. */
const statusAnswers: Record<string, (request: Request) => Buffer> = {
  nothing: (request) => encodeChunk({ flags: CHUNK_DONE, type: CHUNK.none, cookie: request.cookie }, 0),
  'a simple success': (request) => encodeSimpleReply(request.cookie, 0),
  'an empty run': (request) => encodeBlockStatus(request.cookie, 7, [{ lengthBytes: 0, state: 0 }]),
  'no runs': (request) => encodeBlockStatus(request.cookie, 7, []),
  'another context': (request) => encodeBlockStatus(request.cookie, 8, [{ lengthBytes: 1, state: 0 }]),
  'a list beyond reason': (request) =>
    encodeChunk({ flags: 1, type: CHUNK.blockStatus, cookie: request.cookie }, 0xfffffff4),
}
for (const [name, answer] of Object.entries(statusAnswers)) {
  test(`a server that answers block status with ${name} is a fault`, async (t) => {
    const script = scriptedExport({}, async (request, link) => link.send([answer(request)]))
    const client = await openNbd(await serveScript(t, script))
    await assert.rejects(client.extents(0, 65536), unavailable)
    await client.close()
  })
}

test('an error reply names its number, and the connection lives', async (t) => {
  const script = scriptedExport({}, async (request, link) => {
    if (request.offset === 0) link.send([encodeError(request.cookie, 28, 'the pool is full')])
    else if (request.offset === 1) link.send([encodeSimpleReply(request.cookie, 5)])
    else {
      // The pieces in the wrong order, an error in between another's pieces.
      const half = request.lengthBytes / 2
      link.send([
        dataChunk(request, request.offset + half, half),
        dataChunk(request, request.offset, half, CHUNK_DONE),
      ])
    }
  })
  const client = await openNbd(await serveScript(t, script))
  await assert.rejects(
    client.read(0, 10),
    (error) => isFault(error, 'unavailable') && error.reason === 'ENOSPC',
  )
  await assert.rejects(client.read(1, 10), (error) => isFault(error, 'unavailable') && error.reason === 'EIO')
  assert.deepEqual(await client.read(2, 10), Buffer.alloc(10, 1))
  await client.close()
})

test('holes without the promise of zeroes are data; longer runs are cut; short ones continued', async (t) => {
  const script = scriptedExport({}, async (request, link) => {
    const runs = [
      { lengthBytes: 4096, state: 1 },
      { lengthBytes: 4096, state: 0 },
      { lengthBytes: 4096, state: 2 },
      { lengthBytes: 4096, state: 3 },
    ]
    if (request.offset === 0) link.send([encodeBlockStatus(request.cookie, 7, runs)])
    else link.send([encodeBlockStatus(request.cookie, 7, [{ lengthBytes: 0xfffff000, state: 0 }])])
  })
  const client = await openNbd(await serveScript(t, script))
  assert.deepEqual(await client.extents(0, 65536), [
    { offset: 0, lengthBytes: 8192, holds: 'data' },
    { offset: 8192, lengthBytes: 8192, holds: 'zero' },
    { offset: 16384, lengthBytes: 49152, holds: 'data' },
  ])
  await client.close()
})

test('a server that knows only EXPORT_NAME is understood', async (t) => {
  const flags = EXPORT_FLAG.hasFlags | EXPORT_FLAG.readOnly
  const address = await serveScript(t, async (link) => {
    link.send([encodeGreeting(0)])
    await link.take(4)
    const { dataBytes } = decodeOption(await link.take(OPTION_BYTES))
    assert.equal((await link.take(dataBytes)).toString(), 'x')
    const size = Buffer.alloc(10 + 124)
    writeUint64(size, 4096, 0)
    size.writeUInt16BE(flags, 8)
    link.send([size])
    for (;;) {
      const request = await link.take(28)
      link.send([encodeSimpleReply(request.readBigUInt64BE(8), 0), Buffer.alloc(request.readUInt32BE(24), 9)])
    }
  })
  const client = await openNbd(address)
  assert.equal(client.structured, false)
  assert.deepEqual(await client.read(100, 3), Buffer.from([9, 9, 9]))
  assert.deepEqual(await client.extents(0, 4096), [{ offset: 0, lengthBytes: 4096, holds: 'data' }])
  await client.close()
})
