import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import type { Host, MachinePower } from '../host/contract.ts'
import type { ImageId, MachineId, RegionId } from '../image/ids.ts'
import { TASK_KINDS } from '../image/task.ts'
import { createRunner, type Runner, type TaskDefinition } from '../tasks/runner.ts'
import type { RegionUsage } from '../tasks/store-jobs.ts'
import { createApp } from './app.ts'
import type { App, Caller, Keyring } from './contract.ts'
import { ensureRoot } from './first-start.ts'

export const HOME = 'cn-hangzhou' as RegionId
export const AWAY = 'hk' as RegionId

/** The use cases over a catalog in memory, with tasks that wait for the test to end them. */
export interface AppPlace {
  readonly app: App
  readonly keyring: Keyring
  readonly catalog: Catalog
  readonly runner: Runner
  readonly root: Caller
  readonly power: Map<string, MachinePower>
  nowMs: number
  /** What every region's store says of itself. */
  usage: RegionUsage
  caller(keyId: string, door?: Caller['door']): Promise<Caller>
  /** Writes what a task would have: an available image, a running machine. */
  availableImage(name: string): Promise<ImageId>
  runningMachine(imageId: ImageId): Promise<MachineId>
  close(): Promise<void>
}

export async function newAppPlace(options: { readonly imagesPerRegionMax?: number } = {}): Promise<AppPlace> {
  const catalog = await openSqliteCatalog(':memory:')
  const power = new Map<string, MachinePower>()
  const waiting = TASK_KINDS.map(
    (kind): TaskDefinition<never> => ({
      kind,
      gate: 'none',
      steps: [
        {
          name: 'wait',
          run: ({ signal }) =>
            new Promise((_, reject) => {
              signal.addEventListener('abort', () => reject(signal.reason), { once: true })
            }),
        },
      ],
      undo: async () => {},
    }),
  )
  const place = {
    nowMs: 1_700_000_000_000,
    usage: { packBytes: 0, liveBytes: 0, reclaimableBytes: 0, condemnedBytes: 0, images: [] } as RegionUsage,
  }
  const clock = () => place.nowMs
  const runner = createRunner({ catalog, definitions: waiting, clock, log: () => {} })
  // Only these two are asked of a host by the use cases that the tests call.
  const host = {
    traits: { name: 'simulated', starts: true, hasConsole: true },
    power: async (id: string) => power.get(id) ?? 'absent',
  } as unknown as Host
  const { keyId } = await ensureRoot(catalog, undefined, place.nowMs)
  const { app, keyring } = createApp({
    catalog,
    host,
    runner,
    clock,
    regions: [
      { id: HOME, localName: '杭州', englishName: 'Hangzhou', zones: ['cn-hangzhou-h'] },
      { id: AWAY, localName: '香港', englishName: 'Hong Kong', zones: ['hk-01'] },
    ],
    defaultRegionId: HOME,
    imagesPerRegionMax: options.imagesPerRegionMax ?? 10,
    importDirectory: '/nonexistent',
    jobs: { usage: async () => place.usage },
    upkeep: { gcGraceMs: 1000, scrubBytesPerSecond: 50_000_000, scrubEveryMs: 7000 },
  })
  const caller: AppPlace['caller'] = async (id, door = 'native') => {
    const key = await keyring.find(id)
    return keyring.caller(key?.userId ?? '', door, {
      requestId: 'R',
      sourceIp: '127.0.0.1',
      secureTransport: false,
    })
  }
  const root = await caller(keyId)
  let imageCount = 0
  return {
    app,
    keyring,
    catalog,
    runner,
    root,
    power,
    get nowMs() {
      return place.nowMs
    },
    set nowMs(nowMs) {
      place.nowMs = nowMs
    },
    get usage() {
      return place.usage
    },
    set usage(usage) {
      place.usage = usage
    },
    caller,
    async availableImage(name) {
      const id = String(imageCount++).padStart(17, 'a') as ImageId
      await catalog.rows
        .insertInto('image')
        .values({
          id,
          projectId: root.defaultProjectId,
          regionId: HOME,
          kind: 'custom',
          origin: 'import',
          name,
          description: '',
          tag: 'Default',
          osType: 'Linux',
          osName: '',
          state: 'available',
          taskId: null,
          digest: 'd'.repeat(64),
          reason: null,
          progressPermille: 1000,
          disks: JSON.stringify([{ index: 0, sizeBytes: 1024 ** 3 }]),
          dataBytes: 1,
          storedBytes: 1,
          movedBytes: 1,
          sourceMachineId: null,
          sourceImageId: null,
          createdAtMs: place.nowMs++,
          updatedAtMs: place.nowMs,
        })
        .execute()
      return id
    },
    async runningMachine(imageId) {
      const { machineIds } = await app.machines.create(root, newMachine(imageId))
      const [id] = machineIds
      if (id === undefined) throw new Error('one machine was asked for')
      await catalog.rows.updateTable('machine').set({ state: 'running' }).where('id', '=', id).execute()
      power.set(id, 'running')
      return id
    },
    async close() {
      await runner.close()
      await catalog.close()
    },
  }
}

export function newMachine(imageId: ImageId) {
  return {
    regionId: HOME,
    imageId,
    name: 'm',
    numberedNames: true,
    count: 1,
    cpuCount: 1,
    memoryBytes: 1024 ** 3,
    typeName: '',
    systemDiskCategory: '',
    dataDisks: [],
    tag: '',
    labels: [],
    details: {},
  }
}
