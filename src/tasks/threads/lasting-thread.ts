import { parentPort, type Worker } from 'node:worker_threads'
import { niceWorker } from './priority.ts'
import { type FaultText, faultOf, textOf } from './thread.ts'

type ToThread = { readonly is: 'work'; readonly data: unknown } | { readonly is: 'stop' }

type FromThread =
  | { readonly is: 'news'; readonly news: unknown }
  | { readonly is: 'done'; readonly result: unknown }
  | { readonly is: 'failed'; readonly fault: FaultText }

interface RunOptions {
  readonly signal: AbortSignal
  readonly onNews?: (news: never) => void
}

interface Running {
  readonly answer: PromiseWithResolvers<unknown>
  readonly onNews: RunOptions['onNews']
}

/** A thread that was told to stop has so long. */
const STOP_MS = 15_000

/**
 * A thread that does one work after the other, so that the next finds its code loaded. Its file calls `inLastingThread`. It
 * keeps no process alive while it has nothing to do.
 */
export class LastingThread {
  readonly #worker: Worker
  readonly #ended: Promise<void>
  #running: Running | undefined
  #failure: Error | undefined

  constructor(file: URL) {
    this.#worker = niceWorker(file)
    this.#worker.unref()
    this.#worker.on('message', (message: FromThread) => this.#take(message))
    this.#ended = new Promise((resolve) => {
      this.#worker.on('error', (cause) => this.#fail(cause as Error))
      this.#worker.on('exit', () => {
        this.#fail(new Error('the thread ended without an answer'))
        resolve()
      })
    })
  }

  /** True once it will do nothing any more. */
  get isOver(): boolean {
    return this.#failure !== undefined
  }

  /**
   * One at a time. Rejects with the thread's fault, or with the signal's reason once the thread has let go of its work: after
   * this settles the thread touches nothing of it any more.
   */
  async run<Result>(data: unknown, { signal, onNews }: RunOptions): Promise<Result> {
    signal.throwIfAborted()
    if (this.#failure !== undefined) throw this.#failure
    if (this.#running !== undefined) throw new Error('the thread has work to do')
    const answer = Promise.withResolvers<unknown>()
    const post = (message: ToThread) => this.#worker.postMessage(message)
    let timer: NodeJS.Timeout | undefined
    const stop = () => {
      post({ is: 'stop' })
      timer = setTimeout(() => void this.close(), STOP_MS)
    }
    this.#running = { answer, onNews }
    this.#worker.ref()
    signal.addEventListener('abort', stop, { once: true })
    try {
      post({ is: 'work', data })
      const result = await answer.promise
      signal.throwIfAborted()
      return result as Result
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      this.#running = undefined
      this.#worker.unref()
    }
  }

  /** Ends it, in the middle of whatever it does. May be called twice. */
  async close(): Promise<void> {
    await this.#worker.terminate()
    await this.#ended
  }

  #take(message: FromThread): void {
    if (message.is === 'news') this.#running?.onNews?.(message.news as never)
    else if (message.is === 'done') this.#running?.answer.resolve(message.result)
    else this.#running?.answer.reject(faultOf(message.fault))
  }

  #fail(cause: Error): void {
    this.#failure ??= cause
    this.#running?.answer.reject(this.#failure)
  }
}

/** The other side: `work` gets what was given, a signal that fires when it is to stop, and `tell`. */
export function inLastingThread<Data, Result>(
  work: (
    data: Data,
    options: { readonly signal: AbortSignal; readonly tell: (news: unknown) => void },
  ) => Promise<Result>,
): void {
  const port = parentPort
  if (port === null) throw new Error('this file is the entry of a thread')
  const post = (message: FromThread) => port.postMessage(message)
  let abort = new AbortController()
  port.on('message', (message: ToThread) => {
    if (message.is === 'stop') {
      abort.abort(new Error('the thread was told to stop'))
      return
    }
    abort = new AbortController()
    work(message.data as Data, { signal: abort.signal, tell: (news) => post({ is: 'news', news }) }).then(
      (result) => post({ is: 'done', result }),
      (error: unknown) => post({ is: 'failed', fault: textOf(error) }),
    )
  })
}
