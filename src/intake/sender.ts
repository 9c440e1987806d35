import { Fault, isFault } from '../image/fault.ts'
import { parseTarget } from './fetch-url.ts'
import { checkTarget, createGuard, type GuardOptions, guardedRequest } from './guard.ts'

/** A message as it goes out; `Host` and `Content-Length` are said by the sender. */
export interface Message {
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/**
 * Takes messages to addresses that callers name, through the guard of imports. Faults: 'invalid' 'request' reason
 * 'address' for one that is not public and not allowed by the settings, 'url' for what is no such address or shows a bad
 * certificate; 'unavailable' 'webhook' for the rest. No fault holds a query or bytes of an answer.
 */
export interface Sender {
  /** Throws at once for what can be told from the text alone. Answers the address as it may be shown: many have a secret in their path. */
  check(url: string): string
  /** Answers with the status that the other side said; what else it says is not read. Follows no redirect. */
  post(url: string, message: Message, signal: AbortSignal): Promise<number>
}

export interface SenderOptions extends GuardOptions {
  /** For name, connection, message and the head of the answer together. */
  readonly totalMs?: number | undefined
}

const TOTAL_MS_DEFAULT = 10_000

export function createSender(options: SenderOptions): Sender {
  const guard = createGuard(options)
  const { totalMs = TOTAL_MS_DEFAULT } = options

  return {
    check(url) {
      try {
        const target = parseTarget(url)
        checkTarget(guard, target)
        const { origin, pathname, search } = target.url
        return pathname === '/' && search === '' ? `${origin}/` : `${origin}/…`
      } catch (error) {
        throw inWordsOfSending(error)
      }
    },

    async post(url, { headers, body }, signal) {
      signal.throwIfAborted()
      const late = new AbortController()
      const timer = setTimeout(() => late.abort(tooLate(totalMs)), totalMs)
      const life = AbortSignal.any([signal, late.signal])
      try {
        const target = parseTarget(url)
        const answer = await guardedRequest(guard, { target, method: 'POST', headers, body }, life)
        answer.destroy()
        return answer.statusCode ?? 0
      } catch (error) {
        throw inWordsOfSending(life.aborted ? life.reason : error)
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

function tooLate(ms: number): Fault {
  return new Fault('unavailable', `It did not answer within ${ms / 1000} s.`, { subject: 'webhook' })
}

/** The guard speaks of files that are fetched. */
function inWordsOfSending(error: unknown): unknown {
  if (!isFault(error)) return error
  const { kind, reason, message, cause } = error
  if (kind === 'unavailable') return new Fault(kind, message, { subject: 'webhook', cause })
  const words =
    reason === 'address'
      ? 'Nothing may be sent to this address: it is not a public one, or its port belongs to another protocol than HTTP. Whoever runs this service can allow single internal addresses in its settings (imports.allow).'
      : message.replace('Nothing can be fetched from this address.', 'Nothing can be sent to this address.')
  return new Fault(kind, words, {
    ...{ field: 'url', cause },
    ...(reason === undefined ? {} : { reason }),
  })
}
