import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../image/fault.ts'
import type { Disk } from './contract.ts'
import { makeFolder, serveDisk, sparseContent } from './fixture.ts'
import { memoryDisk } from './memory-disk.ts'
import { openNbd } from './nbd-client.ts'
import { Link } from './nbd-link.ts'
import {
  decodeOptionReply,
  encodeContextRequest,
  encodeInfoRequest,
  encodeOption,
  OPTION,
  OPTION_REPLY_BYTES,
  REPLY,
} from './nbd-options.ts'
import {
  CHUNK,
  COMMAND,
  COMMAND_FLAG,
  decodeError,
  decodeReplyStart,
  ERRNO,
  encodeRequest,
  type Request,
} from './nbd-protocol.ts'
import { serveNbd } from './nbd-server.ts'

const MIB = 1024 * 1024
const content = sparseContent(MIB, 9)
const flags = (value: number) => Buffer.from([0, 0, 0, value])
const go = encodeOption(OPTION.go, encodeInfoRequest({ exportName: '', infos: [] }))
const structured = encodeOption(OPTION.structuredReply)

function request(given: Partial<Request>): Buffer {
  return encodeRequest({ flags: 0, command: 0, cookie: 1n, offset: 0, lengthBytes: 512, ...given })
}

async function connectTo(t: TestContext, socketPath: string): Promise<Socket> {
  const socket = connect(socketPath)
  socket.on('error', () => {})
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** A client past its greeting, as a link. */
async function greet(t: TestContext, disk: Disk = memoryDisk(content)): Promise<Link> {
  const { socketPath } = await serveDisk(t, disk)
  const link = Link.accept(await connectTo(t, socketPath))
  await link.take(18)
  link.send([flags(3)])
  return link
}

async function option(link: Link, bytes: Buffer): Promise<{ type: number; data: Buffer }[]> {
  link.send([bytes])
  const replies: { type: number; data: Buffer }[] = []
  for (;;) {
    const { type, dataBytes } = decodeOptionReply(await link.take(OPTION_REPLY_BYTES))
    replies.push({ type, data: await link.take(dataBytes) })
    if (type === REPLY.ack || type > 2 ** 31) return replies
  }
}

async function errorOf(link: Link, bytes: Buffer): Promise<number> {
  link.send([bytes])
  const start = decodeReplyStart(await link.take(16))
  if (start.is === 'simple') return start.errno
  const payload = await link.take((await link.take(4)).readUInt32BE(0))
  return start.type === CHUNK.error ? decodeError(payload).errno : 0
}

/** Sent after the greeting, one client each. The server may hang up, and must go on serving others. */
const nuisances: Record<string, Buffer[]> = {
  'unknown flags': [flags(0xff)],
  'noise for an option': [flags(3), Buffer.alloc(64, 0x41)],
  'an option of four thousand million bytes': [
    flags(3),
    Buffer.concat([encodeOption(OPTION.list).subarray(0, 12), Buffer.from([255, 255, 255, 255])]),
  ],
  'options without end': [flags(3), ...Array(300).fill(encodeOption(99))],
  'half an option': [flags(3), go.subarray(0, 20)],
  'noise for a request': [flags(3), go, Buffer.alloc(28, 0x41)],
  'half a request': [flags(3), go, request({}).subarray(0, 13)],
  'a read and no patience': [flags(3), go, request({ lengthBytes: MIB })],
  'the start of a huge write': [flags(3), go, request({ command: COMMAND.write, lengthBytes: 0xffffffff })],
}
test('whatever a client sends ends only its own connection', async (t) => {
  const { socketPath } = await serveDisk(t, memoryDisk(content))
  const good = await openNbd({ socketPath, exportName: '' })
  for (const [name, pieces] of Object.entries(nuisances)) {
    const socket = await connectTo(t, socketPath)
    for (const piece of pieces) socket.write(piece)
    await new Promise<void>((resolve) => socket.end(resolve))
    assert.ok((await good.read(0, MIB)).equals(content), name)
  }
  const noise = fc.uint8Array({ maxLength: 200 })
  await fc.assert(
    fc.asyncProperty(noise, fc.boolean(), async (bytes, later) => {
      const socket = await connectTo(t, socketPath)
      socket.write(Buffer.concat(later ? [flags(3), go, bytes] : [flags(1), bytes]))
      await new Promise<void>((resolve) => socket.end(resolve))
      assert.ok((await good.read(5, 99)).equals(content.subarray(5, 104)))
    }),
    { numRuns: 100 },
  )
  await good.close()
})

test('a client that does not begin is sent away', async (t) => {
  const socketPath = join(await makeFolder(t), 's')
  const server = await serveNbd({
    listen: { socketPath },
    handshakeMs: 20,
    resolve: async () => memoryDisk(content),
  })
  t.after(() => server.close())
  const socket = await connectTo(t, socketPath)
  socket.resume()
  await once(socket, 'close')
})

test('options that are unknown or malformed are refused, and the handshake goes on', async (t) => {
  const link = await greet(t)
  const types = async (bytes: Buffer) => (await option(link, bytes)).map((reply) => reply.type)
  assert.deepEqual(await types(encodeOption(OPTION.startTls)), [REPLY.errUnsupported])
  assert.deepEqual(await types(encodeOption(77, Buffer.alloc(60000))), [REPLY.errUnsupported])
  assert.deepEqual(await types(encodeOption(OPTION.list)), [REPLY.errPolicy])
  assert.deepEqual(await types(encodeOption(OPTION.structuredReply, Buffer.alloc(1))), [REPLY.errInvalid])
  assert.deepEqual(await types(encodeOption(OPTION.go, Buffer.alloc(3))), [REPLY.errInvalid])
  const hugeCount = Buffer.concat([Buffer.alloc(4), Buffer.alloc(4, 255)])
  assert.deepEqual(await types(encodeOption(OPTION.listMetaContext, hugeCount)), [REPLY.errInvalid])
  const context = (queries: string[]) => encodeContextRequest({ exportName: '', queries })
  const set = (queries: string[]) => encodeOption(OPTION.setMetaContext, context(queries))
  const list = (queries: string[]) => encodeOption(OPTION.listMetaContext, context(queries))
  assert.deepEqual(await types(set(['base:allocation'])), [REPLY.errInvalid], 'before structured replies')
  assert.deepEqual(await types(structured), [REPLY.ack])
  assert.deepEqual(await types(set(['base:allocation', 'qemu:x'])), [REPLY.metaContext, REPLY.ack])
  assert.deepEqual(await types(set(['qemu:dirty-bitmap:x'])), [REPLY.ack])
  assert.deepEqual(await types(list([])), [REPLY.metaContext, REPLY.ack])
  assert.deepEqual(await types(list(['base:'])), [REPLY.metaContext, REPLY.ack])
  assert.deepEqual(await types(list(['other:'])), [REPLY.ack])
  assert.deepEqual(await types(go), [REPLY.info, REPLY.info, REPLY.ack])
  // The last SET chose nothing.
  const status = request({ command: COMMAND.blockStatus })
  assert.equal(await errorOf(link, status), ERRNO.EINVAL)
  link.end(new Error('enough'))
})

test('ABORT is acknowledged', async (t) => {
  const link = await greet(t)
  assert.deepEqual(
    (await option(link, encodeOption(OPTION.abort))).map((reply) => reply.type),
    [REPLY.ack],
  )
  await link.ended
})

test('the old way in: the size, with and without its zeroes', async (t) => {
  for (const [wanted, paddingBytes] of [
    [1, 124],
    [3, 0],
  ] as const) {
    const { socketPath } = await serveDisk(t, memoryDisk(content))
    const link = Link.accept(await connectTo(t, socketPath))
    await link.take(18)
    link.send([flags(wanted), encodeOption(OPTION.exportName), request({ offset: 7, lengthBytes: 9 })])
    assert.equal((await link.take(10)).readUInt32BE(4), MIB)
    assert.ok((await link.take(paddingBytes)).every((byte) => byte === 0))
    assert.deepEqual(decodeReplyStart(await link.take(16)), { is: 'simple', errno: 0, cookie: 1n })
    assert.ok((await link.take(9)).equals(content.subarray(7, 16)))
    link.end(new Error('enough'))
  }
})

test('a wrong name by the old way ends the connection, which is all it can', async (t) => {
  const socketPath = join(await makeFolder(t), 's')
  const resolve = async () => {
    throw new Fault('absent', 'There is no such disk.', { subject: 'disk' })
  }
  const server = await serveNbd({ listen: { socketPath }, resolve })
  t.after(() => server.close())
  const link = Link.accept(await connectTo(t, socketPath))
  await link.take(18)
  link.send([flags(3), encodeOption(OPTION.exportName, Buffer.from('absent'))])
  await assert.rejects(link.take(1))
})

for (const way of ['simple', 'structured']) {
  test(`requests that cannot be served are refused one by one, ${way} replies`, async (t) => {
    const link = await greet(t)
    if (way === 'structured') await option(link, structured)
    await option(link, go)
    const { EINVAL, EPERM, EOVERFLOW } = ERRNO
    const cases: [Partial<Request>, number][] = [
      [{ offset: MIB }, EINVAL],
      [{ offset: MIB - 511 }, EINVAL],
      [{ offset: 2 ** 60 }, EINVAL],
      [{ command: 99 }, EINVAL],
      [{ flags: 0x80 }, EINVAL],
      [{ command: COMMAND.blockStatus }, EINVAL],
      [{ command: COMMAND.trim }, EPERM],
      [{ command: COMMAND.writeZeroes, lengthBytes: 0xffffffff }, EPERM],
      [{ command: COMMAND.flush, lengthBytes: 0 }, 0],
      [{ command: COMMAND.cache, lengthBytes: MIB }, 0],
      [{ command: COMMAND.cache, offset: 1, lengthBytes: MIB }, EINVAL],
    ]
    for (const [given, errno] of cases) {
      assert.equal(await errorOf(link, request(given)), errno, JSON.stringify({ ...given }))
    }
    const write = Buffer.concat([
      request({ command: COMMAND.write, lengthBytes: 70000 }),
      Buffer.alloc(70000),
    ])
    assert.equal(await errorOf(link, write), EPERM)
    assert.equal(await errorOf(link, request({ command: COMMAND.flush, lengthBytes: 0 })), 0)
    link.end(new Error('enough'))
    const large = { ...memoryDisk(Buffer.alloc(0)), sizeBytes: 2 ** 40 }
    const other = await greet(t, large)
    await option(other, go)
    assert.equal(await errorOf(other, request({ lengthBytes: 32 * MIB + 1 })), EOVERFLOW)
    other.end(new Error('enough'))
  })
}

test('REQ_ONE answers one run; DF answers one piece; else holes are holes', async (t) => {
  const sparse = Buffer.alloc(MIB)
  sparse.fill(1, 0, 4096)
  const link = await greet(t, memoryDisk(sparse))
  await option(link, structured)
  const context = encodeContextRequest({ exportName: '', queries: ['base:allocation'] })
  await option(link, encodeOption(OPTION.setMetaContext, context))
  await option(link, go)
  const reply = async (given: Partial<Request>) => {
    link.send([request({ lengthBytes: MIB, ...given })])
    const start = decodeReplyStart(await link.take(16))
    assert.ok(start.is === 'chunk')
    return { ...start, payload: await link.take((await link.take(4)).readUInt32BE(0)) }
  }
  assert.equal((await reply({ command: COMMAND.blockStatus })).payload.length, 4 + 16)
  const one = await reply({ command: COMMAND.blockStatus, flags: COMMAND_FLAG.requestOne })
  assert.equal(one.payload.length, 4 + 8)
  const whole = await reply({ flags: COMMAND_FLAG.dontFragment })
  assert.deepEqual([whole.type, whole.flags, whole.payload.length], [CHUNK.offsetData, 1, MIB + 8])
  const first = await reply({})
  assert.deepEqual([first.type, first.flags, first.payload.length], [CHUNK.offsetData, 0, 4096 + 8])
  const second = decodeReplyStart(await link.take(16))
  assert.ok(second.is === 'chunk' && second.type === CHUNK.offsetHole && second.flags === 1)
  link.end(new Error('enough'))
})

test('a name space is listed but not set; REQ_ONE answers one run of each context', async (t) => {
  const statusOf = async (offset: number, lengthBytes: number) => [
    { offset, lengthBytes: 512, status: 1 },
    { offset: offset + 512, lengthBytes: lengthBytes - 512, status: 0 },
  ]
  const names = ['qemu:a', 'qemu:dirty-bitmap:b']
  const contexts = new Map(names.map((name) => [name, statusOf]))
  const link = await greet(t, { ...memoryDisk(content), contexts })
  await option(link, structured)
  const answer = async (kind: number, queries: string[]) => {
    const replies = await option(link, encodeOption(kind, encodeContextRequest({ exportName: '', queries })))
    assert.equal(replies.pop()?.type, REPLY.ack)
    return replies.map(({ data }) => [data.readUInt32BE(0), data.toString('utf8', 4)])
  }
  assert.deepEqual(await answer(OPTION.listMetaContext, ['qemu:']), [
    [0, 'qemu:a'],
    [0, 'qemu:dirty-bitmap:b'],
  ])
  assert.deepEqual(await answer(OPTION.listMetaContext, ['qemu:dirty-bitmap:']), [[0, 'qemu:dirty-bitmap:b']])
  assert.deepEqual(await answer(OPTION.setMetaContext, ['qemu:', 'other:x']), [])
  assert.deepEqual(await answer(OPTION.setMetaContext, ['qemu:dirty-bitmap:b', 'base:allocation']), [
    [1, 'base:allocation'],
    [3, 'qemu:dirty-bitmap:b'],
  ])
  await option(link, go)
  link.send([request({ command: COMMAND.blockStatus, flags: COMMAND_FLAG.requestOne, lengthBytes: MIB })])
  for (const [id, flag] of [
    [1, 0],
    [3, 1],
  ]) {
    const start = decodeReplyStart(await link.take(16))
    assert.ok(start.is === 'chunk' && start.type === CHUNK.blockStatus)
    assert.equal(start.flags, flag)
    const payload = await link.take((await link.take(4)).readUInt32BE(0))
    assert.deepEqual([payload.length, payload.readUInt32BE(0)], [12, id])
  }
  link.end(new Error('enough'))
})

test('a client that asks without end and takes nothing holds little', async (t) => {
  let heldBytes = 0
  let heldBytesMax = 0
  let readCount = 0
  const saturated = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  const large: Disk = {
    ...memoryDisk(Buffer.alloc(0)),
    sizeBytes: 2 ** 40,
    read: async (_offset, lengthBytes) => {
      readCount++
      heldBytes += lengthBytes
      heldBytesMax = Math.max(heldBytesMax, heldBytes)
      if (heldBytes + 3 * MIB > 32 * MIB) saturated.resolve()
      await gate.promise
      heldBytes -= lengthBytes
      return Buffer.alloc(lengthBytes)
    },
  }
  const link = await greet(t, large)
  await option(link, go)
  const count = 400
  for (let index = 0; index < count; index++)
    link.send([request({ lengthBytes: 3 * MIB, cookie: BigInt(index) })])
  await saturated.promise
  assert.ok(readCount < 12)
  gate.resolve()
  // Taken at last, every answer comes.
  for (let index = 0; index < count; index++) {
    await link.take(16)
    await new Promise<void>((resolve) => link.skip(3 * MIB, resolve))
  }
  assert.equal(readCount, count)
  assert.ok(heldBytesMax <= 32 * MIB, `${heldBytesMax} bytes at once`)
  link.end(new Error('enough'))
})

test('answers leave in the order in which they are ready', async (t) => {
  const gate = Promise.withResolvers<void>()
  const inner = memoryDisk(content)
  const disk: Disk = {
    ...inner,
    read: async (offset, lengthBytes) => {
      if (offset === 0) await gate.promise
      return inner.read(offset, lengthBytes)
    },
  }
  const client = await openNbd(await serveDisk(t, disk))
  const order: number[] = []
  const slow = client.read(0, 10).then(() => order.push(0))
  await client.read(4096, 10).then(() => order.push(1))
  gate.resolve()
  await slow
  assert.deepEqual(order, [1, 0])
  await client.close()
})

test('a client that goes away stops the reading behind it', async (t) => {
  const stopped = Promise.withResolvers<unknown>()
  const started = Promise.withResolvers<void>()
  const disk: Disk = {
    ...memoryDisk(content),
    read: (_offset, _lengthBytes, signal) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => {
          stopped.resolve(signal.reason)
          reject(signal.reason)
        })
        started.resolve()
      }),
  }
  const link = await greet(t, disk)
  await option(link, go)
  link.send([request({})])
  await started.promise
  link.end(new Error('enough'))
  await stopped.promise
})
