import assert from 'node:assert/strict'
import type { App, Caller, Keyring } from '../../app/contract.ts'
import { PLAIN_CONFIG } from '../../image/config.ts'
import { Fault } from '../../image/fault.ts'
import type { DiskId, ImageId, MachineId, ProjectId, RegionId, SnapshotId, TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import { GIB, type Region } from '../../image/region.ts'
import type { WireRequest } from '../gateway-contract.ts'
import type { JsonNode } from '../strict-json.ts'
import { createUhostDoor, type UhostDoorSettings } from './door.ts'
import { signText, textToSign } from './signature.ts'

/** A door over an app that answers what a test tells it and remembers what it was asked. */

export const PUBLIC_KEY = 'ucloudsomeone@example.com1296235120854146120'
export const PRIVATE_KEY = '46f09bb9fab4f12dfc160dae12273d5332b5debe'
export const REQUEST_ID = '7B1A3F7C-0B5D-4D0B-9E53-0D9C3B1F6A11'
export const NOW_MS = 1_750_000_000_000

export const REGIONS: readonly Region[] = [
  region('cn-bj2', 'Beijing', ['cn-bj2-02', 'cn-bj2-05']),
  region('hk', 'Hong Kong', ['hk-02']),
  region('cn-sh2', 'Shanghai', ['cn-sh2-01']),
]

export const IMAGE_ID = 'uimage-0123456789abcdefg'
export const MACHINE_ID = 'uhost-abcdefg0123456789'
export const PROJECT_ID = 'org-src001'
export const DISK_ID = 'bs-d1111111111111111'
export const SNAPSHOT_ID = 'bsSnap-50000000000000000'

export function image(change: Partial<Image> = {}): Image {
  return {
    id: '0123456789abcdefg' as ImageId,
    projectId: PROJECT_ID as ProjectId,
    regionId: 'cn-bj2' as RegionId,
    kind: 'custom',
    origin: 'capture',
    name: 'golden-1',
    description: 'web servers',
    tag: 'Default',
    labels: [],
    osType: 'Linux',
    osName: 'Debian 12',
    state: { at: 'available', digest: 'd'.repeat(64) as never },
    progressPermille: 1000,
    // A byte over 4 GiB: sizes are counted up.
    disks: [{ index: 0, sizeBytes: 4 * GIB + 1, bus: 'virtio-blk' }],
    config: PLAIN_CONFIG,
    consistency: 'crash',
    parent: undefined,
    cleaning: undefined,
    imported: undefined,
    snapshotIds: [],
    dataBytes: 10,
    storedBytes: 5,
    movedBytes: 0,
    sourceMachineId: undefined,
    sourceImageId: undefined,
    createdAtMs: NOW_MS + 999,
    updatedAtMs: NOW_MS,
    ...change,
  }
}

export function machine(change: Partial<Machine> = {}): Machine {
  return {
    id: 'abcdefg0123456789' as MachineId,
    projectId: PROJECT_ID as ProjectId,
    regionId: 'cn-bj2' as RegionId,
    zone: 'cn-bj2-02',
    name: 'web-01',
    tag: 'Default',
    labels: [],
    state: 'running',
    reason: '',
    cpuCount: 2,
    memoryBytes: 4 * GIB,
    firmware: 'bios',
    machineType: 'pc',
    typeName: 'N',
    imageId: '0123456789abcdefg' as ImageId,
    imageName: 'golden-1',
    osType: 'Linux',
    osName: 'Debian 12',
    disks: [
      {
        id: 'd0000000000000000' as DiskId,
        index: 0,
        sizeBytes: 40 * GIB,
        bus: 'virtio-blk',
        base: undefined,
        category: 'CLOUD_RSSD',
      },
      {
        id: 'd1111111111111111' as DiskId,
        index: 1,
        sizeBytes: 20 * GIB,
        bus: 'virtio-scsi',
        base: undefined,
        category: 'cloud_essd',
      },
    ],
    details: {},
    createdAtMs: NOW_MS,
    ...change,
  }
}

/** What the app answers, by use case; a Fault or error is thrown. */
export interface Answers {
  readonly images?: readonly Image[]
  readonly machines?: readonly Machine[]
  readonly total?: number
  readonly permille?: number
  /** Absent: REGIONS. */
  readonly regions?: readonly Region[]
  readonly fault?: unknown
}

export interface Call {
  readonly useCase: string
  readonly input: unknown
}

export function fakeApp(answers: Answers, calls: Call[]): App {
  const called = async <Value>(useCase: string, input: unknown, value: () => Value): Promise<Value> => {
    calls.push({ useCase, input })
    if (answers.fault !== undefined) throw answers.fault
    return value()
  }
  const regions = answers.regions ?? REGIONS
  const page = <Item>(items: readonly Item[]) => ({ total: answers.total ?? items.length, items })
  const none = () => assert.fail('no operation of this door asks for it')
  return {
    regions: {
      list: () => called('regions.list', undefined, () => regions),
      default: () => ({ regionId: 'cn-bj2' as RegionId, zone: 'cn-bj2-02' }),
      get(id) {
        const found = regions.find((each) => each.id === id)
        if (found === undefined)
          throw new Fault('absent', `There is no region '${id}'.`, { subject: 'region' })
        return found
      },
    },
    projects: {
      list: () =>
        called('projects.list', undefined, () => [
          {
            id: PROJECT_ID as ProjectId,
            name: 'Default',
            isDefault: true,
            createdAtMs: NOW_MS,
            memberCount: 2,
          },
        ]),
      create: none,
      setQuota: none,
    },
    users: { create: none, putPolicy: none, attach: none },
    images: {
      capture: (_caller, input) =>
        called('images.capture', input, () => ({
          imageId: 'c0000000000000000' as ImageId,
          taskId: 't0000000000000000' as TaskId,
          snapshotIds: (input.linkedDiskIds ?? []).map(
            (_, index) => `5000000000000000${index}` as SnapshotId,
          ),
        })),
      lineage: none,
      plan: none,
      compose: none,
      clean: none,
      planClean: none,
      report: none,
      copy: (_caller, input) =>
        called('images.copy', input, () => ({
          taskId: 't0000000000000000' as TaskId,
          copies: input.targetRegionIds.map((regionId, index) => ({
            regionId,
            imageId: `c${numbered(index)}` as ImageId,
            taskId: `t${numbered(index)}` as TaskId,
          })),
        })),
      import: (_caller, input) =>
        called('images.import', input, () => ({
          imageId: 'c0000000000000000' as ImageId,
          taskId: 't0000000000000000' as TaskId,
        })),
      list: (_caller, filter, paging) =>
        called('images.list', { filter, paging }, () =>
          page(filter.ids?.length === 0 ? [] : (answers.images ?? [])),
        ),
      get: none,
      planCopy: none,
      cancelCopy: none,
      copyProgress: (_caller, input) => called('images.copyProgress', input, () => answers.permille ?? 0),
      remove: (_caller, input) => called('images.remove', input, () => undefined),
    },
    snapshots: { create: none, list: none, remove: none, reset: none },
    snapshotPolicies: { create: none, list: none, change: none, remove: none },
    machines: {
      create: (_caller, input) =>
        called('machines.create', input, () => ({
          machineIds: Array.from(
            { length: input.count },
            (_, index) => `e000000000000000${index}` as MachineId,
          ),
          taskIds: [],
        })),
      list: (_caller, filter, paging) =>
        called('machines.list', { filter, paging }, () =>
          page(filter.ids?.length === 0 ? [] : (answers.machines ?? [])),
        ),
      start: (_caller, input) => called('machines.start', input, () => undefined),
      stop: (_caller, input) => called('machines.stop', input, () => undefined),
      remove: (_caller, input) => called('machines.remove', input, () => undefined),
      readConsole: none,
      writeConsole: none,
    },
    tasks: {
      ...{ list: none, get: none, wait: none, cancel: none, verify: none },
      ...{ change: none, retry: none },
    },
    events: { list: none },
    webhooks: { create: none, list: none, change: none, remove: none },
    replication: { create: none, list: none, get: none, change: none, remove: none },
    peers: { list: none },
    store: { collect: none, scrub: none, usage: none },
    uploads: {
      ...{ create: none, list: none, get: none, remove: none },
      ...{ find: none, receive: none, abandon: none },
    },
    exports: { create: none, open: none, inventory: none },
  }
}

export const keyring: Keyring = {
  async find(keyId) {
    if (keyId === PUBLIC_KEY) return { secret: PRIVATE_KEY, isActive: true, userId: 'root' }
    if (keyId === 'sub-key') return { secret: 'sub-secret', isActive: true, userId: 'sub' }
    if (keyId === 'sleeping-key') return { secret: PRIVATE_KEY, isActive: false, userId: 'root' }
    return undefined
  },
  useNonce: () => assert.fail('this cloud has no nonces'),
  async caller(userId, door, request): Promise<Caller> {
    return {
      accountId: 'account',
      userId,
      userName: userId,
      isRoot: userId === 'root',
      defaultProjectId: PROJECT_ID as ProjectId,
      door,
      ...request,
    }
  },
}

export function testDoor(answers: Answers = {}, change: Partial<UhostDoorSettings> = {}) {
  const calls: Call[] = []
  const reports: unknown[] = []
  const door = createUhostDoor({
    app: fakeApp(answers, calls),
    keyring,
    nowMs: () => NOW_MS,
    report: (error) => reports.push(error),
    ...change,
  })
  /** Signs as the main account, sends a form, answers the parsed body. */
  async function ask(parameters: Readonly<Record<string, string>>) {
    const answer = await door.handle(formRequest(signed(parameters)))
    assert.equal(answer.status, 200)
    return JSON.parse(answer.body.toString()) as {
      RetCode: number
      Action?: string
      Message: string
    } & Record<string, unknown>
  }
  return { door, calls, reports, ask }
}

export function signed(
  parameters: Readonly<Record<string, string>>,
  publicKey = PUBLIC_KEY,
  privateKey = PRIVATE_KEY,
): Record<string, string> {
  const all: Record<string, string> = { ...parameters, PublicKey: publicKey }
  const nodes = new Map<string, JsonNode>(
    Object.entries(all).map(([name, text]) => [name, { is: 'text', text }]),
  )
  return { ...all, Signature: signText(textToSign(nodes, privateKey, 'plain')) }
}

export function wireRequest(change: Partial<WireRequest>): WireRequest {
  return {
    method: 'POST',
    url: '/',
    headers: {},
    body: Buffer.alloc(0),
    sourceIp: '127.0.0.1',
    secureTransport: false,
    requestId: REQUEST_ID,
    signal: new AbortController().signal,
    ...change,
  }
}

export function formRequest(parameters: Readonly<Record<string, string>>): WireRequest {
  return wireRequest({
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: Buffer.from(new URLSearchParams(parameters).toString()),
  })
}

export function jsonRequest(body: string, url = '/'): WireRequest {
  return wireRequest({ url, headers: { 'content-type': 'application/json' }, body: Buffer.from(body) })
}

const numbered = (index: number) => String(index).padStart(16, '0')

export function region(id: string, englishName: string, zones: readonly string[]): Region {
  return { id: id as RegionId, localName: englishName, englishName, zones }
}

export type Given = Readonly<Record<string, string>>
const PLACE: Given = { Region: 'cn-bj2', Zone: 'cn-bj2-02', ProjectId: PROJECT_ID }
/** The least that each operation takes. */
export const NEEDED: Readonly<Record<string, Given>> = {
  GetRegion: {},
  GetProjectList: {},
  DescribeImage: PLACE,
  CreateCustomImage: { ...PLACE, UHostId: MACHINE_ID, ImageName: 'a' },
  ImportCustomImage: {
    ...PLACE,
    ImageName: 'imp-1',
    UFileUrl: 'https://bucket.example.com/disk.raw',
    OsType: 'CentOS',
    OsName: 'CentOS 7.2 64位',
    Format: 'RAW',
    Auth: 'true',
  },
  CopyCustomImage: { ...PLACE, SourceImageId: IMAGE_ID, TargetProjectId: PROJECT_ID },
  GetImageCopyProgress: { ...PLACE, ImageId: IMAGE_ID },
  TerminateCustomImage: { ...PLACE, ImageId: IMAGE_ID },
  CreateUHostInstance: { ...PLACE, ImageId: IMAGE_ID, LoginMode: 'ImagePasswd' },
  DescribeUHostInstance: PLACE,
  StartUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  StopUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  PoweroffUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
  TerminateUHostInstance: { ...PLACE, UHostId: MACHINE_ID },
}
