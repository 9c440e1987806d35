import { Worker } from 'node:worker_threads'
import { Fault } from '../../image/fault.ts'
import type { PeerEndpointParts } from '../../peers/contract.ts'
import type { FromPeerThread, PeerThreadData, ToPeerThread } from './peer-thread.ts'
import { textOf } from './thread.ts'

export interface PeerEndpoint {
  readonly url: string
  close(): Promise<void>
}

type Answers = Pick<PeerEndpointParts, 'image' | 'mayRead'>
type Log = (record: Record<string, unknown>) => void

interface Served {
  readonly worker: Worker
  readonly ready: Promise<string>
  readonly ended: Promise<void>
}

/** After one that ended, and between tries. */
const AGAIN_MS = 1000

const entry = new URL('./peer-thread.ts', import.meta.url)

/**
 * Serves peers in a thread of its own, so that what they read takes nothing from those who answer requests. Rejects where
 * it cannot listen. A thread that ends later is started again at the same address until that succeeds; `log` is told.
 */
export async function startPeerEndpoint(
  data: PeerThreadData,
  answers: Answers,
  log: Log,
  options: { readonly entry?: URL; readonly againMs?: number } = {},
): Promise<PeerEndpoint> {
  const { againMs = AGAIN_MS } = options
  const serve = (place: PeerThreadData) => startServing(options.entry ?? entry, place, answers, log)
  const { host, port } = data.listen
  let served = serve(data)
  const url = await served.ready.catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause)
    const message = `The setting peering.listen takes an address that is free here; ${host}:${port} is not (${why}).`
    throw new Fault('invalid', message, { field: 'peering.listen', cause })
  })
  // The peers' settings name the port.
  const same = { ...data, listen: { host, port: Number(new URL(url).port) } }
  let closing = false
  let again: NodeJS.Timeout | undefined
  const watch = () => {
    void served.ended.then(() => {
      if (closing) return
      log({ level: 'error', message: 'the endpoint for peers ended; it is started again', againMs })
      again = setTimeout(() => {
        served = serve(same)
        served.ready.then(
          () => log({ level: 'info', message: 'the endpoint for peers is up again', url }),
          (error: unknown) =>
            log({ level: 'warn', message: 'the endpoint for peers cannot be started again yet', error }),
        )
        watch()
      }, againMs).unref()
    })
  }
  watch()
  return {
    url,
    async close() {
      closing = true
      clearTimeout(again)
      served.worker.postMessage({ is: 'stop' } satisfies ToPeerThread)
      await served.ended
    },
  }
}

function startServing(entry: URL, data: PeerThreadData, answers: Answers, log: Log): Served {
  const worker = new Worker(entry, { workerData: data })
  const post = (message: ToPeerThread) => worker.postMessage(message)
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  const ready = Promise.withResolvers<string>()
  ready.promise.catch(() => {})
  worker.on('message', (message: FromPeerThread) => {
    if (message.is === 'ready') return ready.resolve(message.url)
    if (message.is === 'report') {
      return log({ level: 'warn', message: 'a peer was not answered', error: message.error })
    }
    const { number, what, words } = message
    const answer = answers[what] as (...words: unknown[]) => Promise<unknown>
    answer(...words).then(
      (result) => post({ is: 'answer', number, result }),
      (error: unknown) => post({ is: 'refusal', number, fault: textOf(error) }),
    )
  })
  worker.on('error', (error) => {
    log({ level: 'error', message: 'the thread of the endpoint for peers failed', error })
    ready.reject(error)
  })
  worker.once('exit', () => {
    ready.reject(new Fault('unavailable', 'The endpoint for peers ended at its start.', { subject: 'peer' }))
  })
  return { worker, ready: ready.promise, ended }
}
