import { Fault } from '../image/fault.ts'

/** A failure of the other side, or of the way to it: trying again may help. */
export function failed(message: string, options: ErrorOptions = {}): Fault {
  return new Fault('unavailable', message, { ...options, subject: 'file' })
}

/** For the log: a code of the system alone, for messages of errors hold addresses and bytes of answers. */
export function causeOf(error: unknown): Error {
  const code = (error as { code?: unknown } | null)?.code
  const isCode = typeof code === 'string' && /^[A-Z][A-Z0-9_]{0,63}$/.test(code)
  return new Error(isCode ? code : error instanceof Error ? error.name : 'unknown')
}

/**
 * What `work` answers, or the reason of `signal`, or after `ms` what `late` makes. Whoever loses is not stopped: that
 * is the caller's task.
 */
export async function within<Result>(
  ms: number,
  signal: AbortSignal,
  late: () => Error,
  work: Promise<Result>,
): Promise<Result> {
  // Without this a work that loses and then fails would end the process.
  work.catch(() => {})
  signal.throwIfAborted()
  let give: (() => void) | undefined
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(late()), ms)
        give = () => reject(signal.reason)
        signal.addEventListener('abort', give, { once: true })
      }),
    ])
  } finally {
    clearTimeout(timer)
    if (give !== undefined) signal.removeEventListener('abort', give)
  }
}
