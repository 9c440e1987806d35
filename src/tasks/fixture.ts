import { createHash } from 'node:crypto'
import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import type { Host, MachinePower } from '../host/contract.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, MachineId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import { captureImage } from './capture-image.ts'
import { collectGarbage } from './collect-garbage.ts'
import { copyImage } from './copy-image.ts'
import { deleteMachine, launchMachine } from './machine-power.ts'
import type { TaskParts } from './parts.ts'
import { releaseImage } from './release-image.ts'
import { createRunner, type NewTask, type Runner, type TaskDefinition } from './runner.ts'
import { repairDamage, scrubRegion } from './scrub-region.ts'
import type { CollectJob, RefInput, ScrubJob, StoreJobs } from './store-jobs.ts'
import { verifyRegion } from './verify-region.ts'

export const HOME = 'cn-hangzhou' as RegionId
export const AWAY = 'hk' as RegionId
export const PROJECT = 'org-main' as ProjectId
export const DISK_BYTES = 1024 ** 3
export const digestOf = (text: string) => createHash('sha256').update(text).digest('hex') as Digest

type KeptRef = RefInput & { readonly digests: readonly Digest[] }

/** The stores of two regions as far as tasks see them: what they hold, who refers to it, what was asked. */
export class FakeStores {
  readonly refs = new Map<string, KeptRef>()
  readonly images = new Map<string, Set<Digest>>()
  readonly sessions: { id: string; touchedMs: number }[] = []
  readonly collected: (CollectJob & { readonly regionId: RegionId })[] = []
  readonly scrubbed: (ScrubJob & { readonly regionId: RegionId })[] = []
  readonly repaired: RegionId[] = []
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

  get jobs(): StoreJobs {
    const jobs: Partial<StoreJobs> = {
      serve: async () => {},
      diskSizes: async (regionId, digest) => {
        this.#check(regionId, digest)
        return [DISK_BYTES]
      },
      measure: async () => {
        await this.#pass('measure')
        return this.measuredBytes
      },
      write: async (job, _onBytes, signal) => {
        await this.#pass('write')
        signal.throwIfAborted()
        const digest = digestOf(job.sessionId)
        this.hold(job.regionId, digest)
        this.refs.set(`${job.regionId} ${job.ref.holder}`, { ...job.ref, digests: [digest] })
        return { digest, dataBytes: this.dataBytes, storedBytes: 1, movedBytes: 1 }
      },
      pull: async (job, _onBytes, signal) => {
        await this.#pass('pull')
        signal.throwIfAborted()
        this.#check(job.sourceRegionId, job.digest)
        this.hold(job.targetRegionId, job.digest)
        this.refs.set(`${job.targetRegionId} ${job.ref.holder}`, { ...job.ref, digests: [job.digest] })
        return { storedBytes: 1, movedBytes: 1 }
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
      abort: async () => {},
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

export interface TaskPlace {
  readonly catalog: Catalog
  readonly stores: FakeStores
  readonly runner: Runner
  readonly parts: TaskParts
  readonly power: Map<string, MachinePower>
  readonly logged: Record<string, unknown>[]
  nowMs: number
  /** Adds a task and lets it run. */
  begin(task: Omit<NewTask, 'projectId' | 'regionId'> & Partial<NewTask>): Promise<TaskId>
  /** The task's row once it has ended. */
  ended(id: TaskId): Promise<{ state: string; reason: string | null; output: Record<string, unknown> }>
  image(
    name: string,
    row?: { state?: string; regionId?: RegionId; digest?: Digest; dataBytes?: number },
  ): Promise<ImageId>
  machine(name: string, row?: { state?: string; digest?: Digest }): Promise<MachineId>
  close(): Promise<void>
}

/** Tasks over a catalog in memory and stores and a host that only remember. */
export async function newTaskPlace(): Promise<TaskPlace> {
  const catalog = await openSqliteCatalog(':memory:')
  const stores = new FakeStores()
  const power = new Map<string, MachinePower>()
  const logged: Record<string, unknown>[] = []
  const time = { nowMs: 1_700_000_000_000 }
  const host = {
    traits: { name: 'simulated', starts: true, hasConsole: true },
    power: async (id: string) => power.get(id) ?? 'absent',
    ensureMachine: async ({ id }: { id: string }) => void power.set(id, 'stopped'),
    ensureStarted: async (id: string) => void power.set(id, 'running'),
    ensureGone: async (id: string) => void power.delete(id),
    openExports: async (id: string) => {
      const disk = {
        id: `d${id.slice(1)}`,
        sizeBytes: DISK_BYTES,
        socketPath: '',
        exportName: '',
        mapName: '',
      }
      return { disks: [disk], consistency: 'crash', pausedMs: 0, moment: 'new' }
    },
    closeExports: async () => {},
  } as unknown as Host
  const clock = () => time.nowMs
  const parts = { catalog, host, jobs: stores.jobs, clock, nbdSocketPath: '', importDirectory: '' }
  const log = (record: Record<string, unknown>) => void logged.push(record)
  const definitions = [
    captureImage(parts),
    copyImage(parts),
    launchMachine(parts),
    deleteMachine(parts),
    verifyRegion(parts),
    releaseImage(parts, () => runner),
    collectGarbage(parts, log),
    scrubRegion(parts),
    repairDamage(parts),
  ] as readonly TaskDefinition<never>[]
  const runner: Runner = createRunner({ catalog, definitions, clock, log })
  await catalog.rows
    .insertInto('account')
    .values({ id: '1', name: 'main', createdAtMs: time.nowMs })
    .execute()
  await catalog.rows
    .insertInto('project')
    .values({ id: PROJECT, accountId: '1', name: 'default', isDefault: 1, createdAtMs: time.nowMs })
    .execute()
  let count = 0
  const newCore = (letter: string) => `${letter}${String(count++).padStart(16, '0')}`
  const find = (id: TaskId) =>
    catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const place: TaskPlace = {
    ...{ catalog, stores, runner, parts, power, logged },
    get nowMs() {
      return time.nowMs
    },
    set nowMs(nowMs) {
      time.nowMs = nowMs
    },
    async begin(task) {
      const id = await runner.add(catalog.rows, { projectId: PROJECT, regionId: HOME, ...task })
      runner.kick(id)
      return id
    },
    async ended(id) {
      for (;;) {
        const { state, reason, output, endedAtMs } = await find(id)
        if (endedAtMs !== null) return { state, reason, output: JSON.parse(output) }
        await runner.changed(id, 20, new AbortController().signal)
      }
    },
    async image(
      name,
      { state = 'available', regionId = HOME, digest = digestOf(name), dataBytes = 4096 } = {},
    ) {
      const id = newCore('i') as ImageId
      if (state === 'available') stores.hold(regionId, digest)
      await catalog.rows
        .insertInto('image')
        .values({
          ...{ id, projectId: PROJECT, regionId, kind: 'custom', origin: 'import', name, state },
          ...{ description: '', tag: 'Default', osType: 'Linux', osName: '', taskId: null, reason: null },
          digest: state === 'available' ? digest : null,
          progressPermille: state === 'available' ? 1000 : 0,
          disks: JSON.stringify([{ index: 0, sizeBytes: DISK_BYTES }]),
          dataBytes: state === 'available' ? dataBytes : 0,
          ...{ storedBytes: 0, movedBytes: 0, sourceMachineId: null, sourceImageId: null },
          ...{ createdAtMs: time.nowMs, updatedAtMs: time.nowMs },
        })
        .execute()
      return id
    },
    async machine(name, { state = 'stopped', digest } = {}) {
      const id = newCore('m') as MachineId
      const base = digest === undefined ? undefined : { digest, index: 0 }
      const disk = { id: `d${id.slice(1)}`, index: 0, sizeBytes: DISK_BYTES, base, category: '' }
      await catalog.rows
        .insertInto('machine')
        .values({
          ...{ id, projectId: PROJECT, regionId: HOME, zone: 'z', name, tag: '', labels: '[]', state },
          ...{ reason: '', cpuCount: 1, memoryBytes: 1024, typeName: '', imageId: '', imageName: '' },
          ...{ osType: 'Linux', osName: '', disks: JSON.stringify([disk]), details: '{"a":true}' },
          createdAtMs: time.nowMs,
        })
        .execute()
      if (state !== 'creating' && state !== 'failed') power.set(id, 'stopped')
      return id
    },
    async close() {
      await runner.close()
      await catalog.close()
    },
  }
  return place
}
