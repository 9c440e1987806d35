import type { IncomingHttpHeaders } from 'node:http'
import type { Fault } from '../image/fault.ts'

/** One HTTP request as it came, body whole. Nothing in it is trusted yet. */
export interface WireRequest {
  readonly method: string
  /** Path and query as sent, still percent-encoded. */
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly sourceIp: string
  /** True when the request came over TLS. */
  readonly secureTransport: boolean
  /** An upper-case UUID made for this request: in the answer, the log and the audit record. */
  readonly requestId: string
  /** Aborted when the caller has left or the server is closing: a door that waits on purpose answers now. */
  readonly signal: AbortSignal
}

export interface WireAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Buffer
}

/**
 * One dialect on the wire. `handle` answers expected failures itself, in its own envelope; a rejection is a bug.
 * `refuse` is the envelope for what the gateway refuses before the door sees it: Fault 'invalid' 'request' with
 * reason 'too-large' (`body` then holds the first part) or 'malformed'; Fault 'unavailable' reason 'internal'
 * for a bug in `handle`. Without `refuse` the answer is the native one.
 */
export interface Door {
  handle(request: WireRequest): Promise<WireAnswer>
  refuse?(fault: Fault, request: WireRequest): WireAnswer
}

export type DoorName = 'native' | 'wuying' | 'uhost'

/** One line of the request log. It never holds the query or the body: those carry signatures and passwords. */
export interface GatewayRecord {
  readonly requestId: string
  readonly door: DoorName | 'none'
  readonly method: string
  readonly path: string
  /** 499: the caller left before the answer. */
  readonly status: number
  readonly sourceIp: string
  readonly durationMs: number
  readonly bodyBytes: number
  readonly answerBytes: number
  /** A bug's error with its stack, for the log alone. */
  readonly error?: unknown
}
