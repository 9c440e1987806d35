import type { IncomingMessage } from 'node:http'
import { Fault } from '../image/fault.ts'
import { causeOf, failed, within } from './fetch-wait.ts'

export interface BodyOptions {
  /** Exactly these are to come; undefined where the end is told by itself. */
  readonly lengthBytes: number | undefined
  /** What the whole file has from here on: where less was announced, it ends in a fault, to be asked for again. */
  readonly restBytes: number | undefined
  /** Of silence while somebody waits for the next piece. */
  readonly idleMs: number
  readonly signal: AbortSignal
  /** However it ends. */
  readonly onEnd: () => void
}

/**
 * The bytes of an answer, counted. Faults: 'unavailable' 'file' where it breaks off, stands still or has more than
 * it announced; the reason of the signal.
 */
export async function* readBody(answer: IncomingMessage, options: BodyOptions): AsyncGenerator<Uint8Array> {
  const { lengthBytes, restBytes, idleMs, signal, onEnd } = options
  const late = () => failed('The server stopped sending. Try again later.')
  let doneBytes = 0
  try {
    const pieces = answer[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    while (true) {
      const next = await within(idleMs, signal, late, pieces.next())
      if (next.done === true) break
      doneBytes += next.value.length
      if (lengthBytes !== undefined && doneBytes > lengthBytes) {
        throw failed('The server sent more than it announced.')
      }
      if (next.value.length > 0) yield next.value
    }
  } catch (error) {
    if (error instanceof Fault || signal.aborted) throw error
    throw failed('The connection to the server broke off. Try again later.', { cause: causeOf(error) })
  } finally {
    answer.destroy()
    onEnd()
  }
  if (doneBytes < Math.max(lengthBytes ?? 0, restBytes ?? 0)) {
    throw failed('The server sent less than it announced. Try again later.')
  }
}
