import type { IncomingMessage } from 'node:http'
import { Fault } from '../image/fault.ts'

export interface WholeBody {
  /** The whole body, or its first `limitBytes` when it was larger. */
  readonly body: Buffer
  readonly end: 'whole' | 'too-large' | 'late' | 'aborted'
}

/** What a promise answers, or 'late' where it has not within `timeoutMs`. Its rejection later on is nobody's. */
export async function orLate<Value>(promise: Promise<Value>, timeoutMs: number): Promise<Value | 'late'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), timeoutMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Reads a request's body. What is over the limit is read and dropped for a while, because a caller that is still
 * sending when the connection closes never reads why; `drainBytes` bounds how long we listen to that. A body that is
 * not there after `timeoutMs` is 'late', however little was still to come.
 */
export async function readWhole(
  incoming: IncomingMessage,
  limitBytes: number,
  drainBytes: number,
  timeoutMs: number,
): Promise<WholeBody> {
  const kept: Buffer[] = []
  let sizeBytes = 0
  const read = async (): Promise<WholeBody['end']> => {
    try {
      // destroyOnReturn off: leaving early must not take the socket with it, the answer has to go out there.
      for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
        const bytes = chunk as Buffer
        const room = limitBytes - sizeBytes
        if (room > 0) kept.push(room >= bytes.length ? bytes : bytes.subarray(0, room))
        sizeBytes += bytes.length
        if (sizeBytes > limitBytes + drainBytes) break
      }
      return sizeBytes > limitBytes ? 'too-large' : 'whole'
    } catch {
      return 'aborted'
    }
  }
  const end = await orLate(read(), timeoutMs)
  return { body: Buffer.concat(kept), end }
}

export interface BodyStream {
  /** To be read once. Nothing is read from the socket while nobody asks for more. */
  readonly bytes: AsyncIterable<Uint8Array>
  receivedBytes(): number
  /** True once the caller sent nothing for too long: what follows on this connection can no longer be read. */
  isStalled(): boolean
}

/**
 * A request's body as it comes. Throws Fault 'unavailable' 'request': reason 'broken-off' where the caller has left,
 * 'stalled' where it sent nothing for `idleMs` while we were waiting.
 */
export function streamBody(incoming: IncomingMessage, idleMs: number): BodyStream {
  let receivedBytes = 0
  let isStalled = false
  async function* read(): AsyncGenerator<Uint8Array> {
    const iterator = incoming.iterator({ destroyOnReturn: false })
    try {
      for (;;) {
        const next = await orLate(iterator.next(), idleMs)
        if (next === 'late') {
          isStalled = true
          const message = `Nothing came for ${Math.round(idleMs / 1000)} s. Go on where it broke off.`
          throw new Fault('unavailable', message, { reason: 'stalled' })
        }
        if (next.done) return
        const bytes = next.value as Buffer
        receivedBytes += bytes.length
        yield bytes
      }
    } catch (cause) {
      if (isStalled) throw cause
      throw new Fault('unavailable', 'The sender has left. Go on where it broke off.', {
        ...{ reason: 'broken-off', cause },
      })
    } finally {
      // While a read is under way this would wait for it; that connection is cut anyhow.
      if (!isStalled) await iterator.return?.()
    }
  }
  return { bytes: read(), receivedBytes: () => receivedBytes, isStalled: () => isStalled }
}

/** For callers whose writes never have to wait, and who so never come to read: nothing is taken from them that long. */
const LISTEN_MS = 100

/**
 * Reads and drops what a caller still sends after its answer, so that it comes to read that; at most `drainBytes` and
 * `lingerMs` of it, then the connection is cut. What a cut finds unread on the other side is lost, the answer with it.
 */
export function dropRest(incoming: IncomingMessage, drainBytes: number, lingerMs: number): void {
  // All of it is here already: nothing of this connection's next request may be touched.
  if (incoming.complete || incoming.destroyed) {
    incoming.resume()
    return
  }
  const cut = () => incoming.socket.destroy()
  const timers = [setTimeout(() => incoming.resume(), LISTEN_MS), setTimeout(cut, lingerMs).unref()]
  let droppedBytes = 0
  incoming.on('data', (bytes: Buffer) => {
    droppedBytes += bytes.length
    if (droppedBytes > drainBytes) cut()
  })
  incoming.pause()
  for (const end of ['end', 'close', 'error']) incoming.once(end, () => timers.forEach(clearTimeout))
}
