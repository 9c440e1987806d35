import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

// A line between two processes of one machine: what comes in at one end leaves at the other as late, and no faster, than a
// line of that rate and delay would let it. Both directions have the whole rate, and all connections share it evenly. It is a
// thread of its own, so that what else this process does is no part of the line.

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

/** What the thread is told. `moved` is where it counts. */
export interface RelayData {
  readonly targetPort: number
  readonly line: Line
  readonly moved: BigInt64Array<SharedArrayBuffer>
}

/** Listens on a free port of 127.0.0.1 and passes every connection on to `targetPort`. */
export async function startRelay(targetPort: number, line: Line): Promise<Relay> {
  const moved = new BigInt64Array(new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT))
  const workerData: RelayData = { targetPort, line, moved }
  const thread = new Worker(new URL('./netem-relay-thread.ts', import.meta.url), { workerData })
  const [port] = (await once(thread, 'message')) as [number]
  return {
    port,
    movedBytes: () => Number(Atomics.load(moved, 0)),
    async close() {
      await thread.terminate()
    },
  }
}
