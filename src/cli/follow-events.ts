import type { ShownTask } from '../wire/native/show.ts'
import type { ShownEvent } from '../wire/native/show-events.ts'
import { describeDone } from './copy-progress.ts'
import { findTask } from './copy-watch.ts'
import { openEventStream } from './event-stream.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { formatBytes, formatTime, printable } from './format.ts'
import { refusalOf } from './http.ts'
import { interruptible } from './interrupt.ts'
import { createPersistence } from './persistence.ts'
import type { Session } from './session.ts'

export interface EventsWish {
  readonly project?: string | undefined
  readonly taskId?: string | undefined
  readonly kinds?: readonly string[] | undefined
  /** The last one that was seen; without it from now on. */
  readonly afterId?: number | undefined
}

const ENDED = ['done', 'failed', 'cancelled']
const GONE = 'Events were missed: the server no longer keeps them. See how things are: calotype task list'

/** How the task that is followed ended. */
type End = Pick<ShownEvent, 'state' | 'reason'>

/**
 * Prints events as they come, a line each, over as many connections as it takes: none is missed and none comes twice. With
 * `taskId` until that task has ended. Throws CommandFailure where it did not end well, where the server refuses or stays away,
 * and at Ctrl-C.
 */
export async function followEvents(session: Session, wish: EventsWish): Promise<void> {
  const { io, connection } = session
  let seenId = wish.afterId
  const goOn = () =>
    seenId === undefined
      ? 'Stopped.'
      : `Stopped. Go on where this was: calotype events follow --after ${seenId}`
  const end = await interruptible(io, goOn, async (signal): Promise<End> => {
    const persistence = createPersistence(io, signal)
    let isFirst = true
    for (;;) {
      try {
        for await (const message of openEventStream(connection, { ...wish, afterId: seenId }, signal)) {
          isFirst = false
          persistence.reset()
          const { name, id, data } = message
          if (name === 'end') throw parseEnd(data)
          const event = name === 'task' ? (parseData(data) as ShownEvent) : undefined
          if (event !== undefined) printEvent(session, event)
          if (name === 'gone') io.stderr.write(`${GONE}\n`)
          seenId = id ?? seenId
          if (wish.taskId === undefined) continue
          if (event === undefined) {
            const ended = await findEnded(session, wish.taskId, seenId)
            if (ended !== undefined) return ended
          } else if (event.taskId === wish.taskId && ENDED.includes(event.state)) return event
        }
        // The server closes, or somebody between us and it.
        await persistence.pause(
          new CommandFailure(EXIT.unreachable, 'Every connection is ended at once.'),
          true,
        )
      } catch (error) {
        // A server that was never there is not waited for.
        if (isFirst) throw error
        await persistence.pause(error)
      }
    }
  })
  if (end.state === 'done') return
  const why = end.state === 'cancelled' ? 'was cancelled.' : `failed: ${end.reason ?? 'why is not known.'}`
  throw new CommandFailure(EXIT.fault, `Task ${wish.taskId} ${why}`)
}

/** The task, if it has ended and no event behind `seenId` will say so. */
async function findEnded(
  session: Session,
  taskId: string,
  seenId: number | undefined,
): Promise<ShownTask | undefined> {
  const task = await findTask(session, taskId)
  if (task.endedAtMs === null) return undefined
  const query = { project: task.project, taskId, afterId: seenId }
  const { events } = await session.client.call<{ events: readonly ShownEvent[] }>('GET', '/v1/events', {
    query,
  })
  return events.length === 0 ? task : undefined
}

function parseData(data: string): unknown {
  try {
    return JSON.parse(data)
  } catch (cause) {
    throw new CommandFailure(EXIT.unreachable, 'An event came that is not whole.', { cause })
  }
}

/** Why the server ends it, as a refusal. */
function parseEnd(data: string): CommandFailure {
  const { kind, message } = parseData(data) as { kind: string; message: string }
  return refusalOf(kind === 'unavailable' ? 503 : 403, { kind, message })
}

function printEvent({ io, isJson }: Session, event: ShownEvent): void {
  if (isJson) {
    io.stdout.write(`${JSON.stringify(event)}\n`)
    return
  }
  const state = event.step === null ? event.state : `${event.state}: ${event.step}`
  const parts = [
    ...[formatTime(event.atMs), event.taskId, event.kind, event.region, state, describeDone(event)],
    // Done is what was made durable: on a slow line this alone tells that something moves.
    event.movedBytes === 0 ? '' : `${formatBytes(event.movedBytes)} moved`,
    event.reason ?? '',
  ]
  io.stdout.write(`${printable(parts.filter((part) => part !== '').join('  '))}\n`)
}
