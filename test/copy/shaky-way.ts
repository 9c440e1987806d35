import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A way to another installation on which all connections break after so many bytes from there, as often as is said. */
export interface ShakyWay {
  readonly port: number
  /** Where it leads; nothing is let through before that is known. */
  target: number | undefined
  /** Bytes until the next break, counted from the one before; the first is the next. Beyond the last nothing breaks. */
  readonly breaks: number[]
  brokenCount: number
  /** Connections stay, and nothing comes through any more. */
  isStalled: boolean
  close(): void
}

export async function openShakyWay(): Promise<ShakyWay> {
  const sockets = new Set<Socket>()
  let sinceBytes = 0
  const breakAll = () => {
    for (const socket of sockets) socket.destroy()
    sinceBytes = 0
    way.breaks.shift()
    way.brokenCount++
  }
  const server = createServer((near) => {
    if (way.target === undefined) return void near.destroy()
    const far = connect(way.target, '127.0.0.1')
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.once('close', () => {
        sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far)
    far.on('data', (bytes) => {
      if (way.isStalled) return void far.pause()
      sinceBytes += bytes.length
      const limit = way.breaks[0]
      if (limit !== undefined && sinceBytes > limit) return breakAll()
      if (!near.write(bytes)) {
        far.pause()
        near.once('drain', () => far.resume())
      }
    })
    far.on('end', () => near.end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const way: ShakyWay = {
    port: (server.address() as AddressInfo).port,
    target: undefined,
    breaks: [],
    brokenCount: 0,
    isStalled: false,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
  return way
}
