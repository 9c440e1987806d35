import { open, stat } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join } from 'node:path'

/** A server of files with ranges and strong ETags, that counts what it sends. */
export interface Origin {
  readonly url: (name: string) => string
  /** The Range header of every request, '' for none. */
  readonly ranges: string[]
  readonly sentBytes: () => number
  /** Awaited before the bytes from `offset` on are sent. */
  beforeBytes: (offset: number) => Promise<void> | void
  close(): Promise<void>
}

const PIECE_BYTES = 256 * 1024

export async function startOrigin(folder: string): Promise<Origin> {
  let sentBytes = 0
  const server = createServer(async (request, response) => {
    response.on('error', () => {})
    try {
      const path = join(folder, basename(decodeURIComponent(request.url ?? '')))
      const { size, mtimeMs } = await stat(path)
      const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')
      const first = Number(range?.[1] ?? 0)
      origin.ranges.push(request.headers.range ?? '')
      response.writeHead(range === null ? 200 : 206, {
        etag: `"${size}-${mtimeMs}"`,
        'accept-ranges': 'bytes',
        'content-length': size - first,
        ...(range === null ? {} : { 'content-range': `bytes ${first}-${size - 1}/${size}` }),
      })
      await sendFrom(path, first, response)
      response.end()
    } catch {
      response.destroy()
    }
  })
  const sendFrom = async (path: string, first: number, response: ServerResponse) => {
    const file = await open(path, 'r')
    try {
      for (let offset = first; ; ) {
        await origin.beforeBytes(offset)
        const bytes = Buffer.alloc(PIECE_BYTES)
        const { bytesRead } = await file.read(bytes, 0, PIECE_BYTES, offset)
        if (bytesRead === 0 || response.destroyed) return
        offset += bytesRead
        // What the other side has taken, so that whoever breaks off is not charged for what was only queued here.
        await new Promise<void>((resolve, reject) => {
          response.once('close', () => reject(new Error('the other side left')))
          response.write(bytes.subarray(0, bytesRead), () => resolve())
        })
        response.removeAllListeners('close')
        sentBytes += bytesRead
      }
    } finally {
      await file.close()
    }
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const origin: Origin = {
    url: (name) => `http://127.0.0.1:${port}/${encodeURIComponent(name)}`,
    ranges: [],
    sentBytes: () => sentBytes,
    beforeBytes: () => {},
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return origin
}
