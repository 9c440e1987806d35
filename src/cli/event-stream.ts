import { queryText, signedHeaders } from './client.ts'
import type { Connection } from './connection.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { exchange, readRefusal } from './http.ts'

// The reader's side of GET /v1/events/stream. Source: HTML standard, "Server-sent events".

/** Of one line: an event of ours has a few thousand characters. */
const LINE_CHARS_MAX = 1024 * 1024

/** One message. `data` is empty where only an id was told: so far all is seen. */
export interface Message {
  readonly name: string
  /** Where to go on behind; undefined where the message says nothing of it. */
  readonly id: number | undefined
  readonly data: string
}

/** Reads messages until the other side ends. Throws CommandFailure for what is no such stream, and what `chunks` throws. */
export async function* parseMessages(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Message> {
  const decoder = new TextDecoder()
  let rest = ''
  let name = 'message'
  let id: number | undefined
  let data: string[] = []
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LINE_CHARS_MAX) throw noStream()
    for (const ended of lines) {
      const line = ended.endsWith('\r') ? ended.slice(0, -1) : ended
      if (line === '') {
        if (data.length > 0 || id !== undefined) yield { name, id, data: data.join('\n') }
        name = 'message'
        id = undefined
        data = []
        continue
      }
      const cut = line.indexOf(':')
      const field = cut < 0 ? line : line.slice(0, cut)
      const value = cut < 0 ? '' : line.slice(cut + 1).replace(/^ /, '')
      if (field === 'event') name = value
      if (field === 'data') data.push(value)
      if (field === 'id' && /^\d{1,15}$/.test(value)) id = Number(value)
    }
  }
}

function noStream(): CommandFailure {
  return new CommandFailure(
    EXIT.unreachable,
    'What comes is no stream of events. Check --endpoint, and what stands between here and the server.',
  )
}

export interface StreamWish {
  readonly project?: string | undefined
  readonly taskId?: string | undefined
  readonly kinds?: readonly string[] | undefined
  /** The last event that was seen; without it from now on. */
  readonly afterId?: number | undefined
}

/** One connection's messages. Throws ServerRefusal, Disconnected, and the reason of `signal`. */
export async function* openEventStream(
  connection: Connection,
  { project, taskId, kinds, afterId }: StreamWish,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  const url = new URL(`/v1/events/stream${queryText({ project, taskId, kinds })}`, connection.endpoint)
  const asked: Record<string, string> = {
    accept: 'text/event-stream',
    ...(afterId === undefined ? {} : { 'last-event-id': String(afterId) }),
  }
  const headers = signedHeaders(connection, 'GET', url, Buffer.alloc(0), asked)
  const reply = await exchange({ url, method: 'GET', headers, signal })
  try {
    if (reply.status !== 200) throw await readRefusal(reply)
    if (!String(reply.headers['content-type']).startsWith('text/event-stream')) throw noStream()
    yield* parseMessages(reply.body)
  } finally {
    reply.discard()
  }
}
