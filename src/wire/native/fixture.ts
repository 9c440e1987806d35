import type { App, Caller, CaptureReport, Keyring } from '../../app/contract.ts'
import { reportOf } from '../../cleaning/fixture.ts'
import { CONSOLE_ANSWER_BYTES_MAX } from '../../host/contract.ts'
import { Fault } from '../../image/fault.ts'
import {
  type Digest,
  type ImageId,
  type MachineId,
  newId,
  type ProjectId,
  type RegionId,
  type SnapshotId,
  type SnapshotPolicyId,
  type TaskId,
} from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import type { Region } from '../../image/region.ts'
import type { Snapshot, SnapshotPolicy } from '../../image/snapshot.ts'
import type { Task, TaskKind } from '../../image/task.ts'
import { type CleaningTold, createFakeCleaning } from './fixture-cleaning.ts'
import { type CopiesTold, createFakeCopies } from './fixture-copies.ts'
import { createFakeFollowing, type FollowingHeld } from './fixture-following.ts'
import {
  COLLECTED,
  fakeImage,
  fakeMachine,
  fakeUsage,
  NOW_MS,
  PLANNED,
  PROJECT,
  SCRUBBED,
} from './fixture-nouns.ts'
import { createFakeKeyring } from './fixture-request.ts'
import { createFakeSnapshots } from './fixture-snapshots.ts'
import { createFakeTransfers, type TransfersHeld } from './fixture-transfers.ts'

// An App and Keyring in memory for the tests of the native door and of the command line: every call is recorded,
// a task goes a quarter of its way each time somebody waits for it.

const REGIONS: readonly Region[] = [
  { id: 'cn-hangzhou' as RegionId, localName: '杭州', englishName: 'Hangzhou', zones: ['cn-hangzhou-h'] },
  { id: 'hk' as RegionId, localName: '香港', englishName: 'Hong Kong', zones: ['hk-01', 'hk-02'] },
]
const TASK_BYTES = 4096

export interface FakeApp {
  readonly app: App
  readonly keyring: Keyring
  /** Name and input of every call, in order. */
  readonly calls: {
    readonly name: string
    readonly input: unknown
    /** Undefined for what a token opens. */
    readonly caller: Caller | undefined
  }[]
  readonly images: Map<ImageId, Image>
  readonly machines: Map<MachineId, Machine>
  readonly snapshots: Map<SnapshotId, Snapshot>
  readonly policies: Map<SnapshotPolicyId, SnapshotPolicy>
  readonly tasks: Map<TaskId, Task>
  /** What the next look at a machine finds. */
  plan: CaptureReport
  /** What cleaning tells. */
  readonly cleaning: CleaningTold
  /** What plans of copies and peers tell. */
  readonly copies: CopiesTold
  /** What happened, and who is told. */
  readonly following: FollowingHeld
  /** What was uploaded, and what is handed out. */
  readonly transfers: TransfersHeld
  /** What a capture tells of itself when it is done. */
  captured: Readonly<Record<string, unknown>>
  /** What the console of every machine says; writing to it echoes here. */
  console: Buffer
  /** The next call of this name throws this. */
  failNext(name: string, error: unknown): void
  /** When set, a task ends as failed with this reason instead of being done. */
  taskFailure: string | undefined
  /** While true, nothing changes and every wait lasts. */
  frozen: boolean
}

export function createFakeApp(): FakeApp {
  const failures = new Map<string, unknown>()
  const images = new Map<ImageId, Image>()
  const machines = new Map<MachineId, Machine>()
  const tasks = new Map<TaskId, Task>()
  const calls: FakeApp['calls'] = []

  async function called(name: string, caller: Caller | undefined, input: unknown): Promise<void> {
    calls.push({ name, caller, input })
    if (!failures.has(name)) return
    const error = failures.get(name)
    failures.delete(name)
    throw error
  }
  const absent = (subject: 'image' | 'machine' | 'snapshot' | 'snapshot-policy' | 'task') =>
    new Fault('absent', `There is no such ${subject}. List them.`, { subject })
  const getMachine = (id: MachineId) => {
    const machine = machines.get(id)
    if (machine === undefined) throw absent('machine')
    return machine
  }
  const setMachine = (id: MachineId, state: Machine['state']) =>
    machines.set(id, { ...getMachine(id), state })

  function begin(kind: TaskKind, parts: Partial<Task> = {}): TaskId {
    const id = newId('task')
    tasks.set(id, {
      id,
      parentId: undefined,
      kind,
      projectId: PROJECT,
      regionId: 'cn-hangzhou' as RegionId,
      state: { at: 'queued' },
      imageId: undefined,
      snapshotId: undefined,
      machineId: undefined,
      doneBytes: 0,
      totalBytes: TASK_BYTES,
      ...{ movedBytes: 0, savedBytes: 0, bytesPerSecond: undefined, etaMs: undefined },
      ...{ priority: 5, deadlineAtMs: undefined, lastReason: undefined },
      attemptCount: 1,
      output: {},
      createdAtMs: NOW_MS,
      startedAtMs: NOW_MS,
      endedAtMs: undefined,
      ...parts,
    })
    return id
  }

  function end(task: Task): Task {
    const { taskFailure } = fake
    const state =
      taskFailure === undefined
        ? ({ at: 'done' } as const)
        : ({ at: 'failed', kind: 'full', reason: taskFailure } as const)
    const made = { at: 'available', digest: 'cd'.repeat(32) as Digest } as const
    const lost = { at: 'failed', reason: taskFailure ?? '' } as const
    const ended = { progressPermille: 1000, state: taskFailure === undefined ? made : lost }
    const isOfTask = ({ state }: Image | Snapshot) => state.at === 'creating' && state.taskId === task.id
    for (const image of images.values()) if (isOfTask(image)) images.set(image.id, { ...image, ...ended })
    for (const one of snapshots.values()) if (isOfTask(one)) snapshots.set(one.id, { ...one, ...ended })
    if (task.machineId !== undefined) setMachine(task.machineId, 'running')
    return { ...task, state, endedAtMs: NOW_MS + 1000 }
  }

  function advance(id: TaskId): Task {
    const task = tasks.get(id)
    if (task === undefined) throw absent('task')
    if (task.endedAtMs !== undefined || task.state.at === 'paused' || fake.frozen) return task
    const doneBytes = Math.min(task.totalBytes, task.doneBytes + TASK_BYTES / 4)
    const moved: Task = { ...task, doneBytes, state: { at: 'running', step: 'read' } }
    const next = doneBytes === task.totalBytes ? end(moved) : moved
    tasks.set(id, next)
    return next
  }

  const page = <Item>(items: readonly Item[], { offset, limit }: { offset: number; limit: number }) => ({
    total: items.length,
    items: items.slice(offset, offset + limit),
  })

  const made = createFakeSnapshots({ called, begin, absent, page })
  const { snapshots, policies } = made
  const cleaned = createFakeCleaning({ called, begin, images })
  const copied = createFakeCopies({ called, begin, images, tasks })
  const followed = createFakeFollowing({ called, page })
  const transfers = createFakeTransfers({ called, begin, images })

  const app: App = {
    ...made.app,
    ...transfers.app,
    ...followed.app,
    peers: copied.app.peers,
    regions: {
      async list(caller) {
        await called('regions.list', caller, undefined)
        return REGIONS
      },
      default: () => ({ regionId: 'cn-hangzhou' as RegionId, zone: 'cn-hangzhou-h' }),
      get(id) {
        const region = REGIONS.find((one) => one.id === id)
        if (region === undefined)
          throw new Fault('absent', `There is no region '${id}'. There are cn-hangzhou, hk.`, {
            subject: 'region',
          })
        return region
      },
    },
    projects: {
      async list(caller) {
        await called('projects.list', caller, undefined)
        return [{ id: PROJECT, name: 'Default', isDefault: true, createdAtMs: NOW_MS, memberCount: 1 }]
      },
      async create(caller, name) {
        await called('projects.create', caller, name)
        return { projectId: 'org-second' as ProjectId }
      },
      async setQuota(caller, projectId, quotaBytes) {
        await called('projects.setQuota', caller, { projectId, quotaBytes })
        return { chargedBytes: 4096 }
      },
    },
    users: {
      async create(caller, name) {
        await called('users.create', caller, name)
        return { keyId: 'AKNEW', secret: 'shown once' }
      },
      putPolicy: (caller, name, document) => called('users.putPolicy', caller, { name, document }),
      attach: (caller, user, policy, projectId) =>
        called('users.attach', caller, { user, policy, projectId }),
    },
    images: {
      ...cleaned.app,
      ...copied.app.images,
      async capture(caller, input) {
        await called('images.capture', caller, input)
        const { name, regionId, machineId, linkedDiskIds = [] } = input
        const imageId = newId('image')
        const taskId = begin('capture-image', { imageId, output: fake.captured })
        const snapshotIds = linkedDiskIds.map((diskId) => made.add({ imageId, machineId, diskId }, taskId))
        const state = { at: 'creating', taskId } as const
        images.set(
          imageId,
          fakeImage({
            id: imageId,
            regionId,
            state,
            name: name ?? 'unnamed',
            progressPermille: 0,
            snapshotIds,
          }),
        )
        return { imageId, taskId, snapshotIds }
      },
      async plan(caller, input) {
        await called('images.plan', caller, input)
        const cleaning = input.clean ? reportOf({ wish: input.clean, isDryRun: true }) : null
        return { taskId: begin('plan-capture', { output: { ...fake.plan, cleaning } }) }
      },
      async compose(caller, input) {
        await called('images.compose', caller, input)
        const imageId = newId('image')
        const taskId = begin('compose-image', { imageId, totalBytes: 0 })
        const { regionId, name = 'composed' } = input
        const state = { at: 'creating', taskId } as const
        images.set(imageId, fakeImage({ id: imageId, regionId, state, name, origin: 'compose' }))
        return { imageId, taskId }
      },
      async lineage(caller, where) {
        await called('images.lineage', caller, where)
        const parent = images.get(where.imageId)?.parent
        return parent === undefined ? [] : [{ id: undefined, digest: parent, name: 'base' }]
      },
      async import(caller, input) {
        await called('images.import', caller, input)
        const imageId = newId('image')
        const taskId = begin('import-image', { imageId })
        const state = { at: 'creating', taskId } as const
        const { regionId, name } = input
        images.set(imageId, fakeImage({ id: imageId, regionId, state, name, origin: 'import' }))
        return { imageId, taskId }
      },
      async list(caller, filter, paging) {
        await called('images.list', caller, filter)
        const found = [...images.values()].filter(
          (one) =>
            one.regionId === filter.regionId &&
            (filter.ids?.includes(one.id) ?? true) &&
            (filter.name === undefined || filter.name === one.name),
        )
        return page(found, paging)
      },
      async get(caller, where) {
        await called('images.get', caller, where)
        const image = images.get(where.imageId)
        if (image === undefined || image.regionId !== where.regionId) throw absent('image')
        return image
      },
      async remove(caller, input) {
        await called('images.remove', caller, input)
        for (const id of input.imageIds) if (!images.delete(id)) throw absent('image')
      },
    },
    machines: {
      async create(caller, input) {
        await called('machines.create', caller, input)
        const made = Array.from({ length: input.count }, () => {
          const { regionId, imageId, name } = input
          const machine = fakeMachine({ regionId, imageId, name, state: 'creating' })
          machines.set(machine.id, machine)
          return {
            machineId: machine.id,
            taskId: begin('launch-machine', { machineId: machine.id, totalBytes: 0 }),
          }
        })
        return { machineIds: made.map((one) => one.machineId), taskIds: made.map((one) => one.taskId) }
      },
      async list(caller, filter, paging) {
        await called('machines.list', caller, filter)
        const found = [...machines.values()].filter(
          (one) => one.regionId === filter.regionId && (filter.ids?.includes(one.id) ?? true),
        )
        return page(found, paging)
      },
      async start(caller, input) {
        await called('machines.start', caller, input)
        for (const id of input.machineIds) setMachine(id, 'running')
      },
      async stop(caller, input) {
        await called('machines.stop', caller, input)
        for (const id of input.machineIds) setMachine(id, 'stopped')
      },
      async remove(caller, input) {
        await called('machines.remove', caller, input)
        for (const id of input.machineIds) if (!machines.delete(id)) throw absent('machine')
      },
      async readConsole(caller, where) {
        await called('machines.readConsole', caller, where)
        const { fromByte } = where
        return { fromByte, bytes: fake.console.subarray(fromByte, fromByte + CONSOLE_ANSWER_BYTES_MAX) }
      },
      async writeConsole(caller, where) {
        await called('machines.writeConsole', caller, where)
        fake.console = Buffer.concat([fake.console, where.bytes])
      },
    },
    tasks: {
      ...copied.app.tasks,
      async list(caller, filter, paging) {
        await called('tasks.list', caller, filter)
        const { states } = filter
        const items = [...tasks.values()].filter(({ state }) => states?.includes(state.at) ?? true)
        return page(items, paging)
      },
      async get(caller, id) {
        await called('tasks.get', caller, id)
        const task = tasks.get(id)
        if (task === undefined) throw absent('task')
        return task
      },
      async wait(caller, id, waitMs) {
        await called('tasks.wait', caller, { id, waitMs })
        if (fake.frozen) await new Promise<void>(() => undefined)
        return advance(id)
      },
      async cancel(caller, id) {
        await called('tasks.cancel', caller, id)
        const task = tasks.get(id)
        if (task === undefined) throw absent('task')
        tasks.set(id, { ...task, state: { at: 'cancelled' }, endedAtMs: NOW_MS })
      },
      async verify(caller, input) {
        await called('tasks.verify', caller, input)
        const taskIds = input.regionIds.map((regionId) => begin('verify-region', { regionId }))
        return { taskIds }
      },
    },
    store: {
      async collect(caller, input) {
        await called('store.collect', caller, input)
        const output = { ...COLLECTED, isDryRun: input.isDryRun }
        return { taskIds: input.regionIds.map((regionId) => begin('collect-garbage', { regionId, output })) }
      },
      async scrub(caller, input) {
        await called('store.scrub', caller, input)
        const output = { ...SCRUBBED, isRepairing: input.repair }
        return { taskIds: input.regionIds.map((regionId) => begin('scrub-region', { regionId, output })) }
      },
      async usage(caller, input) {
        await called('store.usage', caller, input)
        return fakeUsage(input.regionIds)
      },
    },
  }

  const fake: FakeApp = {
    app,
    keyring: createFakeKeyring(),
    calls,
    images,
    machines,
    snapshots,
    policies,
    tasks,
    plan: PLANNED,
    cleaning: cleaned.told,
    copies: copied.told,
    following: followed.held,
    transfers: transfers.held,
    captured: {},
    console: Buffer.from('login: '),
    failNext: (name, error) => failures.set(name, error),
    taskFailure: undefined,
    frozen: false,
  }
  return fake
}
