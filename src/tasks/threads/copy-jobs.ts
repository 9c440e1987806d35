import { rm } from 'node:fs/promises'
import type { CopySource } from '../../image/copy.ts'
import { Fault } from '../../image/fault.ts'
import type { RegionId } from '../../image/ids.ts'
import type { PeerPlace } from '../../peers/contract.ts'
import type { OnBytes, PullEstimate, PulledBytes, PullJob, StoreJobs, WrittenImage } from '../store-jobs.ts'
import type { CopyPlaces, SourcePlace } from './copy-source.ts'
import { CopyThreads } from './copy-threads.ts'
import type { RegionPlace } from './region.ts'
import type { RekeyData } from './rekey-thread.ts'
import { runThread } from './thread.ts'

export interface CopyJobsOptions {
  readonly placeOf: (regionId: RegionId) => RegionPlace
  readonly peers?: readonly PeerPlace[]
  readonly cacheFolder?: string
  readonly cacheBytesMax?: number
}

const CACHE_BYTES_MAX = 2 * 1024 * 1024 * 1024
/** The next copy of a batch begins a moment after the last one ended; then nobody wants what was kept any more. */
const CACHE_IDLE_MS = 60_000

const REKEY = new URL('./rekey-thread.ts', import.meta.url)

/** Copies, each in a thread of its own (`CopyThreads`), and what those of one image keep for each other. */
export class CopyJobs implements Pick<StoreJobs, 'pull' | 'planPull' | 'rekey'> {
  readonly #options: CopyJobsOptions
  readonly #threads = new CopyThreads()
  #sharedCount = 0
  #idle: NodeJS.Timeout | undefined

  constructor(options: CopyJobsOptions) {
    this.#options = options
  }

  pull = async (job: PullJob, onBytes: OnBytes, signal: AbortSignal): Promise<PulledBytes> => {
    const { digest, sessionId, ref, isShared } = job
    const run = (cache: CopyPlaces['cache']) => {
      const places = { ...this.#placesOf(job), cache }
      const ask = { is: 'pull', places, job: { digest, sessionId, ref } } as const
      return this.#threads.pull<PulledBytes>(ask, { signal, onNews: onBytes })
    }
    return isShared ? this.#withCache(run) : run(undefined)
  }

  planPull: StoreJobs['planPull'] = async (job, signal) => {
    const { sessionId } = job
    const ask = { is: 'plan', places: this.#placesOf(job), sessionId } as const
    return this.#threads.plan<PullEstimate>(ask, sessionId !== undefined, { signal })
  }

  rekey: StoreJobs['rekey'] = async (job, onBytes, signal) => {
    const { digest, sessionId, ref, domain } = job
    const data: RekeyData = { places: this.#placesOf(job), job: { digest, sessionId, ref, domain } }
    return runThread<WrittenImage>(REKEY, data, { signal, onNews: onBytes })
  }

  /** What a server before this one left. */
  async prepare(): Promise<void> {
    await this.#empty()
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle)
    await this.#threads.close()
    if (this.#sharedCount === 0) await this.#empty()
  }

  #placesOf(
    job: Pick<PullJob, 'source' | 'targetRegionId' | 'digest' | 'bytesPerSecond' | 'diskSizesBytes'>,
  ): CopyPlaces {
    const { digest, bytesPerSecond, diskSizesBytes } = job
    const target = this.#options.placeOf(job.targetRegionId)
    return { source: this.#sourceOf(job.source), target, digest, bytesPerSecond, diskSizesBytes }
  }

  #sourceOf(source: CopySource): SourcePlace {
    if (source.is === 'region') return { is: 'region', place: this.#options.placeOf(source.regionId) }
    const peer = this.#options.peers?.find(({ name }) => name === source.peer)
    if (peer !== undefined) return { is: 'peer', peer, regionId: source.regionId }
    throw new Fault('absent', `There is no peer '${source.peer}' in the settings.`, { subject: 'peer' })
  }

  async #withCache<Result>(run: (cache: CopyPlaces['cache']) => Promise<Result>): Promise<Result> {
    const { cacheFolder: folder, cacheBytesMax: bytesMax = CACHE_BYTES_MAX } = this.#options
    this.#sharedCount++
    clearTimeout(this.#idle)
    try {
      return await run(folder === undefined ? undefined : { folder, bytesMax })
    } finally {
      this.#sharedCount--
      if (this.#sharedCount === 0) {
        clearTimeout(this.#idle)
        this.#idle = setTimeout(() => void this.#empty(), CACHE_IDLE_MS).unref()
      }
    }
  }

  /** Never fails: what is left is bounded, and in the way of nobody. */
  async #empty(): Promise<void> {
    const { cacheFolder } = this.#options
    if (cacheFolder !== undefined) await rm(cacheFolder, { recursive: true, force: true }).catch(() => {})
  }
}
