import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { basename } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { Direction } from './netem-direction.ts'
import type { RelayData } from './netem-relay.ts'

// The relay's thread: until it is ended it passes on what comes, and counts what goes back.

/** What one connection may have on its way: more than rate by delay, so that a single one can fill the line. */
const WINDOW_BYTES = 4 * 1024 * 1024

const { targetPort, line, moved } = workerData as RelayData
// A line does not wait for a processor. Where we may not say so, on a busy machine it is now and then too slow.
if (Number.isFinite(line.bytesPerSecond) && process.platform === 'linux') {
  const threadId = basename(readlinkSync('/proc/thread-self'))
  spawnSync('chrt', ['--fifo', '--pid', '1', threadId], { stdio: 'ignore' })
}

const there = new Direction(line)
const back = new Direction(line)
const count = (lengthBytes: number) => void Atomics.add(moved, 0, BigInt(lengthBytes))
const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
  const far = connect({ host: '127.0.0.1', port: targetPort, allowHalfOpen: true, noDelay: true })
  for (const [socket, other] of [
    [near, far],
    [far, near],
  ] as const) {
    socket.on('error', () => other.destroy())
    // An end that was killed says no more; the other hears of it at once.
    socket.once('close', () => {
      if (!socket.readableEnded) other.destroy()
    })
  }
  forward(near, far, there, () => {})
  forward(far, near, back, count)
}).listen(0, '127.0.0.1')
await once(server, 'listening')
const address = server.address()
if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
parentPort?.postMessage(address.port)

function forward(
  from: Socket,
  to: Socket,
  direction: Direction,
  onMoved: (lengthBytes: number) => void,
): void {
  const queue: { readonly atMs: number; readonly bytes: Buffer | undefined }[] = []
  let queuedBytes = 0
  let delivery: NodeJS.Timeout | undefined
  let isFull = false

  const deliverLater = () => {
    const first = queue[0]
    if (delivery !== undefined || first === undefined || to.writableNeedDrain) return
    delivery = setTimeout(deliver, Math.max(0, first.atMs - performance.now()))
  }
  const deliver = () => {
    delivery = undefined
    for (;;) {
      const first = queue[0]
      if (first === undefined || first.atMs > performance.now() || to.writableNeedDrain) break
      queue.shift()
      if (first.bytes === undefined) {
        to.end()
        break
      }
      queuedBytes -= first.bytes.length
      onMoved(first.bytes.length)
      to.write(first.bytes)
    }
    if (isFull && queuedBytes < WINDOW_BYTES) {
      isFull = false
      direction.takeTurn(readOn)
    }
    deliverLater()
  }
  const readOn = () => void from.resume()
  from.on('data', (bytes: Buffer) => {
    queue.push({ atMs: direction.arriveAtMs(bytes.length), bytes })
    queuedBytes += bytes.length
    from.pause()
    // Of a full window the next delivery lets it read on.
    isFull = queuedBytes >= WINDOW_BYTES
    if (!isFull) direction.takeTurn(readOn)
    deliverLater()
  })
  from.on('end', () => {
    queue.push({ atMs: direction.arriveAtMs(0), bytes: undefined })
    deliverLater()
  })
  to.on('drain', deliverLater)
}
