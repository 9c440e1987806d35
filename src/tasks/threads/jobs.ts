import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Fault, isFault } from '../../image/fault.ts'
import type { RegionId } from '../../image/ids.ts'
import { openObjects } from '../../objects/open.ts'
import type { PeerPlace } from '../../peers/contract.ts'
import { blobDataBytes, commitBlob } from '../../store/blob.ts'
import { reportDomainOf } from '../../store/bundle/foreign.ts'
import { composeImage } from '../../store/compose.ts'
import type { GcReport } from '../../store/gc.ts'
import type { RebuildReport } from '../../store/rebuild.ts'
import type { RegionStore } from '../../store/region.ts'
import type { RepairReport } from '../../store/repair.ts'
import type { ScrubReport } from '../../store/scrub.ts'
import type { RegionUsage } from '../../store/usage.ts'
import { createGate } from '../gates.ts'
import type {
  CapturePlan,
  FilePlace,
  OnBytes,
  RegionSurvey,
  StoreJobs,
  VerifyReport,
  WrittenImage,
} from '../store-jobs.ts'
import { Blobs } from './blobs.ts'
import { bundleStream, pagesOf, pullBundle, readBundle } from './bundle-jobs.ts'
import type { ChecksumData } from './checksum-thread.ts'
import { CopyJobs } from './copy-jobs.ts'
import { endBegun } from './end-begun.ts'
import { Exports } from './export.ts'
import { openFile } from './files.ts'
import type { CollectData } from './gc-thread.ts'
import { planDisks } from './plan-disks.ts'
import type { PlanData } from './plan-thread.ts'
import type { RebuildData } from './rebuild-thread.ts'
import { openRegion, type RegionPlace } from './region.ts'
import type { RepairData } from './repair-thread.ts'
import { readReport } from './report.ts'
import type { RestoreData } from './restore-thread.ts'
import type { ScrubData } from './scrub-thread.ts'
import type { ServeData } from './serve-thread.ts'
import type { SurveyData } from './survey-thread.ts'
import { runThread } from './thread.ts'
import { unpackFile } from './unpack.ts'
import type { UsageData } from './usage-thread.ts'
import type { VerifyData } from './verify-thread.ts'
import type { WriteData } from './write-thread.ts'

export interface JobsOptions {
  readonly places: readonly RegionPlace[]
  readonly threadCount: number
  readonly nbdSocketPath: string
  /** 32 secret bytes of the installation, for making and reading bundles. */
  readonly bundleSeed: Uint8Array
  readonly log: (record: Record<string, unknown>) => void
  /** Other installations that images may be copied from. */
  readonly peers?: readonly PeerPlace[]
  /** For what copies of one image to several targets read of its source (`PackCache`); of this server alone. Without, nothing. */
  readonly cacheFolder?: string
  readonly cacheBytesMax?: number
}

const entry = (name: string) => new URL(`./${name}-thread.ts`, import.meta.url)
const SERVE_AGAIN_MS = 500

/** The jobs in worker threads, over region stores in folders of this machine. */
export function createJobs(options: JobsOptions): StoreJobs {
  const { places, log } = options
  const stores = new Map<RegionId, Promise<RegionStore>>()
  let serving: { worker: Worker; ready: Promise<void> } | undefined
  const repairs = new Map<RegionId, Promise<unknown>>()
  const usages = new Map<RegionId, Promise<RegionUsage>>()
  const closed = new AbortController()
  const damageListeners: ((regionId: RegionId) => void)[] = []
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

  const copies = new CopyJobs({ ...options, placeOf })
  const bundles = { placeOf, seed: options.bundleSeed }
  // A thread's start takes a core for a tenth of a second, and whoever answers requests needs one too.
  const inspections = createGate(2)
  const blobs = new Blobs()
  const exports = new Exports({ threadCount: options.threadCount })
  const regionOf = (place: FilePlace) => (place.is === 'blob' ? placeOf(place.regionId) : undefined)

  const tellDamage = (regionId: RegionId) => {
    for (const listener of damageListeners) listener(regionId)
  }

  function startServing(): { worker: Worker; ready: Promise<void> } {
    const data: ServeData = { places, socketPath: options.nbdSocketPath }
    const worker = new Worker(entry('serve'), { workerData: data })
    const ready = new Promise<void>((resolve, reject) => {
      worker.on('message', (message: { is: string; message?: string; regionId?: RegionId }) => {
        if (message.is === 'ready') resolve()
        else if (message.is === 'damage' && message.regionId !== undefined) tellDamage(message.regionId)
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
      const prepareRegion = async ({ regionId, objects }: RegionPlace) => {
        try {
          await openObjects(objects, { clean: true })
          await endBegun(await storeOf(regionId))
        } catch (error) {
          // An object store that is away keeps nobody from the other regions, nor from machines that run.
          if (!isFault(error, 'unavailable')) throw error
          log({ level: 'error', message: 'a region cannot be used now', region: regionId, error })
        }
      }
      await Promise.all([...places.map(prepareRegion), copies.prepare()])
    },
    serve,
    async diskSizes(regionId, digest) {
      const image = await (await storeOf(regionId)).getImage(digest)
      return image.disks.map((disk) => disk.sizeBytes)
    },
    async domainOf(regionId, digest) {
      return (await (await storeOf(regionId)).getImage(digest)).domain
    },
    async report(regionId, digest) {
      const store = await storeOf(regionId)
      const image = await store.getImage(digest)
      return readReport(image, await reportDomainOf(store, image))
    },
    write(job, onBytes: OnBytes, signal) {
      const data: WriteData = { job, place: placeOf(job.regionId), threadCount: options.threadCount }
      return runThread<readonly WrittenImage[]>(entry('write'), data, { signal, onNews: onBytes })
    },
    async compose(job, signal) {
      const { regionId, sessionId, domain, disks, config, os, consistency, ref } = job
      // Here and not in a thread, whose start would take longer than the work.
      const composition = { domain, disks, config, os, consistency }
      const store = await storeOf(regionId)
      const { digest, content } = await composeImage(store, sessionId, composition, ref, signal)
      const diskDataBytes = disks.map((disk) => disk.dataBytes)
      const dataBytes = diskDataBytes.reduce((sum, bytes) => sum + bytes, 0)
      const diskReadBytes = disks.map(() => 0)
      const parent = content.parent ?? undefined
      return { digest, parent, diskDataBytes, dataBytes, diskReadBytes, storedBytes: 0, movedBytes: 0 }
    },
    plan(job, onBytes, signal) {
      const data: PlanData = { job, place: placeOf(job.regionId) }
      return runThread<CapturePlan>(entry('plan'), data, { signal, onNews: onBytes })
    },
    pull: copies.pull,
    planPull: copies.planPull,
    rekey: copies.rekey,
    verify(regionId, deep, onBytes, signal) {
      const data: VerifyData = { place: placeOf(regionId), deep }
      return runThread<VerifyReport>(entry('verify'), data, { signal, onNews: onBytes })
    },
    restore(regionId, digest, diskIndex, path, onBytes, signal) {
      const { threadCount } = options
      const data: RestoreData = {
        is: 'leader',
        place: placeOf(regionId),
        digest,
        diskIndex,
        path,
        threadCount,
      }
      return runThread<void>(entry('restore'), data, { signal, onNews: onBytes })
    },
    async measure({ regionId, domain, disks }, signal) {
      const plans = await planDisks(await storeOf(regionId), domain, disks, signal)
      return plans.map(({ readBytes, dataBytes }) => ({ readBytes, dataBytes }))
    },
    async freeBytes(regionId) {
      const { objects } = placeOf(regionId)
      if (objects.kind !== 'directory') return undefined
      const { bavail, bsize } = await statfs(await existing(objects.folder))
      return bavail * bsize
    },
    async refer(regionId, ref) {
      await (await storeOf(regionId)).setRef(ref)
    },
    async release(regionId, holder) {
      const isLetGo = await blobs.letGo({ is: 'release', place: placeOf(regionId), holder })
      if (!isLetGo) await (await storeOf(regionId)).dropRef(holder)
    },
    async refs(regionId) {
      return (await storeOf(regionId)).listRefs()
    },
    async sessions(regionId) {
      return (await storeOf(regionId)).listSessions()
    },
    collect(regionId, job, onBytes, signal) {
      const data: CollectData = { place: placeOf(regionId), job }
      return runThread<GcReport>(entry('gc'), data, { signal, onNews: onBytes })
    },
    scrub(regionId, job, onBytes, signal) {
      const data: ScrubData = { place: placeOf(regionId), job }
      return runThread<ScrubReport>(entry('scrub'), data, { signal, onNews: onBytes })
    },
    repair(regionId, signal) {
      placeOf(regionId)
      const data: RepairData = { places, regionId }
      const run = () => runThread<RepairReport>(entry('repair'), data, { signal })
      // A scrub and a reader may both ask for one: the second finds what the first has left.
      const repaired = (repairs.get(regionId) ?? Promise.resolve()).then(run)
      repairs.set(
        regionId,
        repaired.catch(() => {}),
      )
      return repaired
    },
    usage(regionId, signal) {
      signal.throwIfAborted()
      const data: UsageData = { place: placeOf(regionId) }
      // One look at a region at a time, however many ask: it reads every map. Who gave up does not stop it for others.
      let using = usages.get(regionId)
      if (using === undefined) {
        using = runThread<RegionUsage>(entry('usage'), data, { signal: closed.signal }).finally(() =>
          usages.delete(regionId),
        )
        usages.set(regionId, using)
      }
      return using
    },
    onDamage(listener) {
      damageListeners.push(listener)
    },
    survey(regionId, onBytes, signal) {
      const data: SurveyData = { place: placeOf(regionId) }
      return runThread<RegionSurvey>(entry('survey'), data, { signal, onNews: onBytes })
    },
    rebuildIndex(regionId, onPack, signal) {
      const data: RebuildData = { place: placeOf(regionId) }
      return runThread<RebuildReport>(entry('rebuild'), data, { signal, onNews: onPack })
    },
    openBlob: (job, signal) => blobs.open(placeOf(job.regionId), job, signal),
    async openFile(place, inspection, signal) {
      const leave = await inspections.enter(signal)
      try {
        return await openFile(place, regionOf(place), inspection, signal)
      } finally {
        leave()
      }
    },
    unpack(place, packing, limits, job, tell, signal) {
      return unpackFile({ place, packing, limits, region: placeOf(job.regionId), job }, tell, signal)
    },
    checksums(place, algorithms, onBytes, signal) {
      const data: ChecksumData = { place, region: regionOf(place), algorithms }
      return runThread(entry('checksum'), data, { signal, onNews: onBytes })
    },
    async takeBlob(job, signal) {
      const { regionId, sessionId, domain, map, bus, config, os, parent = null, ref } = job
      // Here and not in a thread: it reads a page of the map for each 512 MiB.
      const store = await storeOf(regionId)
      const dataBytes = await blobDataBytes(store, map, signal)
      const facts = { domain, config, os, parent, consistency: 'crash', bus } as const
      const storedBytes = store.listSessions().find(({ id }) => id === sessionId)?.storedBytes ?? 0
      const { digest } = await commitBlob(store, sessionId, map, facts, ref, signal)
      const read = { diskReadBytes: [map.sizeBytes], movedBytes: map.sizeBytes }
      return { digest, diskDataBytes: [dataBytes], dataBytes, storedBytes, ...read }
    },
    exportSize: (job, signal) => exports.size(placeOf(job.regionId), job, signal),
    exportBytes: (job, what, signal) => exports.bytes(placeOf(job.regionId), job, what, signal),
    digestExport: (job, onBytes, signal) => exports.digest(placeOf(job.regionId), job, onBytes, signal),
    bundle: (job, signal) => bundleStream(bundles, job, signal),
    pagesOf: async (regionId, digests) => pagesOf(await storeOf(regionId), digests),
    readBundle: (place, signers, signal) => readBundle(bundles, place, signers, signal),
    pullBundle: (job, onBytes, signal) => pullBundle(bundles, job, onBytes, signal),
    async abort(regionId, sessionId) {
      const isLetGo = await blobs.letGo({ is: 'abort', place: placeOf(regionId), sessionId })
      if (!isLetGo) {
        await (await storeOf(regionId)).abortSession(sessionId)
        return
      }
      const store = await stores.get(regionId)
      // What this thread thinks that the session holds.
      store?.forgetSession(sessionId)
    },
    async close() {
      closing = true
      closed.abort(new Fault('unavailable', 'The server is stopping.', { subject: 'store' }))
      const worker = serving?.worker
      if (worker !== undefined) {
        const ended = new Promise((resolve) => worker.once('exit', resolve))
        worker.postMessage('stop')
        await ended
      }
      await Promise.all([blobs.close(), exports.close(), copies.close()])
      for (const store of stores.values()) (await store).close()
    },
  }
}

/** The folder, or the nearest one above it that is there: a region that nobody used yet has none. */
async function existing(folder: string): Promise<string> {
  for (let path = folder; ; path = dirname(path)) {
    try {
      await statfs(path)
      return path
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || path === dirname(path)) throw error
    }
  }
}
