import type { App, Caller, Keyring, MachineBatch, Page, Paging } from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import type { ImageId, MachineId, ProjectId, RegionId, SnapshotId, TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import type { Region } from '../../image/region.ts'
import type { Snapshot } from '../../image/snapshot.ts'
import type { Door, WireAnswer } from '../gateway-contract.ts'
import { createWuyingDoor } from './door.ts'
import { CREATED_AT_MS, type FakeKey, KEY, rpcRequest } from './fixture-requests.ts'
import { fakeCore, fakeImage, imageMatches, machineMatches, snapshotMatches } from './fixture-things.ts'

/** An application in memory that answers at once, for the tests of this door. */
export interface FakeApp extends App {
  /** Every call that reached the inside, as `images.capture`, with its input. */
  readonly calls: { readonly name: string; readonly caller: Caller; readonly input: unknown }[]
  readonly imageRows: Image[]
  readonly machineRows: Machine[]
  readonly snapshotRows: Snapshot[]
  /** Thrown by the next calls, whichever they are, until it is undefined again. */
  failure: unknown
  /** True: the caller may not see machines. */
  machinesDenied: boolean
}

const REGIONS: readonly Region[] = [
  {
    id: 'cn-hangzhou' as RegionId,
    localName: '华东 1（杭州）',
    englishName: 'Hangzhou',
    zones: ['cn-hangzhou-a'],
  },
  {
    id: 'cn-shanghai' as RegionId,
    localName: '华东 2（上海）',
    englishName: 'Shanghai',
    zones: ['cn-shanghai-a'],
  },
]

const TASK_ID = 't'.repeat(17) as TaskId

function pageOf<Item>(items: readonly Item[], { offset, limit }: Paging): Page<Item> {
  return { total: items.length, items: items.slice(offset, offset + limit) }
}

export function createFakeApp(): FakeApp {
  const calls: FakeApp['calls'][number][] = []
  const imageRows: Image[] = [fakeImage('base', { kind: 'base' })]
  const machineRows: Machine[] = []
  const snapshotRows: Snapshot[] = []
  const taken = async (name: string, caller: Caller, input: unknown): Promise<void> => {
    if (app.failure !== undefined) throw app.failure
    calls.push({ name, caller, input })
  }
  const machinesOf = (batch: MachineBatch): void => {
    for (const id of batch.machineIds)
      if (!machineRows.some((machine) => machine.id === id && machine.regionId === batch.regionId))
        throw new Fault('absent', 'There is no such machine.', { subject: 'machine' })
  }
  const snapshotOf = (id: SnapshotId): Snapshot => {
    const snapshot = snapshotRows.find((candidate) => candidate.id === id)
    if (snapshot === undefined)
      throw new Fault('absent', 'There is no such snapshot.', { subject: 'snapshot' })
    return snapshot
  }
  const imageOf = (where: { readonly regionId: RegionId; readonly imageId: ImageId }): Image => {
    const image = imageRows.find(({ id, regionId }) => id === where.imageId && regionId === where.regionId)
    if (image === undefined) throw new Fault('absent', 'There is no such image.', { subject: 'image' })
    return image
  }
  const never = (): never => {
    throw new Error('This door never asks for it.')
  }
  const batch =
    (name: string) =>
    async (caller: Caller, input: MachineBatch): Promise<void> => {
      await taken(name, caller, input)
      machinesOf(input)
    }
  const app: FakeApp = {
    calls,
    imageRows,
    machineRows,
    snapshotRows,
    failure: undefined,
    machinesDenied: false,
    regions: {
      async list(caller) {
        await taken('regions.list', caller, {})
        return REGIONS
      },
      default: () => ({ regionId: 'cn-hangzhou' as RegionId, zone: 'cn-hangzhou-a' }),
      get(id) {
        const region = REGIONS.find((candidate) => candidate.id === id)
        if (region === undefined)
          throw new Fault('absent', `There is no region '${id}'.`, { subject: 'region' })
        return region
      },
    },
    projects: { list: never, create: never, setQuota: never },
    users: { create: never, putPolicy: never, attach: never },
    images: {
      async capture(caller, input) {
        await taken('images.capture', caller, input)
        machinesOf({ regionId: input.regionId, machineIds: [input.machineId] })
        return { imageId: fakeCore<ImageId>(`image-${calls.length}`), taskId: TASK_ID, snapshotIds: [] }
      },
      lineage: never,
      plan: never,
      clean: never,
      planClean: never,
      report: never,
      async compose(caller, input) {
        await taken('images.compose', caller, input)
        for (const id of input.snapshotIds) snapshotOf(id)
        return { imageId: fakeCore<ImageId>(`image-${calls.length}`), taskId: TASK_ID }
      },
      async copy(caller, input) {
        await taken('images.copy', caller, input)
        const source = imageOf(input)
        if (source.kind === 'base')
          throw new Fault('invalid', 'It is a base image.', { subject: 'image', reason: 'not-custom' })
        if (source.state.at !== 'available')
          throw new Fault('conflict', 'It is not available.', { subject: 'image' })
        const copies = input.targetRegionIds.map((regionId) => {
          const copy = fakeImage(`copy-${calls.length}-${regionId}`, {
            ...{ regionId, origin: 'copy', name: input.name ?? source.name },
            ...{ state: { at: 'creating', taskId: TASK_ID }, progressPermille: 0 },
          })
          imageRows.push(copy)
          return { regionId, imageId: copy.id, taskId: TASK_ID }
        })
        return { taskId: TASK_ID, copies }
      },
      planCopy: never,
      async cancelCopy(caller, input) {
        await taken('images.cancelCopy', caller, input)
        const { origin, state, id } = imageOf(input)
        if (origin !== 'copy')
          throw new Fault('invalid', 'It is no copy.', { subject: 'image', reason: 'not-a-copy' })
        if (state.at === 'available') throw new Fault('conflict', 'It is made already.', { subject: 'image' })
        imageRows.splice(
          imageRows.findIndex((image) => image.id === id),
          1,
        )
      },
      async import(caller, input) {
        await taken('images.import', caller, input)
        return { imageId: fakeCore<ImageId>(`image-${calls.length}`), taskId: TASK_ID }
      },
      async list(caller, filter, paging) {
        await taken('images.list', caller, { filter, paging })
        return pageOf(
          imageRows.filter((image) => imageMatches(image, filter)),
          paging,
        )
      },
      get: never,
      copyProgress: never,
      async remove(caller, input) {
        await taken('images.remove', caller, input)
        for (const id of input.imageIds) {
          const image = imageRows.find((candidate) => candidate.id === id)
          if (image === undefined) throw new Fault('absent', 'There is no such image.', { subject: 'image' })
          if (image.kind === 'base')
            throw new Fault('invalid', 'It is a base image.', { subject: 'image', reason: 'not-custom' })
        }
      },
    },
    snapshots: {
      async create(caller, input) {
        await taken('snapshots.create', caller, input)
        machinesOf({ regionId: input.regionId, machineIds: [input.machineId] })
        return { snapshotId: fakeCore<SnapshotId>(`snapshot-${calls.length}`), taskId: TASK_ID }
      },
      async list(caller, filter, paging) {
        await taken('snapshots.list', caller, { filter, paging })
        return pageOf(
          snapshotRows.filter((snapshot) => snapshotMatches(snapshot, filter)),
          paging,
        )
      },
      async remove(caller, input) {
        await taken('snapshots.remove', caller, input)
        for (const id of input.snapshotIds) {
          const snapshot = snapshotRows.find((candidate) => candidate.id === id)
          if (snapshot?.imageId !== undefined)
            throw new Fault('conflict', 'It belongs to an image.', { subject: 'snapshot', reason: 'linked' })
        }
      },
      async reset(caller, input) {
        await taken('snapshots.reset', caller, input)
        const { machineId } = snapshotOf(input.snapshotId)
        machinesOf({ regionId: input.regionId, machineIds: [machineId] })
        return { taskId: TASK_ID }
      },
    },
    snapshotPolicies: { create: never, list: never, change: never, remove: never },
    machines: {
      async create(caller, input) {
        await taken('machines.create', caller, input)
        const ids = Array.from({ length: input.count }, (_, i) => fakeCore<MachineId>(`new-${i}`))
        return { machineIds: ids, taskIds: [] }
      },
      async list(caller, filter, paging) {
        await taken('machines.list', caller, { filter, paging })
        if (app.machinesDenied) throw new Fault('denied', 'No.', { subject: 'policy', reason: 'implicit' })
        return pageOf(
          machineRows.filter((machine) => machineMatches(machine, filter)),
          paging,
        )
      },
      start: batch('machines.start'),
      stop: batch('machines.stop'),
      remove: batch('machines.remove'),
      readConsole: never,
      writeConsole: never,
    },
    tasks: {
      ...{ list: never, get: never, wait: never, cancel: never, verify: never },
      ...{ change: never, retry: never },
    },
    events: { list: never },
    webhooks: { create: never, list: never, change: never, remove: never },
    replication: { create: never, list: never, get: never, change: never, remove: never },
    peers: { list: never },
    store: { collect: never, scrub: never, usage: never },
    uploads: {
      ...{ create: never, list: never, get: never, remove: never },
      ...{ find: never, receive: never, abandon: never },
    },
    exports: { create: never, open: never, inventory: never },
  }
  return app
}

export interface FakeKeyring extends Keyring {
  readonly nonces: Map<string, number>
}

export function createFakeKeyring(keys: readonly FakeKey[]): FakeKeyring {
  const nonces = new Map<string, number>()
  return {
    nonces,
    async find(keyId) {
      const key = keys.find((candidate) => candidate.keyId === keyId)
      return key && { secret: key.secret, isActive: key.isActive ?? true, userId: `user-of-${keyId}` }
    },
    async useNonce(keyId, nonce, expiresAtMs) {
      const name = `${keyId} ${nonce}`
      if (nonces.has(name)) return false
      nonces.set(name, expiresAtMs)
      return true
    },
    async caller(userId, door, request) {
      return {
        accountId: '1000000000000001',
        userId,
        userName: 'tester',
        isRoot: false,
        defaultProjectId: 'org-main' as ProjectId,
        door,
        ...request,
      }
    },
  }
}

export interface Bench {
  readonly door: Required<Pick<Door, 'handle' | 'refuse'>>
  readonly app: FakeApp
  readonly keyring: FakeKeyring
  readonly bugs: unknown[]
  /** The clock of the door, to be set. */
  nowMs: number
  /** Asks with the older scheme, all parameters in the query. */
  ask(action: string, parameters?: Record<string, string>): Promise<WireAnswer>
}

/** A door over the fakes, with one good key unless others are given. */
export function createBench(keys: readonly FakeKey[] = [KEY]): Bench {
  const app = createFakeApp()
  const keyring = createFakeKeyring(keys)
  const bugs: unknown[] = []
  const bench: Bench = {
    app,
    keyring,
    bugs,
    nowMs: CREATED_AT_MS,
    door: createWuyingDoor({
      app,
      keyring,
      clock: () => bench.nowMs,
      onBug: (error) => bugs.push(error),
    }),
    ask: (action, parameters = {}) => bench.door.handle(rpcRequest(action, parameters)),
  }
  return bench
}
