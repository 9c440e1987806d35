import { setTimeout as delay } from 'node:timers/promises'
import { threadId } from 'node:worker_threads'
import { Fault } from '../../image/fault.ts'
import { inLastingThread } from './lasting-thread.ts'

export interface EchoAsk {
  readonly say?: string
  readonly fail?: string
  readonly wait?: true
  readonly exit?: true
}

/** A thread for tests: does what it is told, and says which one it is. */
inLastingThread(async ({ say, fail, wait, exit }: EchoAsk, { signal, tell }) => {
  if (say !== undefined) tell(say)
  if (fail !== undefined) throw new Fault('full', fail, { subject: 'store' })
  if (wait === true) await delay(600_000, undefined, { signal })
  if (exit === true) process.exit(0)
  return threadId
})
