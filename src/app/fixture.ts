import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import type { Host, MachinePower, Outlook } from '../host/contract.ts'
import type { SignedReport } from '../image/cleaning.ts'
import { Fault } from '../image/fault.ts'
import type { Digest, DiskId, ImageId, MachineId, RegionId, SnapshotId } from '../image/ids.ts'
import { TASK_KINDS } from '../image/task.ts'
import type { PeerImage } from '../peers/contract.ts'
import { createEventLog } from '../tasks/events.ts'
import { insertSnapshot } from '../tasks/new-snapshot.ts'
import { createRunner, type Runner, type TaskDefinition } from '../tasks/runner.ts'
import type { PullEstimate, RegionUsage } from '../tasks/store-jobs.ts'
import { createApp } from './app.ts'
import type { App, Caller, Keyring, NewMachine } from './contract.ts'
import { findMachine } from './find.ts'
import { ensureRoot } from './first-start.ts'
import type { Parts } from './parts.ts'

export const HOME = 'cn-hangzhou' as RegionId
export const AWAY = 'hk' as RegionId
export const FAR = 'sg' as RegionId

/** The use cases over a catalog in memory, with tasks that wait for the test to end them. */
const TRANSFERS: Parts['transfers'] = {
  fetcher: { check: async ({ url }) => url },
  seal: { seal: (source) => JSON.stringify(source) },
  ...{ diskBytesMax: 2 ** 40, uploadMs: 3_600_000, linkMs: 3_600_000, uploadsPerProjectMax: 5 },
  describeSelf: async (regionId, pages) => JSON.stringify({ regionId, pages }),
  signer: async () => 'ab'.repeat(32),
  readInventory: async () => ({ pages: [], recipient: '' }),
}

const COPIES: Parts['copies'] = {
  ...{ acrossProjects: 'reference', repeatMs: 600_000, pausedMs: undefined, atOnce: 4 },
  limitOf: () => undefined,
}

export interface AppPlace {
  readonly app: App
  readonly keyring: Keyring
  /** Takes away what time is over of. */
  readonly sweep: () => Promise<void>
  readonly catalog: Catalog
  readonly runner: Runner
  readonly root: Caller
  readonly power: Map<string, MachinePower>
  /** What the host says can be had of every machine; a fault, if it is away. */
  outlook: () => Omit<Outlook, 'power'>
  nowMs: number
  /** What every region's store says of itself. */
  usage: RegionUsage
  /** What every image's store says was cleaned out of it. */
  report: SignedReport | undefined
  /** What a copy into that region would move. */
  pulls: (regionId: string) => Promise<PullEstimate>
  /** What a peer of that name says of an image. */
  peerImage: (...asked: readonly string[]) => Promise<PeerImage>
  /** Images that the stores do not have whole, and who says so. */
  readonly damaged: Set<Digest>
  readonly sources: Parts['sources']
  /** May be changed between two calls. */
  readonly copies: { -readonly [Setting in keyof Parts['copies']]: Parts['copies'][Setting] }
  caller(keyId: string, door?: Caller['door']): Promise<Caller>
  /** Writes what a task would have: an available image, a running machine. */
  availableImage(name: string): Promise<ImageId>
  runningMachine(imageId: ImageId, input?: Partial<NewMachine>): Promise<MachineId>
  /** An available snapshot of the machine's disk of that index. */
  availableSnapshot(
    machineId: MachineId,
    diskIndex: number,
    row?: { readonly name?: string; readonly imageId?: ImageId; readonly dataBytes?: number },
  ): Promise<{ readonly snapshotId: SnapshotId; readonly digest: string; readonly diskId: DiskId }>
  close(): Promise<void>
}

export async function newAppPlace(
  options: {
    readonly imagesPerRegionMax?: number
    readonly snapshotsPerRegionMax?: number
    readonly importDirectory?: string
    readonly secrets?: 'report' | 'refuse'
    /** Stores that are there, for what goes further than the catalog. */
    readonly jobs?: Parts['jobs']
  } = {},
): Promise<AppPlace> {
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
    outlook: (): Omit<Outlook, 'power'> => ({ consistency: 'application', consistencyWhy: '' }),
    usage: { packBytes: 0, liveBytes: 0, reclaimableBytes: 0, condemnedBytes: 0, images: [] } as RegionUsage,
    report: undefined as SignedReport | undefined,
    pulls: async (_regionId: string): Promise<PullEstimate> => ({
      ...{ missingBytes: 0, savedBytes: 0, resumedBytes: 0 },
    }),
    peerImage: async (..._asked: readonly string[]): Promise<PeerImage> => {
      throw new Fault('absent', 'There is no such peer.', { subject: 'peer' })
    },
    damaged: new Set<Digest>(),
    sources: {
      async refuseDamaged(_regionId, digest) {
        if (!place.damaged.has(digest)) return
        const message = 'The image is damaged. Have it repaired.'
        throw new Fault('corrupt', message, { subject: 'image', reason: 'damaged' })
      },
    } satisfies Parts['sources'],
    copies: { ...COPIES },
  }
  const clock = () => place.nowMs
  const events = createEventLog({ catalog, clock })
  const runner = createRunner({ catalog, definitions: waiting, clock, events, log: () => {} })
  // Only these are asked of a host by the use cases that the tests call.
  const host = {
    traits: { name: 'simulated', starts: true, hasConsole: true },
    power: async (id: string) => power.get(id) ?? 'absent',
    outlook: async (id: string) => ({ power: power.get(id) ?? 'absent', ...place.outlook() }),
  } as unknown as Host
  // What goes further than the catalog is tried over real stores.
  const fakeJobs = {
    usage: async () => place.usage,
    report: async () => place.report,
    freeBytes: async () => undefined,
    abort: async () => {},
    exportSize: async () => 4096,
    planPull: async ({ targetRegionId }: { targetRegionId: string }) => place.pulls(targetRegionId),
  } as unknown as Parts['jobs']
  const { keyId } = await ensureRoot(catalog, undefined, place.nowMs)
  const { app, keyring, sweep } = createApp({
    catalog,
    host,
    runner,
    clock,
    regions: [
      { id: HOME, localName: '杭州', englishName: 'Hangzhou', zones: ['cn-hangzhou-h'] },
      { id: AWAY, localName: '香港', englishName: 'Hong Kong', zones: ['hk-01'] },
      { id: FAR, localName: '新加坡', englishName: 'Singapore', zones: ['sg-01'] },
    ],
    defaultRegionId: HOME,
    imagesPerRegionMax: options.imagesPerRegionMax ?? 10,
    snapshotsPerRegionMax: options.snapshotsPerRegionMax ?? 100,
    importDirectory: options.importDirectory ?? '/nonexistent',
    jobs: options.jobs ?? fakeJobs,
    transfers: TRANSFERS,
    events,
    webhooks: {
      check: async (url) => url,
      seal: { seal: (secret) => JSON.stringify(secret) },
      changed: () => {},
    },
    copies: place.copies,
    sources: place.sources,
    peers: { known: [], image: (name, regionId, imageId) => place.peerImage(name, regionId, imageId) },
    secrets: options.secrets ?? 'report',
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
  let snapshotCount = 0
  return {
    app,
    keyring,
    sweep,
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
    get outlook() {
      return place.outlook
    },
    set outlook(outlook) {
      place.outlook = outlook
    },
    get usage() {
      return place.usage
    },
    set usage(usage) {
      place.usage = usage
    },
    get report() {
      return place.report
    },
    set report(report) {
      place.report = report
    },
    get pulls() {
      return place.pulls
    },
    set pulls(pulls) {
      place.pulls = pulls
    },
    get peerImage() {
      return place.peerImage
    },
    set peerImage(peerImage) {
      place.peerImage = peerImage
    },
    copies: place.copies,
    ...{ damaged: place.damaged, sources: place.sources },
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
          ...{ config: null, consistency: null, parent: null },
          createdAtMs: place.nowMs++,
          updatedAtMs: place.nowMs,
        })
        .execute()
      return id
    },
    async runningMachine(imageId, input = {}) {
      const { machineIds } = await app.machines.create(root, { ...newMachine(imageId), ...input })
      const [id] = machineIds
      if (id === undefined) throw new Error('one machine was asked for')
      await catalog.rows.updateTable('machine').set({ state: 'running' }).where('id', '=', id).execute()
      power.set(id, 'running')
      return id
    },
    async availableSnapshot(machineId, diskIndex, { name = 's', imageId, dataBytes = 1 } = {}) {
      const projectId = root.defaultProjectId
      const machine = await findMachine(catalog.rows, { regionId: HOME, projectId, machineId })
      const disk = machine.disks[diskIndex]
      if (disk === undefined) throw new Error('the machine has such a disk')
      place.nowMs++
      const limits = { snapshotsPerRegionMax: 1000, clock }
      const snapshotId = await insertSnapshot(
        catalog.rows,
        { projectId, machine, disk, name, creator: 'root', imageId },
        limits,
      )
      const digest = String(snapshotCount++).padStart(64, 'e')
      const made = {
        state: 'available',
        digest,
        dataBytes,
        progressPermille: 1000,
        consistency: 'filesystem',
      }
      await catalog.rows.updateTable('snapshot').set(made).where('id', '=', snapshotId).execute()
      return { snapshotId, digest, diskId: disk.id }
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
