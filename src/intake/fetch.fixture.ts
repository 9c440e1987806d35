import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import {
  type AddressInfo,
  connect as connectSocket,
  createServer as createSocketServer,
  type Socket,
} from 'node:net'
import type { TestContext } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { RemoteFile } from './contract.ts'
import { createFetcher, type FetcherOptions } from './fetch.ts'
import type { Connect } from './fetch-connect.ts'
import type { Lookup } from './fetch-lookup.ts'

/** A server on loopback that notes what came. */
export interface LocalServer {
  readonly port: number
  /** Without a path. */
  readonly origin: string
  readonly requests: { readonly url: string; readonly headers: IncomingMessage['headers'] }[]
  /** Of all time. */
  connectionCount(): number
  /** That are open now. */
  openCount(): number
  close(): Promise<void>
}

export async function startServer(answer: RequestListener): Promise<LocalServer> {
  const requests: LocalServer['requests'][number][] = []
  const server = createServer((request, response) => {
    requests.push({ url: request.url ?? '', headers: request.headers })
    answer(request, response)
  })
  return local(server, requests)
}

/** One that writes these bytes to whoever comes, and then keeps the connection as it is. */
export async function startRawServer(onSocket: (socket: Socket) => void): Promise<LocalServer> {
  return local(createSocketServer(onSocket), [])
}

async function local(
  server: ReturnType<typeof createSocketServer>,
  requests: LocalServer['requests'],
): Promise<LocalServer> {
  const sockets = new Set<Socket>()
  let connectionCount = 0
  server.on('connection', (socket: Socket) => {
    connectionCount += 1
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    ...{ port, requests },
    origin: `http://127.0.0.1:${port}`,
    connectionCount: () => connectionCount,
    openCount: () => sockets.size,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A name server: each look-up of a name takes the next of its answers, the last one for ever. */
export function nameServer(answers: Readonly<Record<string, readonly (readonly string[])[]>>): {
  readonly lookup: Lookup
  readonly asked: string[]
} {
  const asked: string[] = []
  return {
    asked,
    async lookup(name) {
      const all = answers[name]
      const index = asked.filter((one) => one === name).length
      asked.push(name)
      const addresses = all?.[Math.min(index, all.length - 1)]
      if (addresses === undefined) throw Object.assign(new Error('none'), { code: 'ENOTFOUND' })
      return addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
    },
  }
}

/**
 * The world: connections to these addresses lead to a server on loopback and say that they do not; any other place
 * refuses. Every place that was tried is noted.
 */
export function world(places: Readonly<Record<string, LocalServer>>): {
  readonly connect: Connect
  readonly tried: string[]
} {
  const tried: string[] = []
  return {
    tried,
    connect({ host, port }) {
      tried.push(`${host} ${port}`)
      // Port 1 of loopback: nobody listens there.
      const socket = connectSocket({ host: '127.0.0.1', port: places[host]?.port ?? 1 })
      Object.defineProperties(socket, { remoteAddress: { value: host }, remotePort: { value: port } })
      return socket
    },
  }
}

export async function readAll({ body }: RemoteFile): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(body))
}

export const never = new AbortController().signal
export const START = { offset: 0, etag: undefined }
export const BYTES = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251))
export const refusal = (reason: 'address' | 'url') => (error: unknown) =>
  isFault(error, 'invalid') && error.subject === 'request' && error.reason === reason
export const unavailable = (error: unknown) => isFault(error, 'unavailable') && error.subject === 'file'
export const fetcherOf = ({ port }: LocalServer, options: Partial<FetcherOptions> = {}) =>
  createFetcher({ allow: [`127.0.0.1:${port}`], ...options })

export type Answer = Parameters<typeof startServer>[0]

export async function serve(t: TestContext, answer: Answer): Promise<LocalServer> {
  const server = await startServer(answer)
  t.after(() => server.close())
  return server
}

/** Writes exactly this and waits; 'end' closes behind it. */
export async function serveRaw(
  t: TestContext,
  text: string | Buffer,
  then: 'end' | 'wait',
): Promise<LocalServer> {
  const server = await startRawServer((socket) => {
    socket.once('data', () => {
      if (then === 'end') socket.end(text)
      else socket.write(text)
    })
  })
  t.after(() => server.close())
  return server
}

export async function allClosed(server: LocalServer): Promise<void> {
  while (server.openCount() > 0) await new Promise((resolve) => setImmediate(resolve))
}
