import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import {
  decodeContext,
  decodeContextRequest,
  decodeExport,
  decodeGreeting,
  decodeInfo,
  decodeInfoRequest,
  decodeOption,
  decodeOptionReply,
  encodeContext,
  encodeContextRequest,
  encodeExport,
  encodeGreeting,
  encodeInfo,
  encodeInfoRequest,
  encodeOption,
  encodeOptionReply,
} from './nbd-options.ts'
import {
  CHUNK_BYTES,
  clipText,
  decodeError,
  decodeReplyStart,
  decodeRequest,
  decodeStatusRuns,
  encodeBlockStatus,
  encodeChunk,
  encodeError,
  encodeRequest,
  encodeSimpleReply,
} from './nbd-protocol.ts'

const uint16 = fc.nat(0xffff)
const uint32 = fc.nat(0xffffffff)
const cookie = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const sizeBytes = fc.nat(Number.MAX_SAFE_INTEGER)
const name = fc.string({ unit: 'grapheme', maxLength: 200 })

test('requests and replies come back as they were', () => {
  fc.assert(
    fc.property(uint16, uint16, cookie, sizeBytes, uint32, (flags, kind, id, offset, lengthBytes) => {
      const request = { flags, command: kind, cookie: id, offset, lengthBytes }
      assert.deepEqual(decodeRequest(encodeRequest(request)), request)
      const simple = decodeReplyStart(encodeSimpleReply(id, lengthBytes))
      assert.deepEqual(simple, { is: 'simple', errno: lengthBytes, cookie: id })
      const chunk = encodeChunk({ flags, type: kind, cookie: id }, lengthBytes)
      assert.deepEqual(decodeReplyStart(chunk), { is: 'chunk', flags, type: kind, cookie: id })
      assert.equal(chunk.readUInt32BE(16), lengthBytes)
    }),
  )
})

test('block status and errors come back as they were', () => {
  const run = fc
    .tuple(uint32, uint32)
    .map(([lengthBytes, state]) => ({ lengthBytes: lengthBytes || 1, state }))
  const runs = fc.array(run, { minLength: 1 })
  fc.assert(
    fc.property(cookie, uint32, runs, name, (id, contextId, list, message) => {
      const status = encodeBlockStatus(id, contextId, list).subarray(CHUNK_BYTES)
      assert.equal(status.readUInt32BE(0), contextId)
      assert.deepEqual(decodeStatusRuns(status.subarray(4)), list)
      const error = encodeError(id, contextId || 5, message).subarray(CHUNK_BYTES)
      assert.deepEqual(decodeError(error), { errno: contextId || 5, message: clipText(message).toString() })
    }),
  )
})

test('the handshake comes back as it was', () => {
  fc.assert(
    fc.property(
      name,
      fc.array(uint16),
      fc.array(name),
      uint32,
      sizeBytes,
      (text, infos, queries, id, size) => {
        assert.equal(decodeGreeting(encodeGreeting(id & 0xffff)), id & 0xffff)
        const info = { exportName: text, infos }
        assert.deepEqual(decodeInfoRequest(encodeInfoRequest(info)), info)
        const context = { exportName: text, queries }
        assert.deepEqual(decodeContextRequest(encodeContextRequest(context)), context)
        assert.deepEqual(decodeContext(encodeContext(id, text)), { id, name: text })
        const data = Buffer.from(text)
        assert.deepEqual(decodeOption(encodeOption(id, data)), { option: id, dataBytes: data.length })
        const reply = decodeOptionReply(encodeOptionReply(id, 3, data))
        assert.deepEqual(reply, { option: id, type: 3, dataBytes: data.length })
        assert.deepEqual(decodeExport(encodeExport({ sizeBytes: size, flags: 9 })), {
          sizeBytes: size,
          flags: 9,
        })
        for (const about of [
          { is: 'export' as const, sizeBytes: size, flags: 9 },
          { is: 'name' as const, name: text },
          { is: 'block-size' as const, minimumBytes: 512, preferredBytes: 4096, maximumBytes: 65536 },
        ]) {
          assert.deepEqual(decodeInfo(encodeInfo(about)), about)
        }
      },
    ),
  )
})

test('whatever bytes come, decoding answers or throws a fault', () => {
  const decoders = [
    decodeStatusRuns,
    decodeError,
    decodeInfo,
    decodeInfoRequest,
    decodeContextRequest,
    decodeContext,
  ]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      for (const decode of decoders) {
        try {
          decode(Buffer.from(bytes))
        } catch (error) {
          assert.ok(isFault(error, 'unavailable'), String(error))
        }
      }
    }),
  )
})

test('known bytes: a read, its reply, and a hole', () => {
  const request = encodeRequest({ flags: 4, command: 0, cookie: 5n, offset: 2 ** 32 + 1, lengthBytes: 512 })
  assert.equal(request.toString('hex'), '25609513000400000000000000000005000000010000000100000200')
  assert.equal(encodeSimpleReply(5n, 22).toString('hex'), '67446698000000160000000000000005')
  const hole = encodeChunk({ flags: 1, type: 2, cookie: 5n }, 12, Buffer.alloc(12))
  assert.equal(hole.toString('hex'), '668e33ef0001000200000000000000050000000c000000000000000000000000')
  assert.equal(encodeGreeting(3).toString('hex'), '4e42444d4147494349484156454f50540003')
})
