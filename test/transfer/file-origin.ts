import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'

/** A file as its server has it right now. */
export interface ServedFile {
  readonly bytes: Buffer
  readonly etag: string | undefined
}

/** What a server may do wrong, or has not. */
export interface Habits {
  /** Breaks off behind this byte of the file. */
  readonly breaksAt?: number
  /** Sends what was asked for even if the file is another one by now. */
  readonly ignoresIfRange?: boolean
}

/** Answers as RFC 9110 has it, with ranges and strong validators, but for its habits. */
export function serveFile(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, etag }: ServedFile,
  { breaksAt, ignoresIfRange = false }: Habits = {},
): void {
  const first = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
  const isSame = ignoresIfRange || request.headers['if-range'] === etag
  const tag = etag === undefined ? {} : { ETag: etag }
  if (first > 0 && isSame && first >= bytes.length) {
    response.writeHead(416, { ...tag, 'Content-Range': `bytes */${bytes.length}` }).end()
    return
  }
  const start = isSame ? first : 0
  const range = `bytes ${start}-${bytes.length - 1}/${bytes.length}`
  response.writeHead(start > 0 ? 206 : 200, {
    ...tag,
    'Content-Length': bytes.length - start,
    ...(start > 0 ? { 'Content-Range': range } : {}),
  })
  if (breaksAt === undefined || breaksAt <= start) response.end(bytes.subarray(start))
  else response.write(bytes.subarray(start, breaksAt), () => response.destroy())
}

/** Sends for ever what it is given, without saying how long it is. Answers how many bytes went out so far. */
export function serveEndless(piece: Buffer): { readonly listener: RequestListener; sentBytes(): number } {
  let sentBytes = 0
  return {
    sentBytes: () => sentBytes,
    listener(_, response) {
      let isOver = false
      response.on('close', () => {
        isOver = true
      })
      const more = () => {
        if (isOver) return
        sentBytes += piece.length
        if (response.write(piece)) setImmediate(more)
        else response.once('drain', more)
      }
      more()
    },
  }
}
