import { parentPort, type Worker } from 'node:worker_threads'
import { Fault, type FaultKind, type FaultSubject, isFault } from '../../image/fault.ts'
import { niceWorker } from './priority.ts'

/** A fault as it crosses threads: classes do not survive the copy. */
export interface FaultText {
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

export function textOf(error: unknown): FaultText {
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

export function faultOf(text: FaultText): Error {
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

/** A thread that gets ready, or waits for what it is to do. */
export interface StartedThread {
  /** Once. As `runThread`. */
  run<Result>(data: unknown, options: RunOptions): Promise<Result>
  /** Ends a thread that was not run after all; nothing happens to one that was. */
  drop(): Promise<void>
}

interface RunOptions {
  readonly signal: AbortSignal
  readonly onNews?: (news: never) => void
}

type ToThread = { readonly is: 'work'; readonly data: unknown } | { readonly is: 'stop' }

/**
 * Runs `file` in a thread of its own, which calls `inThread`. Rejects with the thread's fault, or with the signal's
 * reason once the thread has ended: after this settles the thread touches nothing any more.
 */
export async function runThread<Result>(file: URL, data: unknown, options: RunOptions): Promise<Result> {
  options.signal.throwIfAborted()
  return startThread(file).run(data, options)
}

/** A thread takes a tenth of a second to load its code: this begins before it is known what there is to do. */
export function startThread(file: URL): StartedThread {
  const worker = niceWorker(file)
  const ended = new Promise<void>((resolve, reject) => {
    worker.on('error', reject)
    worker.on('exit', () => resolve())
  })
  // Whoever runs it hears of the failure; of one that nobody runs nobody has to.
  ended.catch(() => {})
  let isRun = false
  return {
    async run<Result>(data: unknown, options: RunOptions) {
      isRun = true
      return (await answerOf(worker, ended, data, options)) as Result
    },
    async drop() {
      if (!isRun) await worker.terminate()
    },
  }
}

async function answerOf(
  worker: Worker,
  ended: Promise<void>,
  data: unknown,
  { signal, onNews }: RunOptions,
): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined
  const post = (message: ToThread) => worker.postMessage(message)
  // What the thread left open must not keep it: it has answered, or it was told to stop.
  const endSoon = () => {
    timer ??= setTimeout(() => void worker.terminate(), STOP_MS)
  }
  const stop = () => {
    post({ is: 'stop' })
    endSoon()
  }
  let answer: FromThread | undefined
  worker.on('message', (message: FromThread) => {
    if (message.is === 'news') onNews?.(message.news as never)
    else {
      answer = message
      endSoon()
    }
  })
  signal.addEventListener('abort', stop, { once: true })
  try {
    signal.throwIfAborted()
    post({ is: 'work', data })
    await ended
  } catch (error) {
    await worker.terminate()
    throw error
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
  }
  signal.throwIfAborted()
  if (answer?.is === 'done') return answer.result
  if (answer?.is === 'failed') throw faultOf(answer.fault)
  throw new Error('the thread ended without an answer')
}

/** The other side of `runThread`: `work` gets what was given, a signal that fires when it is to stop, and `tell`. */
export function inThread<Data, Result>(
  work: (data: Data, options: { signal: AbortSignal; tell: (news: unknown) => void }) => Promise<Result>,
): void {
  const port = parentPort
  if (port === null) throw new Error('this file is the entry of a thread')
  const abort = new AbortController()
  const post = (message: FromThread) => port.postMessage(message)
  port.on('message', (message: ToThread) => {
    if (message.is === 'stop') {
      abort.abort(new Error('the thread was told to stop'))
      return
    }
    work(message.data as Data, { signal: abort.signal, tell: (news) => post({ is: 'news', news }) })
      .then(
        (result) => post({ is: 'done', result }),
        (error: unknown) => post({ is: 'failed', fault: textOf(error) }),
      )
      .finally(() => port.close())
  })
}
