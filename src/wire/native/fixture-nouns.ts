import type { CaptureReport, StoreUsage } from '../../app/contract.ts'
import { type Digest, newId, type ProjectId, type RegionId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'
import type { Snapshot, SnapshotPolicy } from '../../image/snapshot.ts'

// An available image and a running machine for tests, changed as a test needs them.

export const NOW_MS = Date.parse('2026-08-01T12:00:00Z')
const GIB = 1024 ** 3
export const PROJECT = 'org-main' as ProjectId

export function fakeImage(changes: Partial<Image> = {}): Image {
  return {
    id: newId('image'),
    projectId: PROJECT,
    regionId: 'cn-hangzhou' as RegionId,
    kind: 'custom',
    origin: 'capture',
    name: 'golden',
    description: '',
    tag: '',
    labels: [],
    osType: 'Linux',
    osName: 'Debian 12',
    state: { at: 'available', digest: 'ab'.repeat(32) as Digest },
    progressPermille: 1000,
    disks: [{ index: 0, sizeBytes: 4 * GIB, bus: 'virtio-blk' }],
    config: { firmware: 'bios', machineType: 'pc', cpuCount: 2, memoryBytes: GIB },
    consistency: 'filesystem',
    parent: 'ef'.repeat(32) as Digest,
    cleaning: undefined,
    imported: undefined,
    snapshotIds: [],
    dataBytes: 300 * 1024 ** 2,
    storedBytes: 120 * 1024 ** 2,
    movedBytes: 300 * 1024 ** 2,
    sourceMachineId: undefined,
    sourceImageId: undefined,
    createdAtMs: NOW_MS,
    updatedAtMs: NOW_MS,
    ...changes,
  }
}

export function fakeMachine(changes: Partial<Machine> = {}): Machine {
  return {
    id: newId('machine'),
    projectId: PROJECT,
    regionId: 'cn-hangzhou' as RegionId,
    zone: 'cn-hangzhou-h',
    name: 'desk',
    tag: '',
    labels: [],
    state: 'running',
    reason: '',
    cpuCount: 1,
    memoryBytes: 512 * 1024 ** 2,
    firmware: 'bios',
    machineType: 'pc',
    typeName: '',
    imageId: newId('image'),
    imageName: 'golden',
    osType: 'Linux',
    osName: 'Debian 12',
    disks: [],
    details: {},
    createdAtMs: NOW_MS,
    ...changes,
  }
}

export function fakeSnapshot(changes: Partial<Snapshot> = {}): Snapshot {
  return {
    id: newId('snapshot'),
    projectId: PROJECT,
    regionId: 'cn-hangzhou' as RegionId,
    machineId: newId('machine'),
    machineName: 'desk',
    diskId: newId('disk'),
    disk: { index: 0, sizeBytes: 4 * GIB, bus: 'virtio-scsi' },
    config: { firmware: 'bios', machineType: 'pc', cpuCount: 1, memoryBytes: GIB },
    osType: 'Linux',
    osName: 'Debian 12',
    name: 'before-upgrade',
    description: '',
    creator: 'root',
    policyId: undefined,
    imageId: undefined,
    state: { at: 'available', digest: 'cd'.repeat(32) as Digest },
    progressPermille: 1000,
    consistency: 'crash',
    dataBytes: 300 * 1024 ** 2,
    storedBytes: 20 * 1024 ** 2,
    movedBytes: 30 * 1024 ** 2,
    createdAtMs: NOW_MS,
    updatedAtMs: NOW_MS,
    ...changes,
  }
}

export function fakePolicy(changes: Partial<SnapshotPolicy> = {}): SnapshotPolicy {
  return {
    id: newId('snapshot-policy'),
    projectId: PROJECT,
    regionId: 'cn-hangzhou' as RegionId,
    name: 'nightly',
    cron: '0 3 * * *',
    timeZone: 'Asia/Hong_Kong',
    keepCount: 7,
    disks: 'all',
    machineIds: [newId('machine')],
    isEnabled: true,
    ...{ lastDueAtMs: undefined, lastDoneAtMs: undefined, lastFailedAtMs: undefined, lastReason: undefined },
    createdAtMs: NOW_MS,
    ...changes,
  }
}

/** What looking at a machine of two disks found. */
export const PLANNED: CaptureReport = {
  disks: [
    {
      ...{ id: newId('disk'), index: 0, sizeBytes: 20 * GIB, bus: 'virtio-blk', way: 'changes' },
      ...{ readBytes: 200 * 1024 ** 2, why: 'its changes since the last capture are known' },
    },
    {
      ...{ id: newId('disk'), index: 1, sizeBytes: 10 * GIB, bus: 'virtio-scsi', way: 'all' },
      ...{ readBytes: GIB, why: 'it was never captured' },
    },
  ],
  logicalBytes: 30 * GIB,
  readBytes: GIB + 200 * 1024 ** 2,
  dataBytes: 3 * GIB,
  newBytes: 100 * 1024 ** 2,
  consistency: 'crash',
  consistencyWhy: 'the guest agent does not answer',
  freeBytes: 50 * GIB,
  quotaBytes: null,
  chargedBytes: 4 * GIB,
  blockers: [],
  cleaning: null,
}

/** What a collection found, as its task's output says it. */
export const COLLECTED = {
  isDryRun: false,
  items: [
    {
      step: 'remove',
      what: 'pack',
      name: `packs/ab/${'ab'.repeat(32)}`,
      why: 'no image needs it',
      bytes: 4096,
    },
  ],
  itemCount: 1,
  condemnedBytes: 8192,
  removedBytes: 4096,
  removedCount: 1,
  repackedBytes: 2048,
  rewrittenBytes: 1024,
  waitingBytes: 4096,
  liveBytes: 10_240,
  storedBytes: 12_288,
  longestTransactionMs: 3,
}

/** What a scrub and the repair after it found. */
export const SCRUBBED = {
  checkedCount: 12,
  checkedBytes: 1_048_576,
  damaged: [{ name: `packs/cd/${'cd'.repeat(32)}`, message: 'Its bytes do not have its name.' }],
  damagedCount: 1,
  isRepairing: true,
  mended: [],
  mendedCount: 0,
  lost: [],
  lostCount: 1,
  waiting: [],
  problems: ["image img-0 'golden', disk 0 at byte 4096: Chunk 0a is damaged or missing."],
}

export function fakeUsage(regionIds: readonly RegionId[]): StoreUsage {
  const bytes = { logicalBytes: 8192, dataBytes: 4096, uniqueBytes: 1024, sharedBytes: 1024 }
  const images = regionIds.map((regionId) => {
    return { ...bytes, id: newId('image'), name: 'golden', projectId: PROJECT, regionId, storedBytes: 2048 }
  })
  const project = { id: PROJECT, name: 'Default', imageCount: images.length, chargedBytes: 4096 }
  return {
    images,
    projects: [{ ...bytes, ...project, quotaBytes: 8192 }],
    regions: regionIds.map((id) => {
      return { id, packBytes: 4096, liveBytes: 2048, reclaimableBytes: 1024, condemnedBytes: 512 }
    }),
  }
}
