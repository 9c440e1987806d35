import { createHash } from 'node:crypto'
import type { ImageFilter, MachineFilter, SnapshotFilter } from '../../app/contract.ts'
import { type MachineConfig, PLAIN_CONFIG } from '../../image/config.ts'
import type { Digest, DiskId, ImageId, MachineId, ProjectId, RegionId, SnapshotId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import { GIB } from '../../image/region.ts'
import type { Snapshot } from '../../image/snapshot.ts'
import { CREATED_AT_MS } from './fixture-requests.ts'

const CONFIG: MachineConfig = { ...PLAIN_CONFIG, cpuCount: 2, memoryBytes: 4 * GIB }

export function fakeCore<Kind extends ImageId | MachineId | DiskId | SnapshotId>(label: string): Kind {
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
    labels: [],
    osType: 'Linux',
    osName: 'Debian 12',
    state: { at: 'available', digest: 'd'.repeat(64) as Digest },
    progressPermille: 1000,
    disks: [
      { index: 0, sizeBytes: 4 * GIB, bus: 'virtio-blk' },
      { index: 1, sizeBytes: GIB + 1, bus: 'virtio-blk' },
    ],
    config: CONFIG,
    consistency: 'crash',
    parent: undefined,
    cleaning: undefined,
    imported: undefined,
    snapshotIds: [],
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
    firmware: 'bios',
    machineType: 'pc',
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
        bus: 'virtio-blk',
        base: undefined,
        category: 'cloud_essd',
      },
    ],
    details: {},
    createdAtMs: CREATED_AT_MS,
    ...change,
  }
}

/** A snapshot of the system disk of the machine `machineName`, unless the change says otherwise. */
export function fakeSnapshot(name: string, machineName: string, change: Partial<Snapshot> = {}): Snapshot {
  return {
    id: fakeCore<SnapshotId>(name),
    projectId: 'org-main' as ProjectId,
    regionId: 'cn-hangzhou' as RegionId,
    machineId: fakeCore<MachineId>(machineName),
    machineName,
    diskId: fakeCore<DiskId>(`${machineName}-0`),
    disk: { index: 0, sizeBytes: 4 * GIB, bus: 'virtio-blk' },
    config: CONFIG,
    osType: 'Linux',
    osName: 'Debian 12',
    name,
    description: '',
    creator: 'tester',
    policyId: undefined,
    imageId: undefined,
    state: { at: 'available', digest: 'd'.repeat(64) as Digest },
    progressPermille: 1000,
    consistency: 'crash',
    dataBytes: 0,
    storedBytes: 0,
    movedBytes: 0,
    createdAtMs: CREATED_AT_MS,
    updatedAtMs: CREATED_AT_MS + 61_000,
    ...change,
  }
}

export function imageMatches(image: Image, filter: ImageFilter): boolean {
  return (
    image.regionId === filter.regionId &&
    (filter.ids?.includes(image.id) ?? true) &&
    (filter.kinds?.includes(image.kind) ?? true) &&
    (filter.states?.includes(image.state.at) ?? true) &&
    (filter.osType ?? image.osType) === image.osType &&
    (filter.name ?? image.name) === image.name
  )
}

export function machineMatches(machine: Machine, filter: MachineFilter): boolean {
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

export function snapshotMatches(snapshot: Snapshot, filter: SnapshotFilter): boolean {
  return (
    snapshot.regionId === filter.regionId &&
    (filter.ids?.includes(snapshot.id) ?? true) &&
    (filter.machineIds?.includes(snapshot.machineId) ?? true) &&
    (filter.machineName ?? snapshot.machineName) === snapshot.machineName &&
    (filter.name ?? snapshot.name) === snapshot.name &&
    (filter.creator ?? snapshot.creator) === snapshot.creator &&
    (filter.osType ?? snapshot.osType) === snapshot.osType &&
    (filter.disk === undefined || (filter.disk === 'system') === (snapshot.disk.index === 0)) &&
    (filter.madeBy === undefined || (filter.madeBy === 'policy') === (snapshot.policyId !== undefined)) &&
    snapshot.createdAtMs >= (filter.fromMs ?? 0) &&
    snapshot.createdAtMs < (filter.untilMs ?? Number.POSITIVE_INFINITY)
  )
}
