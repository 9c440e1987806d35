import { CommandFailure, EXIT, ServerRefusal } from './failure.ts'
import { Disconnected, exchange, isPassing, type Reply, readRefusal } from './http.ts'
import { createPersistence, persist } from './persistence.ts'
import { createShelf, type Piece, type RangeBuffer } from './range-buffer.ts'
import type { Session } from './session.ts'

// The receiver's side of /v1/downloads: ranges (RFC 9110), each with its digest (RFC 9530).

/** As POST /v1/images/:id/exports answers it. */
export interface Link {
  readonly path: string
  readonly url: string
  readonly fileName: string
  /** Null where it is known only once all was sent. */
  readonly sizeBytes: number | null
  readonly expiresAtMs: number
  /** Of a bundle, the key that it is signed with. */
  readonly signer: string | null
  readonly taskId: string | null
}

export interface Download {
  readonly fileName: string
  readonly sizeBytes: number | undefined
  /** Of a file that can be had in ranges: equal for equal bytes. */
  readonly etag: string | undefined
  /**
   * The pieces from an offset on, in order; only those that came as their digest says where there is an etag, else the offset
   * is 0. A piece is good until the next one is asked for. `onBytes` is told how far it is, `offset` included.
   */
  read(offset: number, onBytes: (doneBytes: number) => void): AsyncGenerator<Piece>
}

const RANGES_AT_ONCE = 4

export interface DownloadWish {
  /** Called again whenever a link is no longer good. */
  makeLink(): Promise<Link>
  /** How much is asked for at a time, where that can be. */
  readonly partBytes: number
}

/** Asks for a link, and looks at what is behind it. Throws CommandFailure, and the reason of `signal` once it is aborted. */
export async function openDownload(
  session: Session,
  { makeLink, partBytes }: DownloadWish,
  signal: AbortSignal,
): Promise<Download> {
  const { io, connection } = session
  let link = await makeLink()
  let renewal: Promise<Link> | undefined
  const renew = async (stale: Link) => {
    // Of several that find it stale, one asks.
    if (link !== stale) return
    renewal ??= makeLink()
    try {
      link = await renewal
    } finally {
      renewal = undefined
    }
  }
  const ask = async (method: string, headers: Record<string, string>, asked: AbortSignal): Promise<Reply> => {
    const used = link
    const reply = await exchange({
      url: new URL(used.path, connection.endpoint),
      method,
      headers,
      signal: asked,
      isRepeatable: true,
    })
    if (reply.status < 300) return reply
    const refusal = await readRefusal(reply)
    if (isStale(refusal)) await renew(used)
    throw refusal
  }
  const look = async (): Promise<Reply> => {
    const reply = await exchange({
      url: new URL(link.path, connection.endpoint),
      method: 'HEAD',
      headers: {},
      signal,
      isRepeatable: true,
    })
    reply.discard()
    if (reply.status < 300) return reply
    // An answer to HEAD has no words for what is wrong.
    const other = await ask('GET', { range: 'bytes=0-0' }, signal)
    other.discard()
    return other.status < 300 ? look() : other
  }
  const head = await persist(io, signal, look)
  const sizeBytes = link.sizeBytes ?? undefined
  const { etag } = head.headers
  const hasRanges = head.headers['accept-ranges'] === 'bytes' && sizeBytes !== undefined
  const { fileName } = link
  if (!hasRanges || etag === undefined || etag.startsWith('W/')) {
    const read = (_offset: number, onBytes: (doneBytes: number) => void) =>
      readStream(() => persist(io, signal, () => ask('GET', {}, signal)), sizeBytes, onBytes)
    return { fileName, sizeBytes, etag: undefined, read }
  }
  return {
    fileName,
    sizeBytes,
    etag,
    async *read(offset, onBytes) {
      const left = new AbortController()
      const asked = AbortSignal.any([signal, left.signal])
      let doneBytes = offset
      const onCame = (byteCount: number) => {
        doneBytes += byteCount
        onBytes(doneBytes)
      }
      const fetch = (start: number) => {
        const range = { start, lengthBytes: Math.min(partBytes, sizeBytes - start), sizeBytes, etag }
        const came = { buffer: shelf.take(), onCame }
        return fetchRange(session, range, (headers) => ask('GET', headers, asked), came, asked)
      }
      const shelf = createShelf(Math.min(partBytes, sizeBytes))
      const running: Promise<RangeBuffer>[] = []
      let next = offset
      try {
        const fetchMore = () => {
          for (; next < sizeBytes && running.length < RANGES_AT_ONCE; next += partBytes) {
            const one = fetch(next)
            // One behind another may fail first: it is waited for in its turn.
            one.catch(() => {})
            running.push(one)
          }
        }
        for (fetchMore(); running.length > 0; ) {
          const came = await (running[0] as Promise<RangeBuffer>)
          running.shift()
          // While the caller writes, the line is not to stand still.
          fetchMore()
          yield came.piece()
          shelf.giveBack(came)
        }
      } finally {
        left.abort(new Error('Nobody wants the rest.'))
        await Promise.allSettled(running)
      }
    },
  }
}

/** A link that expired, or that the server has forgotten. */
function isStale(error: unknown): boolean {
  return error instanceof ServerRefusal && (error.status === 404 || error.status === 410)
}

interface Range {
  readonly start: number
  readonly lengthBytes: number
  readonly sizeBytes: number
  readonly etag: string
}

async function fetchRange(
  { io }: Session,
  range: Range,
  ask: (headers: Record<string, string>) => Promise<Reply>,
  { buffer, onCame }: { readonly buffer: RangeBuffer; readonly onCame: (byteCount: number) => void },
  signal: AbortSignal,
): Promise<RangeBuffer> {
  const persistence = createPersistence(io, signal)
  let damagedCount = 0
  for (;;) {
    let cameBytes = 0
    try {
      const last = range.start + range.lengthBytes - 1
      const reply = await ask({
        range: `bytes=${range.start}-${last}`,
        'if-range': range.etag,
        'want-content-digest': 'sha-256=10',
      })
      requireRange(reply, range)
      await readExactly(reply, buffer, range.lengthBytes, (byteCount) => {
        cameBytes += byteCount
        onCame(byteCount)
      })
      if (findDigest(reply) === buffer.digest()) return buffer
      if (++damagedCount > 1) throw damaged(reply)
      onCame(-cameBytes)
    } catch (error) {
      onCame(-cameBytes)
      await persistence.pause(error, isStale(error) || isPassing(error))
    }
  }
}

function requireRange(
  { status, headers, discard }: Reply,
  { start, lengthBytes, sizeBytes, etag }: Range,
): void {
  const isWanted =
    status === 206 && headers['content-range'] === `bytes ${start}-${start + lengthBytes - 1}/${sizeBytes}`
  if (isWanted && headers.etag === etag) return
  discard()
  const message = 'The file is no longer what it was when the download began. Run the command again.'
  throw new CommandFailure(EXIT.fault, message)
}

async function readExactly(
  reply: Reply,
  buffer: RangeBuffer,
  lengthBytes: number,
  onCame: (byteCount: number) => void,
): Promise<void> {
  buffer.clear()
  let cameBytes = 0
  for await (const chunk of reply.body) {
    cameBytes += chunk.length
    // What is too long is no more what was asked for than what is too short.
    if (cameBytes > lengthBytes) break
    buffer.append(chunk)
    onCame(chunk.length)
  }
  if (cameBytes === lengthBytes) return
  throw new Disconnected('the link', new Error('an answer of another length than it said'))
}

function findDigest({ headers }: Reply): string | undefined {
  const value = headers['content-digest']
  return typeof value === 'string' ? /(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):/.exec(value)?.[1] : undefined
}

function damaged(reply: Reply): CommandFailure {
  const what =
    findDigest(reply) === undefined
      ? 'The server does not say the digest of what it sends, so that it cannot be checked.'
      : 'The same piece came damaged twice.'
  const message = `${what} See what stands between here and the server: something there changes what goes through.`
  return new CommandFailure(EXIT.fault, message)
}

/** All of it as it comes. Throws CommandFailure where it ends early. */
async function* readStream(
  ask: () => Promise<Reply>,
  sizeBytes: number | undefined,
  onBytes: (doneBytes: number) => void,
): AsyncGenerator<Piece> {
  const reply = await ask()
  let doneBytes = 0
  try {
    for await (const chunk of reply.body) {
      yield { lengthBytes: chunk.length, bytes: chunk }
      doneBytes += chunk.length
      onBytes(doneBytes)
    }
  } catch (error) {
    if (!(error instanceof Disconnected)) throw error
    const message = `${error.message} What is packed or bundled is sent in one go: run the command again.`
    throw new CommandFailure(error.exitCode, message, { cause: error })
  }
  if (sizeBytes === undefined || doneBytes === sizeBytes) return
  throw new CommandFailure(
    EXIT.fault,
    'The server sent another number of bytes than it said. Run the command again.',
  )
}
