import type { ShownTask } from '../wire/native/show.ts'
import type { Client } from './client.ts'
import { CommandFailure, EXIT, ServerRefusal } from './failure.ts'
import type { Io } from './io.ts'
import { createProgress } from './progress.ts'

const WAIT_MS = 20_000
/** Between two looks at one task that changes all the time. */
const PAUSE_MS = 200
/** How long a server may be away: long enough to be killed and started again. */
const AWAY_MS_MAX = 60_000

export interface WaitOptions {
  /** Gives up after so long, the tasks going on without us. */
  readonly timeoutMs?: number | undefined
}

/** The clock of one wait. Throws CommandFailure when its time is over. */
export function createDeadline(io: Io, options: WaitOptions, what: string) {
  const endMs = options.timeoutMs === undefined ? Number.POSITIVE_INFINITY : io.nowMs() + options.timeoutMs
  return {
    leftMs: () => Math.max(0, endMs - io.nowMs()),
    check(): void {
      if (io.nowMs() < endMs) return
      throw new CommandFailure(EXIT.fault, `Gave up waiting for ${what}. It goes on; ask again later.`)
    },
  }
}

/**
 * Runs a read again while the server is away or busy: a task outlives its server, so the wait for it does too. The
 * server's own refusals, except 'unavailable', end it. `onAway` is told of each failure that it goes on after.
 */
export async function whileAway<Answer>(
  io: Io,
  read: () => Promise<Answer>,
  awayMsMax = AWAY_MS_MAX,
  onAway: (error: CommandFailure) => void = () => {},
): Promise<Answer> {
  let awayFromMs: number | undefined
  for (;;) {
    try {
      return await read()
    } catch (error) {
      awayFromMs ??= io.nowMs()
      if (!isAway(error) || io.nowMs() - awayFromMs > awayMsMax) throw error
      onAway(error)
      await io.sleep(500)
    }
  }
}

function isAway(error: unknown): error is CommandFailure {
  if (error instanceof ServerRefusal) return error.kind === 'unavailable'
  return error instanceof CommandFailure && error.exitCode === EXIT.unreachable
}

/** Waits until every task has ended, showing how they go on. Returns them as they ended, in the given order. */
export async function waitForTasks(
  io: Io,
  client: Client,
  taskIds: readonly string[],
  options: WaitOptions = {},
): Promise<readonly ShownTask[]> {
  const ids = [...new Set(taskIds)]
  const latest = new Map<string, ShownTask>()
  const progress = createProgress(io)
  const show = () => {
    const known = ids.flatMap((id) => latest.get(id) ?? [])
    // A batch only sums up the copies that are shown themselves.
    const parts = known.filter((task) => task.kind !== 'copy-batch')
    progress.update(parts.length > 0 ? parts : known)
  }
  const deadline = createDeadline(io, options, ids.length === 1 ? `task ${ids[0]}` : `${ids.length} tasks`)
  const follow = async (id: string) => {
    let waitMs = 0
    for (;;) {
      const query = { waitMs: Math.min(waitMs, deadline.leftMs()) }
      const look = () => client.call<ShownTask>('GET', `/v1/tasks/${id}`, { query })
      // The first look answers at once, so that something is shown, and says at once if there is no server.
      const task = waitMs === 0 ? await look() : await whileAway(io, look)
      latest.set(id, task)
      show()
      if (task.endedAtMs !== null) return task
      deadline.check()
      if (waitMs > 0) await io.sleep(PAUSE_MS)
      waitMs = WAIT_MS
    }
  }
  try {
    const ended = await Promise.all(ids.map(follow))
    return taskIds.map((id) => ended[ids.indexOf(id)] as ShownTask)
  } finally {
    progress.end()
  }
}

/** Throws CommandFailure with the reason of the first task that did not end as done. */
export function requireDone(tasks: readonly ShownTask[]): void {
  // A batch fails because one of its copies did: the copy's reason says more.
  const lost = tasks.filter((task) => task.state !== 'done')
  const worst = lost.find((task) => task.kind !== 'copy-batch') ?? lost[0]
  if (worst === undefined) return
  const why = worst.reason === null ? `was ${worst.state}` : `failed: ${worst.reason}`
  throw new CommandFailure(EXIT.fault, `Task ${worst.id} (${worst.kind} in ${worst.region}) ${why}`)
}
