import type { FaultKind } from './fault.ts'
import type { ImageId, MachineId, ProjectId, RegionId, SnapshotId, TaskId } from './ids.ts'

export const TASK_KINDS = [
  'import-image',
  'export-image',
  'capture-image',
  'create-snapshot',
  'compose-image',
  'clean-image',
  'plan-clean',
  'plan-capture',
  'reset-disk',
  'copy-image',
  'copy-batch',
  'plan-copy',
  'launch-machine',
  'start-machine',
  'stop-machine',
  'delete-machine',
  'verify-region',
  'release-image',
  'collect-garbage',
  'scrub-region',
  'repair-region',
] as const
export type TaskKind = (typeof TASK_KINDS)[number]

/** Those that need a machine's disks for themselves: of a machine one of them at a time. */
export const EXCLUSIVE_KINDS = [
  'capture-image',
  'create-snapshot',
  'plan-capture',
  'reset-disk',
] as const satisfies readonly TaskKind[]

/** What they tell is of a whole region, so of all projects: reading it takes a right that reaches beyond one. */
export const REGION_KINDS = [
  'verify-region',
  'collect-garbage',
  'scrub-region',
  'repair-region',
] as const satisfies readonly TaskKind[]

/** All others: what they tell is of one project. */
export const PROJECT_KINDS: readonly TaskKind[] = TASK_KINDS.filter(
  (kind) => !REGION_KINDS.some((one) => one === kind),
)

export const TASK_STATES = [
  'queued',
  'running',
  'paused',
  'done',
  'failed',
  'cancelled',
] as const satisfies readonly TaskState['at'][]

/** 'ended' tasks never change again. */
export type TaskState =
  | { readonly at: 'queued' }
  | { readonly at: 'running'; readonly step: string }
  /** Held until somebody lets it go on; what it made durable stays. */
  | { readonly at: 'paused' }
  | { readonly at: 'done' }
  | { readonly at: 'failed'; readonly kind: FaultKind; readonly reason: string }
  | { readonly at: 'cancelled' }

/** One run of a long verb. */
export interface Task {
  readonly id: TaskId
  readonly parentId: TaskId | undefined
  readonly kind: TaskKind
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly state: TaskState
  readonly imageId: ImageId | undefined
  readonly snapshotId: SnapshotId | undefined
  readonly machineId: MachineId | undefined
  /** Bytes of work done and to do, as far as known: committed ones only, rising only (I8). */
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedBytes: number
  /** Stored bytes that did not have to be moved because the target had them. */
  readonly savedBytes: number
  /** Of late; undefined unless it runs and has moved something. `etaMs`: until its end at this rate. */
  readonly bytesPerSecond: number | undefined
  readonly etaMs: number | undefined
  /** 0 to 9, higher first, 5 where nobody said. */
  readonly priority: number
  readonly deadlineAtMs: number | undefined
  /** Why the last attempt failed, of a task that tries again or did. */
  readonly lastReason: string | undefined
  /** How often the runner has started it: more than 1 after a crash of the server or a retry. */
  readonly attemptCount: number
  readonly output: Readonly<Record<string, unknown>>
  readonly createdAtMs: number
  readonly startedAtMs: number | undefined
  readonly endedAtMs: number | undefined
}
