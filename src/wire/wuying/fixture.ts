import { createHash } from 'node:crypto'
import type {
  App,
  Caller,
  ImageFilter,
  Keyring,
  MachineBatch,
  MachineFilter,
  Page,
  Paging,
} from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import type { Digest, DiskId, ImageId, MachineId, ProjectId, RegionId, TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import { GIB, type Region } from '../../image/region.ts'
import type { Door, WireAnswer } from '../gateway-contract.ts'
import { createWuyingDoor } from './door.ts'
import { CREATED_AT_MS, type FakeKey, KEY, rpcRequest } from './fixture-requests.ts'

/** An application in memory that answers at once, for the tests of this door. */
export interface FakeApp extends App {
  /** Every call that reached the inside, as `images.capture`, with its input. */
  readonly calls: { readonly name: string; readonly caller: Caller; readonly input: unknown }[]
  readonly imageRows: Image[]
  readonly machineRows: Machine[]
  /** Thrown by the next calls, whichever they are, until it is undefined again. */
  failure: unknown
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

export function fakeCore<Kind extends ImageId | MachineId | DiskId>(label: string): Kind {
  const digits = createHash('sha256').update(label).digest('hex').slice(0, 17)
  return digits as Kind
}

export function fakeImage(name: string, change: Partial<Image> = {}): Image {
  return {
    id: fakeCore<ImageId>(name),
    projectId: 'org-main' as ProjectId,
    regionId: 'cn-hangzhou' as RegionId,
    kind: 'custom',
    origin: 'capture',
    name,
    description: '',
    tag: '',
    osType: 'Linux',
    osName: 'Debian 12',
    state: { at: 'available', digest: 'd'.repeat(64) as Digest },
    progressPermille: 1000,
    disks: [
      { index: 0, sizeBytes: 4 * GIB },
      { index: 1, sizeBytes: GIB + 1 },
    ],
    dataBytes: 0,
    storedBytes: 0,
    movedBytes: 0,
    sourceMachineId: undefined,
    sourceImageId: undefined,
    createdAtMs: CREATED_AT_MS,
    updatedAtMs: CREATED_AT_MS + 61_000,
    ...change,
  }
}

export function fakeMachine(name: string, change: Partial<Machine> = {}): Machine {
  return {
    id: fakeCore<MachineId>(name),
    projectId: 'org-main' as ProjectId,
    regionId: 'cn-hangzhou' as RegionId,
    zone: 'cn-hangzhou-a',
    name,
    tag: '',
    labels: [],
    state: 'running',
    reason: '',
    cpuCount: 2,
    memoryBytes: 4 * GIB,
    typeName: 'eds.general.2c4g',
    imageId: fakeCore<ImageId>('base'),
    imageName: 'base',
    osType: 'Linux',
    osName: 'Debian 12',
    disks: [
      {
        id: fakeCore<DiskId>(`${name}-0`),
        index: 0,
        sizeBytes: 4 * GIB,
        base: undefined,
        category: 'cloud_essd',
      },
    ],
    details: {},
    createdAtMs: CREATED_AT_MS,
    ...change,
  }
}

function pageOf<Item>(items: readonly Item[], { offset, limit }: Paging): Page<Item> {
  return { total: items.length, items: items.slice(offset, offset + limit) }
}

export function createFakeApp(): FakeApp {
  const calls: FakeApp['calls'][number][] = []
  const imageRows: Image[] = [fakeImage('base', { kind: 'base' })]
  const machineRows: Machine[] = []
  const taken = async (name: string, caller: Caller, input: unknown): Promise<void> => {
    if (app.failure !== undefined) throw app.failure
    calls.push({ name, caller, input })
  }
  const machinesOf = (batch: MachineBatch): void => {
    for (const id of batch.machineIds)
      if (!machineRows.some((machine) => machine.id === id && machine.regionId === batch.regionId))
        throw new Fault('absent', 'There is no such machine.', { subject: 'machine' })
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
    failure: undefined,
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
        return { imageId: fakeCore<ImageId>(`image-${calls.length}`), taskId: 't'.repeat(17) as TaskId }
      },
      copy: never,
      import: never,
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
    machines: {
      async create(caller, input) {
        await taken('machines.create', caller, input)
        const ids = Array.from({ length: input.count }, (_, i) => fakeCore<MachineId>(`new-${i}`))
        return { machineIds: ids, taskIds: [] }
      },
      async list(caller, filter, paging) {
        await taken('machines.list', caller, { filter, paging })
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
    tasks: { list: never, get: never, wait: never, cancel: never, verify: never },
    store: { collect: never, scrub: never, usage: never },
  }
  return app
}

function imageMatches(image: Image, filter: ImageFilter): boolean {
  return (
    image.regionId === filter.regionId &&
    (filter.ids?.includes(image.id) ?? true) &&
    (filter.kinds?.includes(image.kind) ?? true) &&
    (filter.states?.includes(image.state.at) ?? true) &&
    (filter.osType ?? image.osType) === image.osType &&
    (filter.name ?? image.name) === image.name
  )
}

function machineMatches(machine: Machine, filter: MachineFilter): boolean {
  return (
    machine.regionId === filter.regionId &&
    (filter.ids?.includes(machine.id) ?? true) &&
    (filter.states?.includes(machine.state) ?? true) &&
    (filter.imageIds?.includes(machine.imageId) ?? true) &&
    (filter.name ?? machine.name) === machine.name &&
    (filter.labels ?? []).every(({ key, value }) =>
      machine.labels.some((label) => label.key === key && (value ?? label.value) === label.value),
    )
  )
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
  readonly door: Required<Door>
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
