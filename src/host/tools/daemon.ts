import { spawn } from 'node:child_process'
import { open, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { findText, isErrno } from './durable.ts'
import { endedBadly, failed, tookTooLong, toolMissing } from './run.ts'

export interface DaemonOptions {
  readonly doing: string
  readonly package: string
  /** Gets the program's standard error: a pipe would break, and end it, with our own process. */
  readonly errorPath: string
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Asked again and again until it answers true. */
  readonly isReady: () => Promise<boolean>
}

const POLL_MS = 10

/**
 * Starts a program in a session of its own, so that neither our end nor a Ctrl-C reaches it, and waits until it is
 * ready. If it ends before, or takes too long, or `signal` aborts, it is gone afterwards and the fault says why.
 */
export async function startDaemon(
  tool: string,
  args: readonly string[],
  options: DaemonOptions,
): Promise<void> {
  options.signal.throwIfAborted()
  await rm(options.errorPath, { force: true })
  const errors = await open(options.errorPath, 'a', 0o600)
  const child = spawn(tool, args, { detached: true, cwd: '/', stdio: ['ignore', 'ignore', errors.fd] })
  const ended = Promise.withResolvers<void>()
  let error: Error | undefined
  child.once('error', (reason) => {
    error = reason
    ended.resolve()
  })
  child.once('exit', () => ended.resolve())
  child.unref()
  await errors.close()

  const isOver = () => error !== undefined || child.exitCode !== null || child.signalCode !== null
  const end = performance.now() + options.timeoutMs
  try {
    while (!isOver()) {
      if (await options.isReady()) return
      if (performance.now() >= end)
        throw failed(
          options.doing,
          tookTooLong(tool, options.timeoutMs),
          (await findText(options.errorPath)) ?? '',
        )
      await sleep(POLL_MS, undefined, { signal: options.signal })
    }
  } catch (reason) {
    child.kill('SIGKILL')
    if (!isOver()) {
      child.ref()
      await ended.promise
    }
    throw options.signal.aborted ? options.signal.reason : reason
  }
  if (isErrno(error, 'ENOENT')) throw toolMissing(tool, options.package, error)
  const stderr = (await findText(options.errorPath)) ?? ''
  throw failed(options.doing, endedBadly(tool), stderr, error)
}
