import type { Selectable } from 'kysely'
import type { Schema } from '../catalog/schema.ts'
import type { FaultKind } from '../image/fault.ts'
import type { Digest, ImageId, MachineId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { Image, ImageKind, ImageOrigin, ImageState, OsType } from '../image/image.ts'
import type { Machine, MachineState } from '../image/machine.ts'
import type { Task, TaskKind, TaskState } from '../image/task.ts'

function imageState(row: Selectable<Schema['image']>): ImageState {
  switch (row.state) {
    case 'available':
      return { at: 'available', digest: row.digest as Digest }
    case 'failed':
      return { at: 'failed', reason: row.reason ?? '' }
    default:
      return { at: 'creating', taskId: (row.taskId ?? '') as TaskId }
  }
}

/** A row as the noun that the rules are about. */
export function imageOf(row: Selectable<Schema['image']>): Image {
  return {
    id: row.id as ImageId,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    kind: row.kind as ImageKind,
    origin: row.origin as ImageOrigin,
    name: row.name,
    description: row.description,
    tag: row.tag,
    osType: row.osType as OsType,
    osName: row.osName,
    state: imageState(row),
    progressPermille: row.progressPermille,
    disks: JSON.parse(row.disks),
    dataBytes: row.dataBytes,
    storedBytes: row.storedBytes,
    movedBytes: row.movedBytes,
    sourceMachineId: (row.sourceMachineId as MachineId | null) ?? undefined,
    sourceImageId: (row.sourceImageId as ImageId | null) ?? undefined,
    createdAtMs: row.createdAtMs,
    updatedAtMs: row.updatedAtMs,
  }
}

export function machineOf(row: Selectable<Schema['machine']>): Machine {
  return {
    ...row,
    id: row.id as MachineId,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    labels: JSON.parse(row.labels),
    state: row.state as MachineState,
    imageId: row.imageId as ImageId,
    osType: row.osType as OsType,
    disks: JSON.parse(row.disks),
    details: JSON.parse(row.details),
  }
}

function taskState(row: Selectable<Schema['task']>): TaskState {
  switch (row.state) {
    case 'queued':
    case 'done':
    case 'cancelled':
      return { at: row.state }
    case 'failed':
      return { at: 'failed', kind: (row.faultKind ?? 'unavailable') as FaultKind, reason: row.reason ?? '' }
    default:
      return { at: 'running', step: row.step }
  }
}

export function taskOf(row: Selectable<Schema['task']>): Task {
  return {
    id: row.id as TaskId,
    parentId: (row.parentId as TaskId | null) ?? undefined,
    kind: row.kind as TaskKind,
    projectId: row.projectId as ProjectId,
    regionId: row.regionId as RegionId,
    state: taskState(row),
    imageId: (row.imageId as ImageId | null) ?? undefined,
    machineId: (row.machineId as MachineId | null) ?? undefined,
    doneBytes: row.doneBytes,
    totalBytes: row.totalBytes,
    movedBytes: row.movedBytes,
    attemptCount: row.attemptCount,
    output: JSON.parse(row.output),
    createdAtMs: row.createdAtMs,
    startedAtMs: row.startedAtMs ?? undefined,
    endedAtMs: row.endedAtMs ?? undefined,
  }
}
