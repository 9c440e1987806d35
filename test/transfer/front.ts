import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import type { KeyPair } from '../../demo/clients.ts'
import type { TransferPlace } from './transfer-place.ts'

/** An address that stays while the server behind it is killed and another one comes. Counts what goes through. */
export interface Front {
  readonly endpoint: URL
  readonly key: KeyPair
  /** Of all time, to the server and from it. */
  readonly passed: { toServerBytes: number; fromServerBytes: number }
  /** Called as bytes come from either side, before they go on; while it is awaited, no more of that connection do. */
  onBytes: (passed: Front['passed']) => Promise<void> | void
  close(): Promise<void>
}

export async function startFront(place: TransferPlace): Promise<Front> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const { hostname, port } = place.server.endpoint
    const far = connect({ host: hostname, port: Number(port) })
    const end = () => {
      near.destroy()
      far.destroy()
    }
    const pass = (source: Socket, target: Socket, count: 'toServerBytes' | 'fromServerBytes') => {
      sockets.add(source)
      source.on('error', end)
      source.on('close', () => {
        sockets.delete(source)
        end()
      })
      source.on('data', async (bytes: Buffer) => {
        source.pause()
        front.passed[count] += bytes.length
        await front.onBytes(front.passed)
        if (target.destroyed || target.write(bytes)) source.resume()
        else target.once('drain', () => source.resume())
      })
    }
    pass(near, far, 'toServerBytes')
    pass(far, near, 'fromServerBytes')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const front: Front = {
    endpoint: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    key: place.server.key,
    passed: { toServerBytes: 0, fromServerBytes: 0 },
    onBytes: () => {},
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
  return front
}
