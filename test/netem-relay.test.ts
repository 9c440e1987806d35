import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { test } from 'node:test'
import { type Line, startRelay } from '../bench/tools/netem-relay.ts'

const LINE: Line = { bytesPerSecond: 20e6, delayMs: 20 }
const ANSWER_BYTES = 2 * 1024 * 1024

/** Answers every connection's first byte with `ANSWER_BYTES`. */
async function withSource(work: (port: number) => Promise<void>): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(Buffer.alloc(ANSWER_BYTES, 7)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await work((server.address() as AddressInfo).port)
  } finally {
    server.close()
  }
}

for (const count of [1, 5]) {
  test(`${count} at once: nothing comes sooner than the line lets it, and all of it comes`, () =>
    withSource(async (port) => {
      const relay = await startRelay(port, LINE)
      try {
        const beginMs = performance.now()
        let gotBytes = 0
        const read = async () => {
          const socket = connect(relay.port, '127.0.0.1')
          socket.write('?')
          for await (const bytes of socket) {
            gotBytes += (bytes as Buffer).length
            // The question went one way, and what has come the other.
            const onLineMs = performance.now() - beginMs - 2 * LINE.delayMs
            // Timers count in whole milliseconds and may be one early.
            assert.ok(
              gotBytes <= ((onLineMs + 2) * LINE.bytesPerSecond) / 1000,
              `${gotBytes} at ${onLineMs} ms`,
            )
          }
        }
        await Promise.all(Array.from({ length: count }, read))
        assert.equal(gotBytes, count * ANSWER_BYTES)
        assert.equal(relay.movedBytes(), gotBytes)
      } finally {
        await relay.close()
      }
    }))
}

test('an end that is killed takes the other with it', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.resetAndDestroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const relay = await startRelay((server.address() as AddressInfo).port, LINE)
  try {
    const socket = connect(relay.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write('?')
    await once(socket, 'close')
  } finally {
    await relay.close()
    server.close()
  }
})
