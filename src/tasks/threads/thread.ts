import { parentPort, Worker, workerData } from 'node:worker_threads'
import { Fault, type FaultKind, type FaultSubject, isFault } from '../../image/fault.ts'

/** A fault as it crosses threads: classes do not survive the copy. */
interface FaultText {
  readonly kind: FaultKind | 'bug'
  readonly message: string
  readonly subject: FaultSubject
  readonly field: string | undefined
  readonly reason: string | undefined
  readonly stack: string | undefined
}

type FromThread =
  | { readonly is: 'news'; readonly news: unknown }
  | { readonly is: 'done'; readonly result: unknown }
  | { readonly is: 'failed'; readonly fault: FaultText }

const STOP_MS = 15_000

function textOf(error: unknown): FaultText {
  const fault = isFault(error) ? error : undefined
  return {
    kind: fault?.kind ?? 'bug',
    message: error instanceof Error ? error.message : String(error),
    subject: fault?.subject ?? 'request',
    field: fault?.field,
    reason: fault?.reason,
    stack: error instanceof Error ? error.stack : undefined,
  }
}

function faultOf(text: FaultText): Error {
  if (text.kind === 'bug') {
    const bug = new Error(text.message)
    if (text.stack !== undefined) bug.stack = text.stack
    return bug
  }
  return new Fault(text.kind, text.message, {
    subject: text.subject,
    ...(text.field === undefined ? {} : { field: text.field }),
    ...(text.reason === undefined ? {} : { reason: text.reason }),
  })
}

/**
 * Runs `file` in a thread of its own, which calls `inThread`. Rejects with the thread's fault, or with the signal's
 * reason once the thread has ended: after this settles the thread touches nothing any more.
 */
export async function runThread<Result>(
  file: URL,
  data: unknown,
  options: { readonly signal: AbortSignal; readonly onNews?: (news: never) => void },
): Promise<Result> {
  const { signal, onNews } = options
  signal.throwIfAborted()
  const worker = new Worker(file, { workerData: data })
  let timer: NodeJS.Timeout | undefined
  // What the thread left open must not keep it: it has answered, or it was told to stop.
  const endSoon = () => {
    timer ??= setTimeout(() => void worker.terminate(), STOP_MS)
  }
  const stop = () => {
    worker.postMessage('stop')
    endSoon()
  }
  signal.addEventListener('abort', stop, { once: true })
  let answer: FromThread | undefined
  try {
    await new Promise<void>((resolve, reject) => {
      worker.on('message', (message: FromThread) => {
        if (message.is === 'news') onNews?.(message.news as never)
        else {
          answer = message
          endSoon()
        }
      })
      worker.on('error', reject)
      worker.on('exit', () => resolve())
    })
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
  }
  signal.throwIfAborted()
  if (answer?.is === 'done') return answer.result as Result
  if (answer?.is === 'failed') throw faultOf(answer.fault)
  throw new Error(`the thread of ${file.pathname} ended without an answer`)
}

/** The other side of `runThread`: `work` gets what was given, a signal that fires when it is to stop, and `tell`. */
export function inThread<Data, Result>(
  work: (data: Data, options: { signal: AbortSignal; tell: (news: unknown) => void }) => Promise<Result>,
): void {
  const port = parentPort
  if (port === null) throw new Error('this file is the entry of a thread')
  const abort = new AbortController()
  port.on('message', () => abort.abort(new Error('the thread was told to stop')))
  const post = (message: FromThread) => port.postMessage(message)
  work(workerData as Data, { signal: abort.signal, tell: (news) => post({ is: 'news', news }) })
    .then(
      (result) => post({ is: 'done', result }),
      (error: unknown) => post({ is: 'failed', fault: textOf(error) }),
    )
    .finally(() => port.close())
}
