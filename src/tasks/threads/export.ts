import assert from 'node:assert/strict'
import type { ExportJob, OnBytes, StoreJobs } from '../store-jobs.ts'
import type { DigestData } from './export-digest-thread.ts'
import { askLane, type Lane } from './export-lane.ts'
import { ExportSlabs } from './export-slabs.ts'
import { ExportStream } from './export-stream.ts'
import type { ExportAsk, ExportPlan } from './export-thread.ts'
import type { RegionPlace } from './region.ts'
import { TalkingThread } from './talk.ts'
import { runThread } from './thread.ts'

/** What is hashed before it is sent waits in the memory of a thread. */
const HASHED_BYTES_MAX = 32 * 1024 * 1024
const PLANS_MAX = 16
/** A plan larger than this is made again rather than kept. */
const PLAN_BYTES_MAX = 8 * 1024 * 1024
const IDLE_MS = 30_000

/**
 * Exported files, made in threads that all of them share and that are there while they are needed. Any thread makes any
 * piece of any file, so that one reader has all of them and many readers share them.
 */
export class Exports {
  readonly #threadCount: number
  readonly #slabs = new ExportSlabs()
  #lanes: Lane[] = []
  /** What is known of files; an image never changes. */
  readonly #plans = new Map<string, ExportPlan>()
  #useCount = 0
  #idle: NodeJS.Timeout | undefined

  constructor(options: { readonly threadCount: number }) {
    assert(options.threadCount > 0)
    this.#threadCount = options.threadCount
  }

  /** As `StoreJobs.exportSize`. */
  async size(place: RegionPlace, job: ExportJob, signal: AbortSignal): Promise<number> {
    return (await this.#planOf(place, job, signal)).sizeBytes
  }

  /** As `StoreJobs.exportBytes`. */
  async bytes(
    place: RegionPlace,
    job: ExportJob,
    what: Parameters<StoreJobs['exportBytes']>[1],
    signal: AbortSignal,
  ): Promise<{ readonly sha256: Buffer | undefined; readonly body: AsyncIterable<Uint8Array> }> {
    const plan = await this.#planOf(place, job, signal)
    const options = { place, job, plan, slabs: this.#slabs, signal }
    const begin = () => new ExportStream({ ...options, laneFor: () => this.#freeLane() })
    const use = <Value>(body: AsyncIterable<Value>) => this.#used(body)
    if (what.is === 'packed') return { sha256: undefined, body: use(begin().packed()) }
    const { offset, lengthBytes } = what
    assert(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= plan.sizeBytes)
    if (!what.sha256) return { sha256: undefined, body: use(begin().range(offset, lengthBytes)) }
    assert(lengthBytes <= HASHED_BYTES_MAX)
    // One thread for both: the others have none of it in memory.
    const lane = this.#freeLane()
    const stream = () => new ExportStream({ ...options, laneFor: () => lane })
    const sha256 = await this.#using(() => stream().hash(offset, lengthBytes))
    return { sha256, body: use(stream().range(offset, lengthBytes)) }
  }

  /** SHA-256 of a whole exported file, in a thread of its own. Faults as `StoreJobs.exportBytes`. */
  digest(
    place: RegionPlace,
    job: ExportJob,
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<{ readonly sizeBytes: number; readonly sha256: string }> {
    const data: DigestData = { place, job }
    const file = new URL('./export-digest-thread.ts', import.meta.url)
    return runThread(file, data, { signal, onNews: onBytes })
  }

  /** Breaks off whatever is read. */
  async close(): Promise<void> {
    clearTimeout(this.#idle)
    this.#slabs.clear()
    await Promise.all(this.#lanes.splice(0).map(({ thread }) => thread.close()))
  }

  async #planOf(place: RegionPlace, job: ExportJob, signal: AbortSignal): Promise<ExportPlan> {
    signal.throwIfAborted()
    const key = [job.regionId, job.digest, job.diskIndex, job.format].join(' ')
    const known = this.#plans.get(key)
    const ask: ExportAsk = { is: 'describe', place, job, known: known !== undefined }
    const told = await this.#using(() => {
      const telling = askLane<ExportPlan | undefined>(this.#freeLane(), ask)
      // Whoever asks for the first time reads it next: the others load their code while this one looks at the disk.
      if (known === undefined) this.#startLanes()
      return unlessAborted(telling, signal)
    })
    const plan = told ?? known
    assert(plan !== undefined)
    this.#plans.delete(key)
    const { dataRuns, zeroRuns } = plan
    if (dataRuns.offsets.byteLength + zeroRuns.offsets.byteLength <= PLAN_BYTES_MAX)
      this.#plans.set(key, plan)
    for (const oldest of this.#plans.keys()) {
      if (this.#plans.size <= PLANS_MAX) break
      this.#plans.delete(oldest)
    }
    return plan
  }

  /** The thread with the least to do; another one, while there may be more, if all have something. */
  #freeLane(): Lane {
    this.#lanes = this.#lanes.filter(({ thread }) => !thread.isOver)
    const [first] = this.#lanes.toSorted((a, b) => a.load - b.load)
    if (first !== undefined && (first.load === 0 || this.#lanes.length >= this.#threadCount)) return first
    return this.#startLane()
  }

  #startLanes(): void {
    while (this.#lanes.length < this.#threadCount) this.#startLane()
  }

  #startLane(): Lane {
    const lane = { thread: new TalkingThread(new URL('./export-thread.ts', import.meta.url)), load: 0 }
    this.#lanes.push(lane)
    return lane
  }

  async *#used<Value>(body: AsyncIterable<Value>): AsyncIterable<Value> {
    this.#begin()
    try {
      yield* body
    } finally {
      this.#end()
    }
  }

  async #using<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#begin()
    try {
      return await work()
    } finally {
      this.#end()
    }
  }

  #begin(): void {
    this.#useCount++
    clearTimeout(this.#idle)
  }

  #end(): void {
    this.#useCount--
    if (this.#useCount > 0) return
    this.#idle = setTimeout(() => void this.close(), IDLE_MS)
    this.#idle.unref()
  }
}

function unlessAborted<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
