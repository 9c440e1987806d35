import type { CopyAsk } from './copy-thread.ts'
import { LastingThread } from './lasting-thread.ts'

interface RunOptions {
  readonly signal: AbortSignal
  readonly onNews?: (news: never) => void
}

/** A copy begins within milliseconds of its plan, or has been refused. */
const KEPT_MS = 10_000
/** As many copies as usually begin at once. */
const KEPT_MAX = 4

/**
 * Threads for copies. One that has made a plan is kept for a while for a pull, whichever comes first: loading its code takes as
 * long as a small copy. Nothing else is kept: each work opens its stores, and closes them.
 */
export class CopyThreads {
  readonly #file: URL
  readonly #kept: { readonly thread: LastingThread; readonly timer: NodeJS.Timeout }[] = []
  readonly #ending = new Set<Promise<void>>()
  #isClosed = false

  /** For tests: another file than that of copies. */
  constructor(file = new URL('./copy-thread.ts', import.meta.url)) {
    this.#file = file
  }

  /** `isPullNext`: a pull of the same image is likely to come. */
  async plan<Result>(ask: CopyAsk, isPullNext: boolean, options: RunOptions): Promise<Result> {
    options.signal.throwIfAborted()
    const thread = this.#take()
    let isKept = false
    try {
      const result = await thread.run<Result>(ask, options)
      isKept = isPullNext
      return result
    } finally {
      if (isKept) this.#keep(thread)
      else this.#end(thread)
    }
  }

  async pull<Result>(ask: CopyAsk, options: RunOptions): Promise<Result> {
    options.signal.throwIfAborted()
    const thread = this.#take()
    try {
      return await thread.run<Result>(ask, options)
    } finally {
      // What it had of memory goes with it.
      this.#end(thread)
    }
  }

  /** Ends those that are kept. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const { thread, timer } of this.#kept.splice(0)) {
      clearTimeout(timer)
      this.#end(thread)
    }
    await Promise.all(this.#ending)
  }

  #take(): LastingThread {
    for (let last = this.#kept.pop(); last !== undefined; last = this.#kept.pop()) {
      clearTimeout(last.timer)
      if (!last.thread.isOver) return last.thread
    }
    return new LastingThread(this.#file)
  }

  #keep(thread: LastingThread): void {
    if (this.#isClosed || this.#kept.length === KEPT_MAX) {
      this.#end(thread)
      return
    }
    const drop = () => {
      const position = this.#kept.findIndex((one) => one.thread === thread)
      if (position >= 0) this.#kept.splice(position, 1)
      this.#end(thread)
    }
    this.#kept.push({ thread, timer: setTimeout(drop, KEPT_MS).unref() })
  }

  #end(thread: LastingThread): void {
    const ending = thread.close().finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }
}
