import { CommandFailure, EXIT } from './failure.ts'
import type { Io } from './io.ts'

/** Runs work that Ctrl-C ends in good order, with `describe` as the last word: where it stopped, and how to go on. */
export async function interruptible<Answer>(
  io: Io,
  describe: () => string,
  run: (signal: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  const pressed = new AbortController()
  const unlisten = io.onInterrupt(() => pressed.abort(new CommandFailure(EXIT.interrupted, describe())))
  try {
    return await run(pressed.signal)
  } finally {
    unlisten()
  }
}

/** Of work that knows nothing of the signal: it goes on, and nobody waits for it. */
export function abortable<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  // However it ends then, nobody is there to hear of it.
  work.catch(() => {})
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
