import { isPassing } from './http.ts'
import type { Io } from './io.ts'

/** One after the other, without anything coming through between them. With the pauses a server has time to start again. */
const TRIES_MAX = 10
const PAUSE_MS = 500
const PAUSE_MS_MAX = 15_000

/** How long one goes on trying. */
export interface Persistence {
  /** After a failure: waits, longer each time. Throws `error` itself unless it `passes`, and after the tenth in a row. */
  pause(error: unknown, passes?: boolean): Promise<void>
  /** Something came through: the count begins again. */
  reset(): void
}

export function createPersistence(io: Io, signal: AbortSignal): Persistence {
  let count = 0
  return {
    async pause(error, passes = isPassing(error)) {
      signal.throwIfAborted()
      count++
      if (!passes || count >= TRIES_MAX) throw error
      await io.sleep(Math.min(PAUSE_MS * 2 ** (count - 1), PAUSE_MS_MAX), signal)
      signal.throwIfAborted()
    },
    reset() {
      count = 0
    },
  }
}

/** Runs it until it succeeds, or fails for good. */
export async function persist<Answer>(
  io: Io,
  signal: AbortSignal,
  run: () => Promise<Answer>,
): Promise<Answer> {
  const persistence = createPersistence(io, signal)
  for (;;) {
    try {
      return await run()
    } catch (error) {
      await persistence.pause(error)
    }
  }
}
