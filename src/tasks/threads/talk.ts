import { parentPort, type Transferable, type Worker } from 'node:worker_threads'
import { Fault } from '../../image/fault.ts'
import { niceWorker } from './priority.ts'
import { type FaultText, faultOf, textOf } from './thread.ts'

interface Question {
  readonly number: number
  readonly ask: object
}

type Answer =
  | { readonly number: number; readonly is: 'done'; readonly result: unknown }
  | { readonly number: number; readonly is: 'failed'; readonly fault: FaultText }

/** A thread that answers questions, many at once, for as long as it is wanted. Its file calls `answer`. */
export class TalkingThread {
  readonly #worker: Worker
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>()
  readonly #ended: Promise<void>
  #number = 0
  #failure: Error | undefined

  constructor(file: URL) {
    this.#worker = niceWorker(file)
    this.#worker.on('message', (answer: Answer) => {
      const waiting = this.#open.get(answer.number)
      this.#open.delete(answer.number)
      if (answer.is === 'done') waiting?.resolve(answer.result)
      else waiting?.reject(faultOf(answer.fault))
    })
    this.#ended = new Promise((resolve) => {
      this.#worker.on('error', (cause) => this.#fail(cause as Error))
      this.#worker.on('exit', () => {
        this.#fail(new Error('the thread has ended'))
        resolve()
      })
    })
  }

  /** True once it will answer nothing any more. */
  get isOver(): boolean {
    return this.#failure !== undefined
  }

  /** Rejects with the thread's fault; 'unavailable' where the thread ended instead of answering. */
  ask<Result>(ask: object, transfer: readonly Transferable[] = []): Promise<Result> {
    if (this.#failure !== undefined) return Promise.reject(gone(this.#failure))
    const number = this.#number++
    const waiting = Promise.withResolvers<unknown>()
    this.#open.set(number, waiting)
    const question: Question = { number, ask }
    this.#worker.postMessage(question, transfer)
    return waiting.promise as Promise<Result>
  }

  /** Ends it in the middle of whatever it does. May be called twice. */
  async close(): Promise<void> {
    await this.#worker.terminate()
    await this.#ended
  }

  #fail(cause: Error): void {
    this.#failure ??= cause
    for (const { reject } of this.#open.values()) reject(gone(this.#failure))
    this.#open.clear()
  }
}

function gone(cause: Error): Fault {
  return new Fault('unavailable', 'The work on a file was broken off. Try again.', {
    subject: 'store',
    cause,
  })
}

/**
 * The other side: `reply` is called for each question, without waiting for the ones before. What `transferOf` names of
 * a result is handed over rather than copied.
 */
export function answer<Ask>(
  reply: (ask: Ask) => Promise<unknown>,
  transferOf: (result: unknown) => readonly Transferable[] = () => [],
): void {
  const port = parentPort
  if (port === null) throw new Error('this file is the entry of a thread')
  port.on('message', ({ number, ask }: Question) => {
    const post = (message: Answer) => port.postMessage(message)
    // In a promise from the start: what is thrown at once is an answer as well.
    Promise.resolve()
      .then(() => reply(ask as Ask))
      .then(
        (result) =>
          port.postMessage({ number, is: 'done', result } satisfies Answer, [...transferOf(result)]),
        (error: unknown) => post({ number, is: 'failed', fault: textOf(error) }),
      )
  })
}
