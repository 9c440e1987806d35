import type { ShownTask } from '../wire/native/show.ts'
import { createCopyProgress } from './copy-progress.ts'
import { CommandFailure, EXIT } from './failure.ts'
import { formatDuration } from './format.ts'
import type { Session } from './session.ts'
import { whileAway } from './wait.ts'

/** Copies that were begun: one by itself, or several and their batch. */
export interface Copied {
  /** The batch, or the one copy. */
  readonly taskId: string
  readonly copies: readonly { readonly region: string; readonly imageId: string; readonly taskId: string }[]
}

/** How they ended. */
export interface Watched {
  /** Null for a copy by itself. */
  readonly batch: ShownTask | null
  /** Of each copy, in their order. */
  readonly tasks: readonly ShownTask[]
}

/** A batch says nothing of a copy that is held, or waits to try again: its copies are looked at now and then anyway. */
const BATCH_WAIT_MS = 1000
const WAIT_MS = 20_000
const PAUSE_MS = 250
/** Copies take hours: a line that was gone for a while is no reason to look away. */
const AWAY_MS_MAX = 10 * 60_000

/**
 * Waits until all copies have ended, showing how each goes on; a server that is away meanwhile is waited for. `timeoutMs`: gives
 * up once so long nothing has gone on. Throws CommandFailure; the copies go on then.
 */
export async function watchCopies(
  session: Session,
  made: Copied,
  { timeoutMs = Number.POSITIVE_INFINITY }: { readonly timeoutMs?: number | undefined } = {},
): Promise<Watched> {
  const { io } = session
  const isBatch = made.copies.some(({ taskId }) => taskId !== made.taskId)
  const progress = createCopyProgress(io)
  const silence = createSilence(() => io.nowMs(), timeoutMs)
  const look = async (waitMs: number): Promise<Watched> => {
    const head = await findTask(session, made.taskId, waitMs)
    if (!isBatch) return { batch: null, tasks: [head] }
    const children = await listChildren(session, head)
    const tasks = made.copies.flatMap(({ taskId }) => children.find(({ id }) => id === taskId) ?? [])
    return { batch: head, tasks }
  }
  try {
    let waitMs = 0
    for (;;) {
      const awayMsMax = Math.min(AWAY_MS_MAX, silence.leftMs())
      const seen = await whileAway(
        io,
        () => look(waitMs),
        awayMsMax,
        ({ message }) => progress.note(`${message} Trying again.`),
      )
      progress.update(seen.tasks)
      if ((seen.batch ?? seen.tasks[0])?.endedAtMs !== null) return seen
      silence.hear(seen.tasks)
      if (silence.leftMs() === 0) throw stillMessage(made, timeoutMs)
      await io.sleep(PAUSE_MS)
      waitMs = Math.min(isBatch ? BATCH_WAIT_MS : WAIT_MS, silence.leftMs())
    }
  } finally {
    progress.end()
  }
}

function stillMessage({ taskId }: Copied, timeoutMs: number): CommandFailure {
  return new CommandFailure(
    EXIT.fault,
    `Gave up waiting: for ${formatDuration(timeoutMs)} nothing went on. The server still has it to do: calotype task show ${taskId}`,
  )
}

/** How long nothing has gone on: no byte, no step, no attempt, in any of the tasks. */
function createSilence(nowMs: () => number, timeoutMs: number) {
  let heard = ''
  let heardAtMs = nowMs()
  return {
    hear(tasks: readonly ShownTask[]): void {
      const now = tasks
        .map((one) => [one.state, one.step, one.doneBytes, one.movedBytes, one.attemptCount].join(' '))
        .join()
      if (now === heard) return
      heard = now
      heardAtMs = nowMs()
    },
    leftMs: () => Math.max(0, heardAtMs + timeoutMs - nowMs()),
  }
}

export function findTask(session: Session, id: string, waitMs = 0): Promise<ShownTask> {
  const query = waitMs === 0 ? {} : { waitMs: Math.ceil(waitMs) }
  return session.client.call<ShownTask>('GET', `/v1/tasks/${encodeURIComponent(id)}`, { query })
}

/** The copies of a batch, by their regions. */
export async function listChildren(session: Session, batch: ShownTask): Promise<readonly ShownTask[]> {
  const query = { project: batch.project, parentId: batch.id }
  const children = await session.listAll<ShownTask>('/v1/tasks', 'tasks', query)
  return children.toSorted((a, b) => (a.region < b.region ? -1 : a.region > b.region ? 1 : 0))
}
