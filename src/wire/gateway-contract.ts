import type { IncomingHttpHeaders } from 'node:http'
import type { Fault } from '../image/fault.ts'

/** The head of an HTTP request as it came. Nothing in it is trusted yet. */
export interface WireHead {
  readonly method: string
  /** Path and query as sent, still percent-encoded. */
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly sourceIp: string
  /** True when the request came over TLS. */
  readonly secureTransport: boolean
  /** An upper-case UUID made for this request: in the answer, the log and the audit record. */
  readonly requestId: string
  /** Aborted when the caller has left or the server is closing: a door that waits on purpose answers now. */
  readonly signal: AbortSignal
}

export interface WireRequest extends WireHead {
  /** Whole; empty where the door takes it as a stream. */
  readonly body: Buffer
  /**
   * For a door that asked for it (`Door.streams`): the body as it comes, to be read once; it may be left before its end.
   * Throws Fault 'unavailable' 'request' reason 'broken-off' where the caller has left, 'stalled' where it sends no more.
   */
  readonly stream?: AsyncIterable<Uint8Array>
}

export interface WireAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Buffer
  /**
   * Instead of `body`, as it is made and as fast as the caller takes it. Ended early where the caller leaves. With a
   * header content-length it has exactly so many bytes. One that throws cuts the connection.
   */
  readonly stream?: AsyncIterable<Uint8Array>
}

/**
 * One dialect on the wire. `handle` answers expected failures itself, in its own envelope; a rejection is a bug.
 * `refuse` is the envelope for what the gateway refuses before the door sees it: Fault 'invalid' 'request' with
 * reason 'too-large' (`body` then holds the first part) or 'malformed'; Fault 'unavailable' reason 'internal'
 * for a bug in `handle`. Without `refuse` the answer is the native one.
 */
export interface Door {
  /** True for requests that may last: their body comes as a stream, and neither it nor the answer has to be quick. */
  streams?(head: WireHead): boolean
  handle(request: WireRequest): Promise<WireAnswer>
  refuse?(fault: Fault, request: WireRequest): WireAnswer
}

export type DoorName = 'native' | 'wuying' | 'uhost'

/** One line of the request log. It never holds query, body or tokens in the path: those carry rights and passwords. */
export interface GatewayRecord {
  readonly requestId: string
  readonly door: DoorName | 'none'
  readonly method: string
  readonly path: string
  /** 499: the caller left before the end of the answer. 500: also for an answer that broke off on its way. */
  readonly status: number
  readonly sourceIp: string
  readonly durationMs: number
  readonly bodyBytes: number
  readonly answerBytes: number
  /** A bug's error with its stack, for the log alone. */
  readonly error?: unknown
}
