import { execFile } from 'node:child_process'
import { Fault } from '../../image/fault.ts'
import { MAKE_ROOM } from './durable.ts'

export interface RunOptions {
  /** What is being done, as the start of a sentence: 'Making the disk'. */
  readonly doing: string
  /** The Debian package that holds the tool. */
  readonly package: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  /** Only 0 unless said otherwise. */
  readonly goodExitCodes?: readonly number[]
}

/**
 * Runs a program without a shell and answers its standard output. Faults: 'full' when the disk is, 'unavailable' for
 * everything else, also for a tool that is not installed. All of standard error is kept in the cause.
 */
export function runTool(tool: string, args: readonly string[], options: RunOptions): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const { signal, timeoutMs } = options
  const limits = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 1 << 20 } as const
  execFile(tool, args, { ...limits, ...(signal && { signal }) }, (error, stdout, stderr) => {
    if (error === null || isGood(error.code, options.goodExitCodes)) resolve(stdout)
    else if (signal?.aborted) reject(signal.reason)
    else if (error.code === 'ENOENT') reject(toolMissing(tool, options.package, error))
    else if (error.killed) reject(failed(options.doing, tookTooLong(tool, timeoutMs), stderr, error))
    else reject(failed(options.doing, endedBadly(tool), stderr, error))
  })
  return promise
}

function isGood(code: unknown, good: readonly number[] = []): boolean {
  return typeof code === 'number' && good.includes(code)
}

/** The reason of the fault when a program is not installed, for those who can do without it. */
export const TOOL_MISSING = 'tool-missing'

export function toolMissing(tool: string, packageName: string, cause?: unknown): Fault {
  return new Fault('unavailable', `'${tool}' is not installed. Install the package '${packageName}'.`, {
    subject: 'host',
    reason: TOOL_MISSING,
    cause,
  })
}

export function tookTooLong(tool: string, timeoutMs: number): string {
  return `'${tool}' took over ${timeoutMs} ms. Try again when the host is less busy.`
}

export function endedBadly(tool: string): string {
  return `'${tool}' ended with an error. The service's log has its words; look there, then try again.`
}

/**
 * The fault behind a tool's last words, which go to the cause alone, because they name paths of the host. A disk that
 * is full is told apart, because the caller can make room.
 */
export function failed(doing: string, why: string, stderr: string, cause?: unknown): Fault {
  const isFull = /No space left on device|Disk quota exceeded/i.test(stderr)
  return new Fault(isFull ? 'full' : 'unavailable', `${doing} failed: ${isFull ? MAKE_ROOM : why}`, {
    subject: 'host',
    cause: new Error(stderr.trim() || why, { cause }),
  })
}
