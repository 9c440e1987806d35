import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Fault } from '../image/fault.ts'
import { indexAnswer, jsonAnswer, plainRefusal, rawHttp } from './gateway-answer.ts'
import { dropRest, readWhole, streamBody, type WholeBody } from './gateway-body.ts'
import type { Door, DoorName, GatewayRecord, WireAnswer, WireHead, WireRequest } from './gateway-contract.ts'
import { loggedPath } from './gateway-path.ts'
import { pathOf, type Recognised, recognise } from './gateway-recognise.ts'
import { type Sent, sendStream } from './gateway-send.ts'

export interface GatewayOptions {
  readonly doors: Readonly<Partial<Record<DoorName, Door>>>
  /** Called once for every request that was parsed, after its answer was handed to the socket. */
  readonly log: (record: GatewayRecord) => void
  readonly bodyLimitBytes?: number
  /** How many requests may be under way whose bodies or answers are streams. */
  readonly streamCountMax?: number
  /** How long such a request may stand still, and any other take to arrive whole. */
  readonly idleMs?: number
  /** How long `close` waits for running answers before it cuts their connections. */
  readonly closeGraceMs?: number
}

export interface Gateway {
  /** Listens and answers the URL that reaches it. Port 0 takes a free one. Throws Fault 'unavailable'. */
  listen(host: string, port: number): Promise<{ readonly url: string; readonly port: number }>
  /** Takes no new connection, lets running requests answer, then ends. May be called twice. */
  close(): Promise<void>
}

const BODY_LIMIT_BYTES = 1024 ** 2
const DRAIN_BYTES = 16 * 1024 ** 2
const CLOSE_GRACE_MS = 10_000
const LINGER_MS = 10_000
const STREAM_COUNT_MAX = 256
// A request must arrive whole within a minute (a stream: go on within each minute) and its headers within 15 s; an idle
// connection is kept for 65 s, longer than the 60 s that common proxies keep theirs, so that they never reuse one we have just closed.
const HEADERS_TIMEOUT_MS = 15_000
const IDLE_MS = 60_000
const KEEP_ALIVE_TIMEOUT_MS = 65_000

const TOO_LARGE_STATUS = 413

const malformed = () =>
  new Fault('invalid', 'The request is not well-formed HTTP. Check its URL and headers.', {
    reason: 'malformed',
  })

/** A request on its way through here. */
interface Visit {
  readonly raw: IncomingMessage
  readonly reply: FastifyReply
  readonly head: WireHead
  /** Aborted once the caller has left. */
  readonly left: AbortController
  log(record: {
    readonly to: Recognised
    readonly bodyBytes: number
    readonly sent: Sent
    readonly status: number
    readonly bug: unknown
  }): void
}

const tooMany = () =>
  new Fault('unavailable', 'Too many files are on their way at once. Try again in a moment.', {
    reason: 'busy',
  })

const tooSlow = () =>
  new Fault('invalid', 'The request did not arrive in time. Send it again.', { reason: 'malformed' })

/**
 * One port for all doors. It finds the door, reads requests whole unless the door wants a stream, and answers whatever
 * happens.
 */
export function createGateway(options: GatewayOptions): Gateway {
  const limitBytes = options.bodyLimitBytes ?? BODY_LIMIT_BYTES
  const idleMs = options.idleMs ?? IDLE_MS
  const closing = new AbortController()
  let streamCount = 0

  const doorOf = (to: Recognised): Door | undefined =>
    to === 'native' || to === 'wuying' || to === 'uhost' ? options.doors[to] : undefined

  /** What is wrong with a request whichever door it is for. */
  function refusalOf(raw: IncomingMessage, end: WholeBody['end']) {
    if (end === 'late') return { fault: tooSlow(), status: 408 }
    if (end === 'too-large') {
      const message = `The body is over ${limitBytes} bytes. Send less in one request.`
      return { fault: new Fault('invalid', message, { reason: 'too-large' }), status: TOO_LARGE_STATUS }
    }
    if (raw.headers.host !== undefined || raw.httpVersion !== '1.1') return undefined
    const fault = new Fault('invalid', 'The header Host is missing. HTTP/1.1 asks for it.', {
      reason: 'malformed',
    })
    return { fault, status: 400 }
  }

  /** The door's own words for what it never gets to see. */
  function refuse(door: Door | undefined, fault: Fault, request: WireRequest, status: number): WireAnswer {
    return door?.refuse?.(fault, request) ?? plainRefusal(fault, request.requestId, status)
  }

  async function answer(
    to: Recognised,
    request: WireRequest,
    refusal: { readonly fault: Fault; readonly status: number } | undefined,
    note: (error: unknown) => void,
  ): Promise<WireAnswer> {
    const door = doorOf(to)
    if (refusal !== undefined) return refuse(door, refusal.fault, request, refusal.status)
    if (door === undefined) {
      const reads = request.method === 'GET' || request.method === 'HEAD'
      if (to === 'health') return jsonAnswer(reads ? 200 : 405, { status: 'ok' })
      if (to === 'index') return indexAnswer(reads ? 200 : 400)
      const message = `Nothing is at '${pathOf(request.url).slice(0, 80)}'. Ask '/' what is here.`
      return plainRefusal(new Fault('absent', message), request.requestId, 404)
    }
    try {
      return await door.handle(request)
    } catch (error) {
      note(error)
      const message = 'The server failed at this request. Its log says why, under the request id.'
      return refuse(door, new Fault('unavailable', message, { reason: 'internal' }), request, 500)
    }
  }

  /** Puts an answer on its way; resolves when no more of it will go out. */
  async function send(
    { method }: WireHead,
    reply: FastifyReply,
    answered: WireAnswer,
    isLast: boolean,
  ): Promise<Sent> {
    const headers: Record<string, string> = {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...answered.headers,
      ...(isLast ? { connection: 'close' } : {}),
    }
    if (answered.stream !== undefined) {
      reply.hijack()
      const length = headers['content-length']
      const lengthBytes = length === undefined ? undefined : Number(length)
      return sendStream(reply.raw, answered.status, headers, answered.stream, { lengthBytes, idleMs })
    }
    const body = Buffer.isBuffer(answered.body) ? answered.body : Buffer.from(answered.body)
    reply.code(answered.status)
    reply.headers(headers)
    // With a body, even an empty one, Fastify says a length, which here would be that of what is not sent.
    const hasLength = body.length > 0 || (answered.status !== 304 && method !== 'HEAD')
    reply.send(hasLength ? body : undefined)
    return { sentBytes: body.length, end: 'whole' }
  }

  /** A request that may last: the door gets its head at once, and its body as it comes. */
  async function serveStream({ raw, reply, head, left, log }: Visit, to: Recognised): Promise<void> {
    const isFull = streamCount >= (options.streamCountMax ?? STREAM_COUNT_MAX)
    const body = streamBody(raw, idleMs)
    const request: WireRequest = { ...head, body: Buffer.alloc(0), stream: body.bytes }
    let bug: unknown
    streamCount++
    try {
      const refusal = refusalOf(raw, 'whole') ?? (isFull ? { fault: tooMany(), status: 503 } : undefined)
      const answered = await answer(to, request, refusal, (error) => {
        bug = error
      })
      const isGone = left.signal.aborted
      const sent = await send(head, reply, answered, closing.signal.aborted || body.isStalled())
      dropRest(raw, DRAIN_BYTES, LINGER_MS)
      const shown: Sent = isGone ? { sentBytes: 0, end: 'left' } : sent
      log({ to, bodyBytes: body.receivedBytes(), sent: shown, status: answered.status, bug })
    } finally {
      streamCount--
    }
  }

  /** Any other request: whole before its door sees it. `early` is what the path alone tells of where it goes. */
  async function serveWhole(visit: Visit, early: Recognised | undefined): Promise<void> {
    const { raw, reply, head, left, log } = visit
    const { body, end } = await readWhole(raw, limitBytes, DRAIN_BYTES, idleMs)
    const request: WireRequest = { ...head, body }
    const to = early ?? recognise(request)
    const bodyBytes = body.length
    if (end === 'aborted') {
      reply.hijack()
      raw.socket.destroy()
      return log({ to, bodyBytes, sent: { sentBytes: 0, end: 'left' }, status: 499, bug: undefined })
    }
    let bug: unknown
    const refusal = refusalOf(raw, end)
    // In plain words: some doors would say 200 to what never arrived.
    const answered =
      end === 'late' && refusal !== undefined
        ? plainRefusal(refusal.fault, head.requestId, refusal.status)
        : await answer(to, request, refusal, (error) => {
            bug = error
          })
    const isGone = left.signal.aborted
    const sent = await send(head, reply, answered, closing.signal.aborted || end !== 'whole')
    log({ to, bodyBytes, sent: isGone ? { ...sent, end: 'left' } : sent, status: answered.status, bug })
  }

  async function serve(incoming: FastifyRequest, reply: FastifyReply): Promise<void> {
    const startedAtMs = performance.now()
    const raw = incoming.raw
    const left = new AbortController()
    reply.raw.once('close', () => left.abort())
    const head: WireHead = {
      method: raw.method ?? 'GET',
      url: raw.url ?? '/',
      headers: raw.headers,
      sourceIp: raw.socket.remoteAddress?.replace(/^::ffff:/, '') ?? '',
      secureTransport: 'encrypted' in raw.socket && raw.socket.encrypted === true,
      requestId: randomUUID().toUpperCase(),
      signal: AbortSignal.any([left.signal, closing.signal]),
    }
    const log: Visit['log'] = ({ to, bodyBytes, sent, status, bug }) => {
      const error = bug ?? (sent.end === 'failed' ? sent.error : undefined)
      options.log({
        requestId: head.requestId,
        door: to === 'native' || to === 'wuying' || to === 'uhost' ? to : 'none',
        method: head.method,
        path: loggedPath(head.url),
        status: sent.end === 'left' ? 499 : sent.end === 'failed' ? 500 : status,
        sourceIp: head.sourceIp,
        bodyBytes,
        answerBytes: sent.sentBytes,
        durationMs: performance.now() - startedAtMs,
        ...(error === undefined ? {} : { error }),
      })
    }
    const visit: Visit = { raw, reply, head, left, log }
    // Only at the root does the body tell the door.
    const early = pathOf(head.url) === '/' ? undefined : recognise({ ...head, body: Buffer.alloc(0) })
    if (early !== undefined && doorOf(early)?.streams?.(head) === true) return serveStream(visit, early)
    return serveWhole(visit, early)
  }

  const server: FastifyInstance = fastify({
    logger: false,
    http: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: 5_000,
      // We refuse such a request ourselves: Node would answer without a body.
      requireHostHeader: false,
    },
    // Ours to watch over: an upload may well take a day.
    requestTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    forceCloseConnections: 'idle',
    // A request that was under way when we were told to close is still answered by its door.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 4096 },
    // A path that Fastify cannot decode is refused by the door it is for, like any other bad path.
    frameworkErrors: (_error, incoming, reply) => void serve(incoming, reply as FastifyReply),
    clientErrorHandler: (error, socket) => refuseSocket(error as NodeJS.ErrnoException, socket),
  })
  // An expectation that we do not know may be passed over (RFC 9110, 10.1.1); Node would answer 417 without a body.
  server.server.on('checkExpectation', (raw, reply) => server.server.emit('request', raw, reply))
  // The whole request is served in this hook, before Fastify would parse a body or judge a content type: what a
  // body means, and how to complain about it, is each door's own business. No parser ever runs.
  server.all('/*', { onRequest: serve }, () => undefined)
  server.setNotFoundHandler((incoming, reply) => serve(incoming, reply))

  return {
    async listen(host, port) {
      try {
        await server.listen({ host, port })
      } catch (cause) {
        const code = (cause as NodeJS.ErrnoException).code ?? 'unknown'
        const message = `Cannot listen on ${host}:${port} (${code}). Choose another address with --listen.`
        throw new Fault('unavailable', message, { cause })
      }
      const address = server.server.address()
      if (address === null || typeof address === 'string') throw new Error('A TCP server has an address.')
      const name = address.family === 'IPv6' ? `[${address.address}]` : address.address
      return { url: `http://${name}:${address.port}`, port: address.port }
    },
    async close() {
      closing.abort()
      const cut = setTimeout(
        () => server.server.closeAllConnections(),
        options.closeGraceMs ?? CLOSE_GRACE_MS,
      )
      try {
        await server.close()
      } finally {
        clearTimeout(cut)
      }
    },
  }
}

/** Answers on a socket whose bytes were no HTTP request, were too many headers, or came too slowly. */
function refuseSocket(error: NodeJS.ErrnoException, socket: Socket): void {
  // Node's own handler looks at the same field; there is no public name for it.
  const { _httpMessage: current } = socket as Socket & { _httpMessage?: ServerResponse | null }
  // The request before this one was whole and is still being answered: its caller must not read our refusal instead.
  if (current?.req.complete && socket.writable) {
    current.once('finish', () => setImmediate(refuseSocket, error, socket))
    return
  }
  // Nobody is there to read, or an answer is already on its way and a second would corrupt it.
  if (error.code === 'ECONNRESET' || !socket.writable || current?.headersSent) {
    socket.destroy()
    return
  }
  const [status, phrase, message] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? [431, 'Request Header Fields Too Large', 'The headers are over 16 KiB. Send fewer.']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? [408, 'Request Timeout', tooSlow().message]
        : [400, 'Bad Request', malformed().message]
  const fault = new Fault('invalid', message, { reason: 'malformed' })
  socket.end(rawHttp(plainRefusal(fault, randomUUID().toUpperCase(), status), phrase))
}
