import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { CommandFailure, EXIT, ServerRefusal } from './failure.ts'

// The longest wait that a request asks for is 50 s; a server that is silent for longer is not there.
const SILENCE_MS_MAX = 90_000
/** What is sent is told in steps of so many bytes. */
const SLICE_BYTES = 256 * 1024
const KEPT_COUNT_MAX = 8
const KEPT = { keepAlive: true, maxFreeSockets: KEPT_COUNT_MAX }
const keptHttp = new HttpAgent(KEPT)
const keptHttps = new HttpsAgent(KEPT)

/** The server cannot be reached, or is gone in the middle: the same request may do better later. */
export class Disconnected extends CommandFailure {
  /** It was a connection that an earlier request had left open, and nothing was heard of this one. */
  readonly wasKept: boolean

  constructor(origin: string, cause: unknown, wasKept = false) {
    const { code, message } = cause as NodeJS.ErrnoException
    const text = `Cannot reach the server at ${origin} (${code ?? message}). Is it running? Name another with --endpoint.`
    super(EXIT.unreachable, text, { cause })
    this.name = 'Disconnected'
    this.wasKept = wasKept
  }
}

export interface Exchange {
  readonly url: URL
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  readonly signal?: AbortSignal
  /**
   * One of many: it goes over a connection that an earlier one has left open. The server may close that just when we use it,
   * and nobody knows then what it has heard: for requests that do no harm a second time.
   */
  readonly isRepeatable?: boolean
  /** Told of bytes of the body as they leave this process; of fewer than none where they have to leave once more. */
  readonly onSent?: (byteCount: number) => void
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** May be read once; throws Disconnected where it ends too early. */
  readonly body: AsyncIterable<Buffer>
  /** Lets go of a body that nobody reads. */
  discard(): void
}

/**
 * One HTTP request, on a connection of its own unless it is repeatable. Throws Disconnected; once `signal` is aborted, its
 * reason.
 */
export async function exchange(asked: Exchange): Promise<Reply> {
  if (asked.isRepeatable !== true) return exchangeOver(false, asked)
  let sentBytes = 0
  const onSent = (byteCount: number) => {
    sentBytes += byteCount
    asked.onSent?.(byteCount)
  }
  try {
    return await exchangeOver(asked.url.protocol === 'https:' ? keptHttps : keptHttp, { ...asked, onSent })
  } catch (error) {
    if (!(error instanceof Disconnected) || !error.wasKept) throw error
    asked.onSent?.(-sentBytes)
    return exchangeOver(false, asked)
  }
}

function exchangeOver(
  agent: HttpAgent | false,
  { url, method, headers, body, signal, onSent }: Exchange,
): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const fail = (cause: unknown, wasKept = false) =>
    signal?.aborted === true ? signal.reason : new Disconnected(url.origin, cause, wasKept)
  const length = body === undefined && method !== 'POST' ? {} : { 'content-length': body?.length ?? 0 }
  const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
    method,
    headers: { ...headers, ...length },
    agent,
    ...(signal === undefined ? {} : { signal }),
  })
  let answer: IncomingMessage | undefined
  let isSilent = false
  request.setTimeout(SILENCE_MS_MAX)
  request.on('timeout', () => {
    // Bytes that wait for us to read them are no silence of the server.
    if ((answer?.readableLength ?? 0) > 0) return
    isSilent = true
    request.destroy(new Error('it did not answer in time'))
  })
  // It comes again when a server has answered before it read all that we sent: then nobody waits for it any more.
  request.on('error', (cause) =>
    reject(fail(cause, request.reusedSocket && answer === undefined && !isSilent)),
  )
  request.on('response', (response) => {
    answer = response
    resolve({
      status: response.statusCode ?? 0,
      headers: response.headers,
      body: chunksOf(response, fail),
      discard() {
        // Without a body nothing stands in the way of the next request.
        if (hasNoBody(method, response)) response.resume()
        else response.destroy()
      },
    })
  })
  for (let at = 0; body !== undefined && at < body.length; at += SLICE_BYTES) {
    const slice = body.subarray(at, at + SLICE_BYTES)
    request.write(slice, (error) => {
      if (error === undefined || error === null) onSent?.(slice.length)
    })
  }
  request.end()
  return promise
}

function hasNoBody(method: string, { statusCode, headers }: IncomingMessage): boolean {
  return method === 'HEAD' || statusCode === 204 || headers['content-length'] === '0'
}

async function* chunksOf(
  response: IncomingMessage,
  fail: (cause: unknown) => unknown,
): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of response) yield chunk as Buffer
  } catch (cause) {
    throw fail(cause)
  }
}

export async function readAll(reply: Reply): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of reply.body) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** What the server says against a request, from the JSON of its error if it sent one. */
export async function readRefusal(reply: Reply): Promise<ServerRefusal> {
  const { status } = reply
  type Shown = { error?: { kind: string; message: string; requestId?: string } }
  let error: Shown['error']
  try {
    error = (JSON.parse((await readAll(reply)).toString('utf8')) as Shown | null)?.error
  } catch {
    // Somebody between us and the server answers in words of their own.
  }
  return refusalOf(status, error)
}

export function refusalOf(
  status: number,
  error?: { kind: string; message: string; requestId?: string },
): ServerRefusal {
  return new ServerRefusal(
    status,
    typeof error?.message === 'string'
      ? error
      : { kind: 'unknown', message: `The server answered HTTP ${status}.` },
  )
}

/** True for what may be over in a moment: no connection, a server that is starting, busy or failing. */
export function isPassing(error: unknown): boolean {
  if (error instanceof Disconnected) return true
  if (!(error instanceof ServerRefusal) || ['corrupt', 'full'].includes(error.kind)) return false
  // 423: an earlier request of ours that broke off still has the upload.
  return [408, 423, 429].includes(error.status) || error.status >= 500
}
