import type { FaultKind } from './fault.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from './ids.ts'
import type { TaskKind, TaskState } from './task.ts'

/**
 * A change of a task: how it was right after it. `id` rises by the order of the changes, with gaps; of one task there is an
 * event for each state and step, and one a second at most for its bytes.
 */
export interface TaskEvent {
  readonly id: number
  readonly atMs: number
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly taskId: TaskId
  readonly parentId: TaskId | undefined
  readonly kind: TaskKind
  readonly imageId: ImageId | undefined
  readonly state: TaskState['at']
  readonly step: string | undefined
  readonly faultKind: FaultKind | undefined
  readonly reason: string | undefined
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedBytes: number
  readonly savedBytes: number
}

/** Somebody's address that is told of events, in their order, until it says that it has them. */
export interface Webhook {
  readonly id: string
  readonly projectId: ProjectId
  readonly name: string
  readonly url: string
  /** Only of these kinds of tasks; empty for all. */
  readonly kinds: readonly TaskKind[]
  /** Only how tasks end. */
  readonly endsOnly: boolean
  readonly isEnabled: boolean
  readonly createdAtMs: number
  /** The last event that it took. */
  readonly deliveredId: number
  readonly deliveredAtMs: number | undefined
  /** Since when it takes nothing, and why; undefined while all goes well. */
  readonly failingSinceMs: number | undefined
  readonly lastReason: string | undefined
}
