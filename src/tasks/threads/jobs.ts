import { Worker } from 'node:worker_threads'
import { Fault } from '../../image/fault.ts'
import type { RegionId } from '../../image/ids.ts'
import { openDirectoryObjects } from '../../objects/directory.ts'
import type { RegionStore } from '../../store/region.ts'
import type { MovedBytes, OnBytes, StoreJobs, VerifyReport, WrittenImage } from '../store-jobs.ts'
import type { PullData } from './pull-thread.ts'
import { openRegion, type RegionPlace } from './region.ts'
import type { ServeData } from './serve-thread.ts'
import { runThread } from './thread.ts'
import type { VerifyData } from './verify-thread.ts'
import type { WriteData } from './write-thread.ts'

export interface JobsOptions {
  readonly places: readonly RegionPlace[]
  readonly threadCount: number
  readonly nbdSocketPath: string
  readonly log: (record: Record<string, unknown>) => void
}

const entry = (name: string) => new URL(`./${name}-thread.ts`, import.meta.url)
const SERVE_AGAIN_MS = 500

/** The jobs in worker threads, over region stores in folders of this machine. */
export function createJobs(options: JobsOptions): StoreJobs {
  const { places, log } = options
  const stores = new Map<RegionId, Promise<RegionStore>>()
  let serving: { worker: Worker; ready: Promise<void> } | undefined
  let closing = false

  const placeOf = (regionId: RegionId): RegionPlace => {
    const place = places.find((each) => each.regionId === regionId)
    if (place === undefined) {
      throw new Fault('absent', `Region ${regionId} is no longer in the settings.`, { subject: 'region' })
    }
    return place
  }
  /** This thread's own view, for small questions: what takes time is asked of a thread. */
  const storeOf = (regionId: RegionId): Promise<RegionStore> => {
    let store = stores.get(regionId)
    if (store === undefined) {
      store = openRegion(placeOf(regionId))
      stores.set(regionId, store)
      store.catch(() => stores.delete(regionId))
    }
    return store
  }

  function startServing(): { worker: Worker; ready: Promise<void> } {
    const data: ServeData = { places, socketPath: options.nbdSocketPath }
    const worker = new Worker(entry('serve'), { workerData: data })
    const ready = new Promise<void>((resolve, reject) => {
      worker.on('message', (message: { is: string; message?: string }) => {
        if (message.is === 'ready') resolve()
        else log({ level: 'warn', message: 'image export', error: message.message })
      })
      worker.on('error', (error) => {
        log({ level: 'error', message: 'the image exports ended', error })
        reject(error)
      })
      worker.on('exit', () => {
        if (serving?.worker === worker) serving = undefined
        reject(
          new Fault('unavailable', 'The image exports ended. They are started again.', { subject: 'store' }),
        )
        // Guests wait for their disks: nobody has to ask for this.
        if (!closing) setTimeout(() => void serve().catch(() => {}), SERVE_AGAIN_MS).unref()
      })
    })
    ready.catch(() => {})
    return { worker, ready }
  }
  function serve(): Promise<void> {
    if (closing)
      return Promise.reject(new Fault('unavailable', 'The server is stopping.', { subject: 'store' }))
    serving ??= startServing()
    return serving.ready
  }

  return {
    async prepare() {
      for (const { objectsFolder } of places)
        await openDirectoryObjects({ folder: objectsFolder, clean: true })
    },
    serve,
    async diskSizes(regionId, digest) {
      const image = await (await storeOf(regionId)).getImage(digest)
      return image.disks.map((disk) => disk.sizeBytes)
    },
    write(job, onBytes: OnBytes, signal) {
      const data: WriteData = { job, place: placeOf(job.regionId), threadCount: options.threadCount }
      return runThread<WrittenImage>(entry('write'), data, { signal, onNews: onBytes })
    },
    pull(job, onBytes, signal) {
      const data: PullData = {
        job,
        source: placeOf(job.sourceRegionId),
        target: placeOf(job.targetRegionId),
      }
      return runThread<MovedBytes>(entry('pull'), data, { signal, onNews: onBytes })
    },
    verify(regionId, deep, onBytes, signal) {
      const data: VerifyData = { place: placeOf(regionId), deep }
      return runThread<VerifyReport>(entry('verify'), data, { signal, onNews: onBytes })
    },
    async abort(regionId, sessionId) {
      await (await storeOf(regionId)).abortSession(sessionId)
    },
    async close() {
      closing = true
      const worker = serving?.worker
      if (worker !== undefined) {
        const ended = new Promise((resolve) => worker.once('exit', resolve))
        worker.postMessage('stop')
        await ended
      }
      for (const store of stores.values()) (await store).close()
    },
  }
}
