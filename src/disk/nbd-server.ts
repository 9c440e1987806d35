import { createServer } from 'node:net'
import { Fault, isFault } from '../image/fault.ts'
import { Link } from './nbd-link.ts'
import { type ListenAddress, listen } from './nbd-listen.ts'
import { type Exports, ServerHandshake } from './nbd-server-handshake.ts'
import { ServerSession } from './nbd-session.ts'

export interface NbdServerOptions extends Exports {
  readonly listen: ListenAddress
  /** A client that has not chosen an export by then is sent away. */
  readonly handshakeMs?: number
  readonly connectionCountMax?: number
}

export interface NbdServer {
  readonly address: ListenAddress
  /** Ends the listening and every connection; resolves when all their disks are closed. */
  close(): Promise<void>
}

/**
 * Serves disks read-only to any number of NBD clients. Whatever a client sends ends at most its own connection.
 * Throws Fault 'conflict' if somebody else listens at the address.
 */
export async function serveNbd(options: NbdServerOptions): Promise<NbdServer> {
  const connections = new Map<Link, Promise<void>>()
  const server = createServer((socket) => {
    const link = Link.accept(socket)
    connections.set(
      link,
      serveConnection(link, options).finally(() => connections.delete(link)),
    )
  })
  server.maxConnections = options.connectionCountMax ?? 1024
  const address = await listen(server, options.listen)
  // Accepting may fail while descriptors are short; those who are connected are served on.
  server.on('error', (error) => options.report?.(error))
  let closed: Promise<void> | undefined
  const close = async () => {
    const stopped = new Promise<void>((resolve) => server.close(() => resolve()))
    const fault = new Fault('unavailable', 'The server was closed.', { subject: 'disk' })
    const ending = [...connections.values()]
    for (const link of connections.keys()) link.end(fault)
    await Promise.all([stopped, ...ending])
  }
  return {
    address,
    close() {
      closed ??= close()
      return closed
    },
  }
}

/** Never rejects: there is nobody left to tell but the log. */
async function serveConnection(link: Link, options: NbdServerOptions): Promise<void> {
  const report = (error: unknown) => options.report?.(error)
  const handshake = new ServerHandshake(link, options)
  const timer = setTimeout(
    () => link.end(new Fault('unavailable', 'The client took too long to begin.', { subject: 'disk' })),
    options.handshakeMs ?? 30_000,
  )
  try {
    const session = await handshake.run()
    clearTimeout(timer)
    if (!session) return
    try {
      await new ServerSession(link, session, report).run()
    } finally {
      await session.disk.close()
    }
  } catch (error) {
    // What the client did wrong, or a name that is not there, is its own affair.
    const theirs = isFault(error, 'absent') || (isFault(error) && error.reason === 'protocol')
    if (error !== link.fault && !theirs) report(error)
    link.end(error)
  } finally {
    clearTimeout(timer)
    link.end(new Fault('unavailable', 'The connection is over.', { subject: 'disk' }))
    await handshake.close().catch(report)
  }
}
