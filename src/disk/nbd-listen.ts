import { chmod, lstat, unlink } from 'node:fs/promises'
import { createConnection, type ListenOptions, type Server } from 'node:net'
import { Fault } from '../image/fault.ts'

/** What the operating system takes in one address, without the zero byte at its end. */
const SOCKET_PATH_BYTES_MAX = 107

export type ListenAddress = { readonly socketPath: string } | { readonly host: string; readonly port: number }

/**
 * Listens. A socket file that a killed predecessor left is replaced; one that somebody answers on, or any other kind
 * of file, is Fault 'conflict', as is a port in use. A socket file may be used by its owner alone. Port 0 takes a
 * free one; the address says which.
 */
export async function listen(server: Server, where: ListenAddress): Promise<ListenAddress> {
  if (!('socketPath' in where)) {
    await bind(server, { host: where.host, port: where.port })
    const bound = server.address()
    return { host: where.host, port: bound && typeof bound === 'object' ? bound.port : where.port }
  }
  const { socketPath } = where
  if (Buffer.byteLength(socketPath) > SOCKET_PATH_BYTES_MAX) {
    throw new Fault(
      'invalid',
      `A socket path has at most ${SOCKET_PATH_BYTES_MAX} bytes. Choose a shorter one.`,
    )
  }
  await removeStale(socketPath)
  await bind(server, { path: socketPath })
  await chmod(socketPath, 0o600)
  return { socketPath }
}

async function bind(server: Server, options: ListenOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen(options, resolve)
  try {
    await promise
  } catch (cause) {
    const used = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
    throw used
      ? new Fault('conflict', 'Another server listens at this address. Stop it or choose another.', { cause })
      : new Fault('unavailable', 'The server cannot listen at this address.', { cause })
  } finally {
    server.off('error', reject)
  }
}

async function removeStale(socketPath: string): Promise<void> {
  const stats = await lstat(socketPath).catch(() => undefined)
  if (!stats) return
  if (!stats.isSocket()) throw new Fault('conflict', 'A file is where the socket shall be. Move it away.')
  if (await answers(socketPath)) {
    throw new Fault('conflict', 'Another server answers on this socket. Stop it or choose another.')
  }
  await unlink(socketPath)
}

/** Only a refusal says that nobody listens; any other outcome may be a living server, so it counts as one. */
async function answers(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = createConnection(socketPath)
  socket.once('connect', () => resolve(true))
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'))
  const answered = await promise
  socket.destroy()
  return answered
}
