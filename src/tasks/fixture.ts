import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import { FakeCleaner } from '../cleaning/fixture.ts'
import { createSigner } from '../cleaning/signature.ts'
import type { ExportRequest, Host, MachineDisk, MachinePower } from '../host/contract.ts'
import { PLAIN_CONFIG } from '../image/config.ts'
import { Fault } from '../image/fault.ts'
import type {
  Digest,
  DiskId,
  ImageId,
  MachineId,
  ProjectId,
  RegionId,
  SnapshotId,
  TaskId,
} from '../image/ids.ts'
import { captureImage, createSnapshot } from './capture-image.ts'
import { cleanImage, planClean } from './clean-image.ts'
import { collectGarbage } from './collect-garbage.ts'
import { machineDisksOf } from './columns.ts'
import { composeImage } from './compose-image.ts'
import { copyBatch } from './copy-batch.ts'
import { copyImage } from './copy-image.ts'
import { deleteMachine, launchMachine } from './machine-power.ts'
import { exportNameOf, type TaskParts } from './parts.ts'
import { planCapture } from './plan-capture.ts'
import { planCopy } from './plan-copy.ts'
import { releaseImage } from './release-image.ts'
import { resetDisk } from './reset-disk.ts'
import { createRunner, type NewTask, type Runner, type TaskDefinition } from './runner.ts'
import { repairDamage, scrubRegion } from './scrub-region.ts'
import { DISK_BYTES, digestOf, FakeStores } from './stores.fixture.ts'
import { verifyRegion } from './verify-region.ts'

export { DISK_BYTES, digestOf }

export const HOME = 'cn-hangzhou' as RegionId
export const AWAY = 'hk' as RegionId
export const PROJECT = 'org-main' as ProjectId
export const CONFIG = { ...PLAIN_CONFIG, cpuCount: 1, memoryBytes: 1024 }

export interface TaskPlace {
  readonly catalog: Catalog
  readonly stores: FakeStores
  readonly cleaner: FakeCleaner
  /** The one of now: `restart` makes another. */
  readonly runner: Runner
  readonly parts: TaskParts
  readonly power: Map<string, MachinePower>
  /** Awaited inside the host's calls of these names, 'replacedDisk' after a disk is replaced. */
  readonly gates: Map<string, () => Promise<void>>
  /** By disk: the export that it was replaced with last. */
  readonly replaced: ReadonlyMap<string, string>
  /** Of copies into a region, and out of it. */
  readonly limits: Map<RegionId, number>
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
  /** Its one disk is `d` and the rest of its id. */
  machine(name: string, row?: { state?: string; digest?: Digest }): Promise<MachineId>
  /** Of a machine's one disk. */
  snapshot(
    machineId: MachineId,
    name: string,
    row?: { state?: string; digest?: Digest; imageId?: ImageId; taskId?: TaskId; dataBytes?: number },
  ): Promise<SnapshotId>
  /** The process ends and another takes up what it left. */
  restart(): Promise<void>
  close(): Promise<void>
}

/** Tasks over a catalog in memory and stores and a host that only remember. `attempts`: of copies. */
export async function newTaskPlace({ attempts = 1 } = {}): Promise<TaskPlace> {
  const catalog = await openSqliteCatalog(':memory:')
  const stores = new FakeStores()
  const power = new Map<string, MachinePower>()
  const gates = new Map<string, () => Promise<void>>()
  const replaced = new Map<string, string>()
  const replacedCounts = new Map<string, number>()
  const limits = new Map<RegionId, number>()
  const logged: Record<string, unknown>[] = []
  const time = { nowMs: 1_700_000_000_000 }
  const host = {
    traits: { name: 'simulated', starts: true, hasConsole: true },
    power: async (id: string) => power.get(id) ?? 'absent',
    ensureMachine: async ({ id }: { id: string }) => void power.set(id, 'stopped'),
    ensureStarted: async (id: string) => void power.set(id, 'running'),
    ensureGone: async (id: string) => {
      power.delete(id)
      await gates.get('ensureGone')?.()
    },
    ensureStopped: async (id: string) => {
      await gates.get('ensureStopped')?.()
      if (power.has(id)) power.set(id, 'stopped')
    },
    outlook: async () => ({ power: 'stopped', consistency: 'application', consistencyWhy: '' }),
    openExports: async (_id: string, _key: string, { diskIds }: ExportRequest) => {
      const disk = { sizeBytes: DISK_BYTES, socketPath: '', exportName: '', mapName: '', changesWhy: '' }
      const disks = diskIds.map((id) => ({ ...disk, id }))
      const told = { consistency: 'filesystem', consistencyWhy: 'There is no VSS.', pausedMs: 0, frozenMs: 0 }
      return { disks, ...told, moment: 'new' }
    },
    closeExports: async () => {},
    layers: async (id: string) => {
      await gates.get('layers')?.()
      if (power.get(id) === undefined) {
        throw new Fault('absent', 'There is no such machine.', { subject: 'machine' })
      }
      const row = await catalog.rows
        .selectFrom('machine')
        .select('disks')
        .where('id', '=', id)
        .executeTakeFirst()
      return Object.fromEntries(
        machineDisksOf(row?.disks ?? '[]').map(({ id: diskId, base }) => {
          const made = base === undefined ? '' : exportNameOf(HOME, base.digest, base.index)
          const replacedCount = replacedCounts.get(diskId) ?? 0
          return [diskId, { baseName: replaced.get(diskId) ?? made, replacedCount }]
        }),
      )
    },
    replaceDisk: async (id: string, { id: diskId, base }: MachineDisk) => {
      await gates.get('replaceDisk')?.()
      if (power.get(id) === undefined) {
        throw new Fault('absent', 'There is no such machine.', { subject: 'machine' })
      }
      replaced.set(diskId, base?.exportName ?? '')
      replacedCounts.set(diskId, (replacedCounts.get(diskId) ?? 0) + 1)
      await gates.get('replacedDisk')?.()
    },
  } as unknown as Host
  const clock = () => time.nowMs
  const cleaner = new FakeCleaner()
  const sign = createSigner(new Uint8Array(32))
  const places = { nbdSocketPath: '', importDirectory: '' }
  // Nothing here brings files in: that is tried over real stores.
  const intake = {} as TaskParts['intake']
  const copies = { attempts, atOnce: 4, limitOf: (id: RegionId) => limits.get(id) }
  const parts = { catalog, host, jobs: stores.jobs, cleaner, sign, clock, intake, copies, ...places }
  const log = (record: Record<string, unknown>) => void logged.push(record)
  const definitions = [
    captureImage(parts),
    createSnapshot(parts),
    planCapture(parts),
    composeImage(parts),
    cleanImage(parts),
    planClean(parts),
    resetDisk(parts),
    copyImage(parts),
    copyBatch(parts, () => runner),
    planCopy(parts),
    launchMachine(parts),
    deleteMachine(parts),
    verifyRegion(parts),
    releaseImage(parts, () => runner),
    collectGarbage(parts, log),
    scrubRegion(parts),
    repairDamage(parts),
  ] as readonly TaskDefinition<never>[]
  let runner: Runner = createRunner({ catalog, definitions, clock, log })
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
    ...{ catalog, stores, cleaner, parts, power, gates, replaced, limits, logged },
    get runner() {
      return runner
    },
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
          disks: JSON.stringify([{ index: 0, sizeBytes: DISK_BYTES, bus: 'virtio-blk' }]),
          ...{ config: JSON.stringify(CONFIG), consistency: 'crash', parent: null },
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
      const disk = {
        id: `d${id.slice(1)}`,
        index: 0,
        sizeBytes: DISK_BYTES,
        bus: 'virtio-blk',
        base,
        category: '',
      }
      await catalog.rows
        .insertInto('machine')
        .values({
          ...{ id, projectId: PROJECT, regionId: HOME, zone: 'z', name, tag: '', labels: '[]', state },
          ...{
            reason: '',
            cpuCount: 1,
            memoryBytes: 1024,
            firmware: 'bios',
            machineType: 'pc',
            typeName: '',
            imageId: '',
            imageName: '',
          },
          ...{ osType: 'Linux', osName: '', disks: JSON.stringify([disk]), details: '{"a":true}' },
          createdAtMs: time.nowMs,
        })
        .execute()
      if (state !== 'creating' && state !== 'failed') power.set(id, 'stopped')
      return id
    },
    async snapshot(
      machineId,
      name,
      { state = 'available', digest = digestOf(name), imageId, taskId, dataBytes = 4096 } = {},
    ) {
      const id = newCore('s') as SnapshotId
      if (state === 'available') stores.hold(HOME, digest)
      const isMade = state === 'available'
      await catalog.rows
        .insertInto('snapshot')
        .values({
          ...{ id, projectId: PROJECT, regionId: HOME, machineId, machineName: 'm', name, state },
          diskId: `d${machineId.slice(1)}` as DiskId,
          disk: JSON.stringify({ index: 0, sizeBytes: DISK_BYTES, bus: 'virtio-blk' }),
          config: JSON.stringify(CONFIG),
          ...{ osType: 'Linux', osName: '', description: '', creator: 'root', policyId: null },
          ...{
            imageId: imageId ?? null,
            taskId: taskId ?? null,
            digest: isMade ? digest : null,
            reason: null,
          },
          progressPermille: isMade ? 1000 : 0,
          consistency: isMade ? 'filesystem' : null,
          dataBytes: isMade ? dataBytes : 0,
          ...{ storedBytes: 0, movedBytes: 0, reservedBytes: 0 },
          ...{ createdAtMs: time.nowMs, updatedAtMs: time.nowMs },
        })
        .execute()
      return id
    },
    async restart() {
      await runner.close()
      runner = createRunner({ catalog, definitions, clock, log })
      await runner.resume()
    },
    async close() {
      await runner.close()
      await catalog.close()
    },
  }
  return place
}
