import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { type Answer, answerTo, readWish } from './answers.ts'
import type { PeerEndpointParts } from './contract.ts'
import { fingerprintOfDer, type PeerIdentity } from './identity.ts'
import { Turns } from './turns.ts'
import { FAULT_HEADER, faultWords, OBJECT_BYTES_MAX, STATUS, TLS } from './words.ts'

export interface PeerEndpointOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly identity: PeerIdentity
  readonly parts: PeerEndpointParts
  /** A failure that is ours; nothing of what a client sent is in it. */
  readonly onError?: (error: unknown) => void
  readonly limits?: Partial<PeerLimits>
}

export interface PeerLimits {
  /** Of one peer at once; others of it wait for their turn. */
  readonly requestsMax: number
  readonly connectionsMax: number
  /** Of objects on their way to one peer: what our memory holds for it. */
  readonly bytesMax: number
  /** A connection on which nothing moves. */
  readonly idleMs: number
  /** For one answer, however slowly its reader takes it. */
  readonly answerMs: number
  /** That requests under way get when the endpoint closes. */
  readonly closeMs: number
}

const LIMITS: PeerLimits = {
  requestsMax: 32,
  connectionsMax: 256,
  bytesMax: 8 * OBJECT_BYTES_MAX,
  idleMs: 60_000,
  answerMs: 600_000,
  closeMs: 5_000,
}
const HANDSHAKE_MS = 10_000
/** For a question with all its ids. */
const REQUEST_MS = 60_000
const CONNECTIONS_MAX = 1024
const HEAD_BYTES_MAX = 8 * 1024
/** Told before a word of the client was read. */
const refusal = (status: string, words: string) =>
  `HTTP/1.1 ${status}\r\n${FAULT_HEADER}: ${words}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`
const UNKNOWN = refusal('403 Forbidden', 'denied peer')
/** He comes again when others of his are through. */
const TOO_MANY = refusal('503 Service Unavailable', 'unavailable peer')

/** What is under way for one peer, over all its connections. */
interface Guest {
  connectionCount: number
  readonly requests: Turns
  readonly bytes: Turns
}

/**
 * Lets other installations read images of ours: HTTP over TLS 1.3, in which both ends show a certificate and prove that it is
 * theirs. Somebody whose certificate `parts.reader` does not know is refused before his request is read. Reads, and writes
 * nothing. `close` ends idle connections at once and lets answers under way end for a while.
 */
export async function servePeers(
  options: PeerEndpointOptions,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const { listen, identity, parts, onError = () => {} } = options
  const limits = { ...LIMITS, ...options.limits }
  const guests = new Map<string, Guest>()
  const fingerprints = new WeakMap<object, string>()

  const guestOf = (name: string): Guest => {
    const guest = guests.get(name) ?? {
      connectionCount: 0,
      requests: new Turns(limits.requestsMax),
      bytes: new Turns(limits.bytesMax),
    }
    guests.set(name, guest)
    return guest
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Asked again for each request: a peer may have been taken from the settings.
    const reader = parts.reader(fingerprints.get(request.socket) ?? '')
    if (reader === undefined) return void request.socket.destroy()
    const guest = guestOf(reader.name)
    const gone = new AbortController()
    const late = setTimeout(() => request.socket.destroy(), limits.answerMs)
    const places: (() => void)[] = []
    // 'close' comes once the last byte was handed to the system, or the reader has gone: then memory and places are free.
    response.on('close', () => {
      clearTimeout(late)
      gone.abort(new Error('the peer has gone, or has its answer'))
      for (const giveBack of places) giveBack()
    })
    const takePlace = async (turns: Turns, size: number) => {
      const giveBack = await turns.take(size, gone.signal)
      if (gone.signal.aborted) giveBack()
      else places.push(giveBack)
    }
    try {
      await takePlace(guest.requests, 1)
      const wish = await readWish(request)
      const holdBytes = (lengthBytes: number) => takePlace(guest.bytes, lengthBytes)
      send(request, response, await answerTo(parts, reader, wish, { signal: gone.signal, holdBytes }))
    } catch (error) {
      if (gone.signal.aborted) return
      const told = faultWords(error)
      if (told.kind === 'unavailable' || told.kind === 'corrupt') onError(error)
      send(request, response, { fault: told })
    }
  }

  const server = createServer(
    {
      ...TLS,
      cert: identity.certificate,
      key: identity.key,
      requestCert: true,
      // Nobody signs for anybody here: whose certificate it is is looked up by its fingerprint.
      rejectUnauthorized: false,
      handshakeTimeout: HANDSHAKE_MS,
      headersTimeout: HANDSHAKE_MS,
      requestTimeout: REQUEST_MS,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: 1000,
      maxHeaderSize: HEAD_BYTES_MAX,
    },
    (request, response) => void serve(request, response).catch(onError),
  )
  server.timeout = limits.idleMs
  server.maxConnections = CONNECTIONS_MAX

  // Between TLS and HTTP: what nobody knows never reaches the parser.
  const handlers = server.listeners('secureConnection')
  server.removeAllListeners('secureConnection')
  server.on('secureConnection', (socket: TLSSocket) => {
    const shown = socket.getPeerX509Certificate()
    const fingerprint = shown === undefined ? '' : fingerprintOfDer(shown.raw)
    const reader = shown === undefined ? undefined : parts.reader(fingerprint)
    const guest = reader === undefined ? undefined : guestOf(reader.name)
    if (guest === undefined) return refuse(socket, UNKNOWN)
    if (guest.connectionCount >= limits.connectionsMax) return refuse(socket, TOO_MANY)
    guest.connectionCount++
    socket.once('close', () => guest.connectionCount--)
    fingerprints.set(socket, fingerprint)
    for (const handler of handlers) handler.call(server, socket)
  })
  // Half a handshake, or no TLS at all: the connection has ended, and there is nobody to tell.
  server.on('tlsClientError', (_error, socket) => socket.destroy())

  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })

  server.listen(listen.port, listen.host)
  await once(server, 'listening')
  server.on('error', onError)
  const { port } = server.address() as AddressInfo
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host
  return {
    url: `https://${host}:${port}`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      const late = setTimeout(() => {
        for (const socket of sockets) socket.destroy()
      }, limits.closeMs)
      await closed
      clearTimeout(late)
    },
  }
}

function refuse(socket: TLSSocket, answer: string): void {
  socket.on('error', () => {})
  socket.end(answer)
  // Read and dropped, so that the answer is not lost with a connection that is reset.
  socket.resume()
  const late = setTimeout(() => socket.destroy(), 1000)
  socket.once('close', () => clearTimeout(late))
}

function send(request: IncomingMessage, response: ServerResponse, answer: Answer): void {
  const isRead = request.complete
  const common = { 'Cache-Control': 'no-store', ...(isRead ? {} : { Connection: 'close' }) }
  if ('fault' in answer) {
    const { kind, subject } = answer.fault
    const head = { ...common, [FAULT_HEADER]: `${kind} ${subject}`, 'Content-Length': 0 }
    response.writeHead(STATUS[kind], head).end()
  } else if ('sizeBytes' in answer) {
    response.writeHead(200, { ...common, 'Content-Length': answer.sizeBytes }).end()
  } else {
    const { body, range } = answer
    const part = range === undefined ? {} : { 'Content-Range': range }
    response.writeHead(range === undefined ? 200 : 206, {
      ...{ ...common, ...part, 'Content-Length': body.length },
      'Content-Type': 'application/octet-stream',
    })
    response.end(body)
  }
}
