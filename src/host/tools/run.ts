import { execFile } from 'node:child_process'
import { Fault } from '../../image/fault.ts'

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
    else if (error.killed) reject(failed(options.doing, `${tool} took over ${timeoutMs} ms.`, stderr, error))
    else reject(failed(options.doing, usefulLine(stderr) ?? `${tool} ended with an error.`, stderr, error))
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

/** The fault behind a tool's last words. A disk that is full is told apart, because the caller can make room. */
export function failed(doing: string, line: string, stderr: string, cause?: unknown): Fault {
  const kind = /No space left on device|Disk quota exceeded/i.test(stderr) ? 'full' : 'unavailable'
  return new Fault(kind, `${doing} failed: ${line}`, {
    subject: 'host',
    cause: new Error(stderr.trim() || line, { cause }),
  })
}

/** The first line that is no warning, without the program's own name in front. */
export function usefulLine(stderr: string): string | undefined {
  const lines = stderr.split('\n').map((line) => line.trim())
  const line = lines.find((text) => text !== '' && !/\bwarning:/i.test(text)) ?? lines.find((text) => text)
  return line?.replace(/^[\w./-]*qemu[\w.-]*: /, '').slice(0, 300)
}
