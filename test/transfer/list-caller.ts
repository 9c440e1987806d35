import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { HOME } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'

const CHILD = join(import.meta.dirname, 'list-caller-child.ts')

/** What the caller's process is told once. The secret goes no other way: everybody sees a process's arguments. */
export interface CallerOrder {
  readonly endpoint: string
  readonly keyId: string
  readonly secret: string
  readonly path: string
}

export interface CallerNews {
  readonly tookMs: number
}

/** Somebody who lists images, one call after the other, for as long as the test lasts. */
export interface Caller {
  /** Milliseconds of each call that ended from now until `isOver` says so of how many these are; rising. */
  timed(isOver: (count: number) => boolean): Promise<number[]>
  /** Before the server stops. May be called again. */
  close(): Promise<void>
}

/** In a process of its own: what the test itself does meanwhile delays none of its calls. */
export async function newListCaller(t: TestContext, { server }: Place): Promise<Caller> {
  const child = fork(CHILD, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const gone = once(child, 'exit')
  const close = async () => {
    child.kill('SIGKILL')
    await gone
  }
  t.after(close)
  const { accessKeyId: keyId, accessKeySecret: secret } = server.key
  const order: CallerOrder = {
    ...{ endpoint: server.endpoint.href, keyId, secret },
    path: `/v1/images?region=${HOME}`,
  }
  child.send(order)
  return {
    close,
    timed(isOver) {
      const took: number[] = []
      return new Promise((resolve, reject) => {
        const onNews = ({ tookMs }: CallerNews) => {
          took.push(tookMs)
          if (!isOver(took.length)) return
          child.off('message', onNews)
          child.off('exit', onExit)
          resolve(took.sort((a, b) => a - b))
        }
        const onExit = () => reject(new Error('who lists images has ended, as it says above'))
        child.on('message', onNews)
        child.on('exit', onExit)
      })
    },
  }
}
