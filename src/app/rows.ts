import type { Selectable } from 'kysely'
import type { Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import type { Consistency } from '../image/consistency.ts'
import type { FaultKind } from '../image/fault.ts'
import type {
  Digest,
  DiskId,
  ImageId,
  MachineId,
  ProjectId,
  RegionId,
  SnapshotId,
  SnapshotPolicyId,
  TaskId,
} from '../image/ids.ts'
import type { Image, ImageKind, ImageOrigin, ImageState, OsType } from '../image/image.ts'
import type { Machine, MachineState } from '../image/machine.ts'
import type { Snapshot } from '../image/snapshot.ts'
import type { Task, TaskKind, TaskState } from '../image/task.ts'
import { configOf, imageDisksOf, machineConfigOf, machineDisksOf } from '../tasks/columns.ts'

type StateColumns = Pick<Selectable<Schema['image']>, 'state' | 'digest' | 'reason' | 'taskId'>

function imageState(row: StateColumns): ImageState {
  switch (row.state) {
    case 'available':
      return { at: 'available', digest: row.digest as Digest }
    case 'failed':
      return { at: 'failed', reason: row.reason ?? '' }
    default:
      return { at: 'creating', taskId: (row.taskId ?? '') as TaskId }
  }
}

/** Known once available: what a row has before is what is hoped for. */
function consistencyOf(row: { readonly state: string; readonly consistency: string | null }) {
  return row.state === 'available' ? ((row.consistency as Consistency | null) ?? undefined) : undefined
}

/** Images with what belongs to them, in the order of the rows. */
export async function imagesOf(rows: Rows, images: readonly Selectable<Schema['image']>[]): Promise<Image[]> {
  if (images.length === 0) return []
  const linked = await rows
    .selectFrom('snapshot')
    .select(['id', 'imageId'])
    .where(
      'imageId',
      'in',
      images.map(({ id }) => id),
    )
    .orderBy('createdAtMs')
    .orderBy('id')
    .execute()
  const byImage = Map.groupBy(linked, ({ imageId }) => imageId)
  return images.map((row) =>
    imageOf(
      row,
      (byImage.get(row.id) ?? []).map(({ id }) => id as SnapshotId),
    ),
  )
}

/** A row as the noun that the rules are about. */
function imageOf(row: Selectable<Schema['image']>, snapshotIds: readonly SnapshotId[]): Image {
  return {
    id: row.id as ImageId,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    kind: row.kind as ImageKind,
    origin: row.origin as ImageOrigin,
    name: row.name,
    description: row.description,
    tag: row.tag,
    labels: row.labels === null ? [] : JSON.parse(row.labels),
    osType: row.osType as OsType,
    osName: row.osName,
    state: imageState(row),
    progressPermille: row.progressPermille,
    disks: imageDisksOf(row.disks),
    config: configOf(row.config),
    consistency: consistencyOf(row),
    parent: (row.parent as Digest | null) ?? undefined,
    cleaning: row.cleaning === null ? undefined : JSON.parse(row.cleaning),
    imported: row.imported === null ? undefined : JSON.parse(row.imported),
    snapshotIds,
    dataBytes: row.dataBytes,
    storedBytes: row.storedBytes,
    movedBytes: row.movedBytes,
    sourceMachineId: (row.sourceMachineId as MachineId | null) ?? undefined,
    sourceImageId: (row.sourceImageId as ImageId | null) ?? undefined,
    createdAtMs: row.createdAtMs,
    updatedAtMs: row.updatedAtMs,
  }
}

export function snapshotOf(row: Selectable<Schema['snapshot']>): Snapshot {
  return {
    id: row.id as SnapshotId,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    machineId: row.machineId as MachineId,
    machineName: row.machineName,
    diskId: row.diskId as DiskId,
    disk: JSON.parse(row.disk),
    config: configOf(row.config),
    osType: row.osType as OsType,
    osName: row.osName,
    name: row.name,
    description: row.description,
    creator: row.creator,
    policyId: (row.policyId as SnapshotPolicyId | null) ?? undefined,
    imageId: (row.imageId as ImageId | null) ?? undefined,
    state: imageState(row),
    progressPermille: row.progressPermille,
    consistency: consistencyOf(row),
    dataBytes: row.dataBytes,
    storedBytes: row.storedBytes,
    movedBytes: row.movedBytes,
    createdAtMs: row.createdAtMs,
    updatedAtMs: row.updatedAtMs,
  }
}

export function machineOf(row: Selectable<Schema['machine']>): Machine {
  const { firmware, machineType } = machineConfigOf(row)
  return {
    ...row,
    firmware,
    machineType,
    id: row.id as MachineId,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    labels: JSON.parse(row.labels),
    state: row.state as MachineState,
    imageId: row.imageId as ImageId,
    osType: row.osType as OsType,
    disks: machineDisksOf(row.disks),
    details: JSON.parse(row.details),
  }
}

function taskState(row: Selectable<Schema['task']>): TaskState {
  switch (row.state) {
    case 'queued':
    case 'paused':
    case 'done':
    case 'cancelled':
      return { at: row.state }
    case 'failed':
      return { at: 'failed', kind: (row.faultKind ?? 'unavailable') as FaultKind, reason: row.reason ?? '' }
    default:
      return { at: 'running', step: row.step }
  }
}

/** A rate that was measured longer ago says nothing of now. */
const RATE_MS = 10_000

function rateOf(row: Selectable<Schema['task']>, nowMs: number): Pick<Task, 'bytesPerSecond' | 'etaMs'> {
  const { state, bytesPerSecond, progressAtMs, doneBytes, totalBytes } = row
  const isFresh = progressAtMs !== null && nowMs - progressAtMs <= RATE_MS
  if (state !== 'running' || !isFresh || bytesPerSecond === null || bytesPerSecond === 0) {
    return { bytesPerSecond: undefined, etaMs: undefined }
  }
  return { bytesPerSecond, etaMs: Math.ceil(((totalBytes - doneBytes) * 1000) / bytesPerSecond) }
}

export function taskOf(row: Selectable<Schema['task']>, nowMs: number): Task {
  return {
    id: row.id as TaskId,
    parentId: (row.parentId as TaskId | null) ?? undefined,
    kind: row.kind as TaskKind,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    state: taskState(row),
    imageId: (row.imageId as ImageId | null) ?? undefined,
    snapshotId: (row.snapshotId as SnapshotId | null) ?? undefined,
    machineId: (row.machineId as MachineId | null) ?? undefined,
    doneBytes: row.doneBytes,
    totalBytes: row.totalBytes,
    movedBytes: row.movedBytes,
    savedBytes: row.savedBytes,
    ...rateOf(row, nowMs),
    priority: row.priority,
    deadlineAtMs: row.deadlineAtMs ?? undefined,
    lastReason: row.lastReason ?? undefined,
    attemptCount: row.attemptCount,
    output: JSON.parse(row.output),
    createdAtMs: row.createdAtMs,
    startedAtMs: row.startedAtMs ?? undefined,
    endedAtMs: row.endedAtMs ?? undefined,
  }
}
