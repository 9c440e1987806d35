import { setTimeout as delay } from 'node:timers/promises'
import type { Caller } from '../../app/contract.ts'
import type { TaskEvent } from '../../image/event.ts'
import { Fault, isFault } from '../../image/fault.ts'
import type { ProjectId, TaskId } from '../../image/ids.ts'
import type { TaskKind } from '../../image/task.ts'
import type { RouteContext } from './route.ts'
import { showEvent } from './show-events.ts'

export interface FollowWish {
  readonly projectId: ProjectId | undefined
  readonly afterId: number | undefined
  readonly taskId: TaskId | undefined
  readonly kinds: readonly TaskKind[] | undefined
}

/** In one piece of the answer. */
const EVENTS_MAX = 200
const RETRY_MS = 2000
/** What comes one upon the other is looked for once: each look asks the catalog for rights and events. */
const GATHER_MS = 100

export const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  // Some proxies would keep it until it is long enough.
  'x-accel-buffering': 'no',
} as const

/** Where a client that lost its connection goes on. Throws Fault 'invalid' for what we never said. */
export function lastEventId({ headers }: Pick<RouteContext, 'headers'>): number | undefined {
  const text = String(headers['last-event-id'] ?? '').trim()
  if (text === '') return undefined
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new Fault('invalid', 'Last-Event-ID takes the id of an event.', { field: 'Last-Event-ID' })
}

/** `data` has to be of one line; JSON is. Source: HTML standard, "Server-sent events". */
const frame = (name: string, id: number, data: object) =>
  `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`

const frameOf = (event: TaskEvent) => frame('task', event.id, showEvent(event))

interface Piece {
  readonly text: string
  readonly lastId: number
}

/**
 * Events as server-sent events, until the caller leaves, the server closes, or rights or key are good no more. What is wrong
 * from the start is thrown. An `id` stands before anything that comes without one, so that whoever goes on behind the last
 * id it saw misses nothing and gets nothing twice.
 */
export async function followEvents(
  context: RouteContext,
  wish: FollowWish,
): Promise<AsyncIterable<Uint8Array>> {
  const { signal, followers } = context
  const projectId = wish.projectId ?? context.caller.defaultProjectId
  const first = await look(context, context.caller, { ...wish, projectId }, 0)
  const leave = followers.enter(projectId)
  // Also where nobody ever begins to read.
  signal.addEventListener('abort', leave, { once: true })
  if (signal.aborted) leave()
  return say(context, { ...wish, projectId }, first, leave)
}

/** What there is behind `afterId`, or comes within `waitMs`. */
async function look(
  { app, signal }: RouteContext,
  caller: Caller,
  { projectId, afterId, taskId, kinds }: FollowWish,
  waitMs: number,
): Promise<Piece> {
  const ask = (fromId: number | undefined) =>
    app.events.list(
      caller,
      { projectId, afterId: fromId, taskId, kinds },
      { limit: EVENTS_MAX, waitMs: fromId === undefined ? 0 : waitMs, signal },
    )
  try {
    const { events, lastId } = await ask(afterId)
    return { text: events.map(frameOf).join(''), lastId }
  } catch (error) {
    if (!isFault(error, 'conflict') || error.reason !== 'gone') throw error
    const { lastId } = await ask(undefined)
    return { text: frame('gone', lastId, { message: error.message }), lastId }
  }
}

async function* say(
  context: RouteContext,
  wish: FollowWish,
  first: Piece,
  leave: () => void,
): AsyncGenerator<Uint8Array> {
  const { signal, followers } = context
  try {
    const start =
      wish.afterId === undefined ? `retry: ${RETRY_MS}\nid: ${first.lastId}` : `retry: ${RETRY_MS}`
    yield Buffer.from(`${start}\n\n${first.text}`)
    let { lastId } = first
    let { caller } = context
    let askedAtMs = performance.now()
    while (!signal.aborted) {
      if (performance.now() - askedAtMs >= followers.againMs) {
        caller = await context.again()
        askedAtMs = performance.now()
      }
      const piece = await look(context, caller, { ...wish, afterId: lastId }, followers.heartbeatMs)
      if (signal.aborted) return
      lastId = piece.lastId
      // Ids that were others' count as seen: who comes back after long is then not behind what is kept.
      yield Buffer.from(piece.text === '' ? `: still here\nid: ${lastId}\n\n` : piece.text)
      if (piece.text !== '') await delay(GATHER_MS, undefined, { signal }).catch(() => undefined)
    }
  } catch (error) {
    if (signal.aborted) return
    if (!isFault(error)) throw error
    const { kind, message } = error
    yield Buffer.from(`event: end\ndata: ${JSON.stringify({ kind, message })}\n\n`)
  } finally {
    leave()
    signal.removeEventListener('abort', leave)
  }
}
