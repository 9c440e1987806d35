import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

// A line between two processes of one machine: what comes in at one end leaves at the other as late, and no faster, than a
// line of that rate and delay would let it. Both directions have the whole rate, and all connections share it.

export interface Line {
  readonly bytesPerSecond: number
  /** One way. */
  readonly delayMs: number
}

/** No line at all: what goes through is counted. */
export const PLAIN_LINE: Line = { bytesPerSecond: Number.POSITIVE_INFINITY, delayMs: 0 }

export interface Relay {
  readonly port: number
  /** Delivered to those who connected, TLS and HTTP around it included. */
  movedBytes(): number
  close(): Promise<void>
}

/** What a router keeps for a line that is busy. */
const QUEUE_MS = 50
/** What one connection may have on its way: more than rate by delay, so that a single one can fill the line. */
const WINDOW_BYTES = 4 * 1024 * 1024

/** Listens on a free port of 127.0.0.1 and passes every connection on to `targetPort`. */
export async function startRelay(targetPort: number, line: Line): Promise<Relay> {
  const there = new Direction(line)
  const back = new Direction(line)
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = connect({ host: '127.0.0.1', port: targetPort, allowHalfOpen: true, noDelay: true })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.once('close', () => {
        sockets.delete(socket)
        // An end that was killed says no more; the other hears of it at once.
        if (!socket.readableEnded) other.destroy()
      })
    }
    forward(near, far, there)
    forward(far, near, back)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return {
    port: address.port,
    movedBytes: () => back.movedBytes,
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

class Direction {
  readonly #bytesPerMs: number
  readonly #delayMs: number
  #freeAtMs = 0
  movedBytes = 0

  constructor({ bytesPerSecond, delayMs }: Line) {
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#delayMs = delayMs
  }

  /** Takes the line's next free time for so many bytes; when they arrive. */
  arriveAtMs(lengthBytes: number): number {
    this.#freeAtMs = Math.max(this.#freeAtMs, performance.now()) + lengthBytes / this.#bytesPerMs
    return this.#freeAtMs + this.#delayMs
  }

  /** How long what waits for the line has to wait. */
  get backlogMs(): number {
    return Math.max(0, this.#freeAtMs - performance.now())
  }
}

function forward(from: Socket, to: Socket, direction: Direction): void {
  const queue: { readonly atMs: number; readonly bytes: Buffer | undefined }[] = []
  let queuedBytes = 0
  let delivery: NodeJS.Timeout | undefined
  let breath: NodeJS.Timeout | undefined

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
      direction.movedBytes += first.bytes.length
      to.write(first.bytes)
    }
    readOn()
    deliverLater()
  }
  const readOn = () => {
    if (breath !== undefined) return
    const isFull = queuedBytes >= WINDOW_BYTES
    const { backlogMs } = direction
    if (!isFull && backlogMs <= QUEUE_MS) {
      from.resume()
      return
    }
    from.pause()
    // Of a full window the next delivery lets it read on.
    if (isFull) return
    breath = setTimeout(
      () => {
        breath = undefined
        readOn()
      },
      backlogMs - QUEUE_MS / 2,
    )
  }
  from.on('data', (bytes: Buffer) => {
    queue.push({ atMs: direction.arriveAtMs(bytes.length), bytes })
    queuedBytes += bytes.length
    readOn()
    deliverLater()
  })
  from.on('end', () => {
    queue.push({ atMs: direction.arriveAtMs(0), bytes: undefined })
    deliverLater()
  })
  to.on('drain', deliverLater)
}
