import { createHash } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import type { Digest, DomainId, RegionId } from '../image/ids.ts'
import type {
  CollectJob,
  ComposeJob,
  PullEstimate,
  PullJob,
  RefInput,
  RekeyJob,
  ScrubJob,
  StoreJobs,
  WriteJob,
  WrittenImage,
} from './store-jobs.ts'

export const DISK_BYTES = 1024 ** 3
export const digestOf = (text: string) => createHash('sha256').update(text).digest('hex') as Digest

const NOTHING: PullEstimate = { missingBytes: 0, savedBytes: 0, resumedBytes: 0 }

type KeptRef = RefInput & { readonly digests: readonly Digest[] }

/** The stores of two regions as far as tasks see them: what they hold, who refers to it, what was asked. */
export class FakeStores {
  readonly refs = new Map<string, KeptRef>()
  readonly images = new Map<string, Set<Digest>>()
  readonly sessions: { id: string; touchedMs: number }[] = []
  readonly collected: (CollectJob & { readonly regionId: RegionId })[] = []
  readonly scrubbed: (ScrubJob & { readonly regionId: RegionId })[] = []
  readonly repaired: RegionId[] = []
  readonly composed: ComposeJob[] = []
  readonly written: WriteJob[] = []
  readonly pulled: PullJob[] = []
  readonly rekeyed: RekeyJob[] = []
  /** Sessions that were taken away. */
  readonly aborted: string[] = []
  /** By target: what a pull moves; nothing, where nothing is said. */
  readonly estimates = new Map<RegionId, PullEstimate>()
  /** Of regions that can say it. */
  readonly freeBytes = new Map<RegionId, number>()
  /** Of images that are of another domain than the project's. */
  readonly domains = new Map<Digest, string>()
  /** Of images that are not without one. */
  readonly parents = new Map<Digest, Digest>()
  unlabelled: string[] = []
  lost: { message: string; image?: Digest; diskIndex?: number; offset?: number }[] = []
  problems: { message: string; image?: Digest; diskIndex?: number; offset?: number }[] = []
  /** What the next image holds, and how much that was expected to be. */
  dataBytes = 4096
  measuredBytes = 8192
  /** Awaited inside the calls of these names. */
  readonly gates = new Map<string, () => Promise<void>>()
  tellDamage: (regionId: RegionId) => void = () => {}

  async #pass(name: string): Promise<void> {
    await this.gates.get(name)?.()
  }

  /** As real work does, it is left as soon as the signal is aborted. */
  async #passOrLeave(name: string, signal: AbortSignal): Promise<void> {
    const left = Promise.withResolvers<never>()
    const leave = () => left.reject(signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    try {
      await Promise.race([this.#pass(name), left.promise])
    } finally {
      signal.removeEventListener('abort', leave)
    }
    signal.throwIfAborted()
  }

  hold(regionId: RegionId, digest: Digest): void {
    const held = this.images.get(regionId) ?? new Set()
    this.images.set(regionId, held.add(digest))
  }

  holders(regionId: RegionId): string[] {
    return [...this.refs.keys()].flatMap((key) => {
      const [region, holder = ''] = key.split(' ')
      return region === regionId ? [holder] : []
    })
  }

  #check(regionId: RegionId, digest: Digest): void {
    if (this.images.get(regionId)?.has(digest) === true) return
    throw new Fault('absent', `This region holds no image with digest ${digest}.`, { subject: 'image' })
  }

  /** One image that is committed with its ref. */
  #make(regionId: RegionId, digest: Digest, ref: RefInput, diskCount: number): WrittenImage {
    this.hold(regionId, digest)
    this.refs.set(`${regionId} ${ref.holder}`, { ...ref, digests: [digest] })
    const diskDataBytes = new Array(diskCount).fill(this.dataBytes)
    const dataBytes = diskCount * this.dataBytes
    return { digest, diskDataBytes, diskReadBytes: diskDataBytes, dataBytes, storedBytes: 1, movedBytes: 1 }
  }

  get jobs(): StoreJobs {
    const jobs: Partial<StoreJobs> = {
      serve: async () => {},
      diskSizes: async (regionId, digest) => {
        this.#check(regionId, digest)
        return [DISK_BYTES]
      },
      domainOf: async (regionId, digest) => {
        this.#check(regionId, digest)
        return (this.domains.get(digest) ?? 'org-main') as DomainId
      },
      measure: async ({ disks }) => {
        await this.#pass('measure')
        return disks.map(() => ({ readBytes: this.measuredBytes, dataBytes: this.measuredBytes }))
      },
      plan: async ({ disks }) => {
        const plan = { readBytes: this.measuredBytes, dataBytes: this.measuredBytes }
        return { disks: disks.map(() => plan), newBytes: this.measuredBytes }
      },
      freeBytes: async (regionId) => this.freeBytes.get(regionId),
      write: async (job, _onBytes, signal) => {
        this.written.push(job)
        await this.#pass('write')
        signal.throwIfAborted()
        return job.images.map(({ ref, disks }, i) =>
          this.#make(
            job.regionId,
            digestOf(i === 0 ? job.sessionId : `${job.sessionId} ${i}`),
            ref,
            disks.length,
          ),
        )
      },
      compose: async (job, signal) => {
        await this.#pass('compose')
        signal.throwIfAborted()
        for (const { digest } of job.disks) this.#check(job.regionId, digest)
        this.composed.push(job)
        const made = this.#make(job.regionId, digestOf(job.sessionId), job.ref, job.disks.length)
        await this.#pass('composed')
        const [system] = job.disks
        return { ...made, parent: system && this.parents.get(system.digest) }
      },
      pull: async (job, onBytes, signal) => {
        await this.#passOrLeave('pull', signal)
        await this.#passOrLeave(`pull ${job.targetRegionId}`, signal)
        this.pulled.push(job)
        if (job.source.is === 'region') this.#check(job.source.regionId, job.digest)
        const estimate: PullEstimate = this.estimates.get(job.targetRegionId) ?? NOTHING
        const { missingBytes, savedBytes } = estimate
        const isPeers = job.source.is === 'peer' && estimate.dataBytes !== undefined
        const moved = { movedBytes: missingBytes, savedBytes }
        onBytes({ doneBytes: missingBytes, totalBytes: missingBytes, ...moved })
        this.hold(job.targetRegionId, job.digest)
        this.refs.set(`${job.targetRegionId} ${job.ref.holder}`, { ...job.ref, digests: [job.digest] })
        await this.#passOrLeave('pulled', signal)
        const found = isPeers ? { dataBytes: estimate.dataBytes } : {}
        return { storedBytes: missingBytes, ...moved, ...found }
      },
      planPull: async ({ targetRegionId }, signal) => {
        await this.#passOrLeave('planPull', signal)
        return this.estimates.get(targetRegionId) ?? NOTHING
      },
      rekey: async (job, onBytes, signal) => {
        await this.#passOrLeave('rekey', signal)
        this.rekeyed.push(job)
        onBytes({ doneBytes: this.dataBytes, totalBytes: this.dataBytes, movedBytes: this.dataBytes })
        const digest = digestOf(`${job.domain} ${job.digest}`)
        const made = this.#make(job.targetRegionId, digest, job.ref, 1)
        return { ...made, movedBytes: this.dataBytes }
      },
      refer: async (regionId, ref) => {
        await this.#pass('refer')
        for (const digest of ref.digests) this.#check(regionId, digest)
        this.refs.set(`${regionId} ${ref.holder}`, ref)
      },
      release: async (regionId, holder) => {
        await this.#pass('release')
        this.refs.delete(`${regionId} ${holder}`)
      },
      refs: async (regionId) =>
        this.holders(regionId).map((holder) => this.refs.get(`${regionId} ${holder}`) as KeptRef),
      sessions: async () =>
        this.sessions.map((one) => ({ ...one, domain: 'org-main', state: 'open', storedBytes: 0 })) as never,
      abort: async (_regionId, sessionId) => {
        this.aborted.push(sessionId)
      },
      verify: async () => ({
        imageCount: 0,
        packCount: 0,
        logicalBytes: 0,
        storedBytes: 0,
        problems: this.problems,
      }),
      collect: async (regionId, job) => {
        await this.#pass('collect')
        this.collected.push({ regionId, ...job })
        return { items: [], itemCount: 0 } as never
      },
      scrub: async (regionId, job) => {
        this.scrubbed.push({ regionId, ...job })
        return { checkedCount: 1, checkedBytes: 1, damaged: [], damagedCount: 0 }
      },
      repair: async (regionId) => {
        await this.#pass('repair')
        this.repaired.push(regionId)
        const { lost, unlabelled: unlabelledHolders } = this
        const lists = { mended: [], mendedCount: 0, lost, lostCount: lost.length, waiting: [] }
        return { ...lists, unlabelledHolders } as never
      },
      onDamage: (listener) => {
        this.tellDamage = listener
      },
    }
    return jobs as StoreJobs
  }
}
