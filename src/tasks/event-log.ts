import type { Rows } from '../catalog/contract.ts'
import type { TaskEvent } from '../image/event.ts'
import type { ProjectId, TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'

export interface EventFilter {
  readonly projectId?: ProjectId | undefined
  readonly taskId?: TaskId | undefined
  /** Absent: all; empty: none. */
  readonly kinds?: readonly TaskKind[] | undefined
  readonly endsOnly?: boolean | undefined
}

/** The ordered record of what tasks did. Written in the transaction of the change itself, so that none is told that was not. */
export interface EventLog {
  /** Notes how the task is now. Call `noted` once the transaction is committed. */
  note(rows: Rows, id: TaskId): Promise<void>
  /** Wakes those who wait. */
  noted(): void
  /** The newest id given so far, 0 for none. */
  last(): Promise<number>
  /** The oldest id that is kept, or the next one if none is. */
  first(): Promise<number>
  /** Behind `afterId`, in their order. */
  list(filter: EventFilter, afterId: number, limit: number): Promise<readonly TaskEvent[]>
  /**
   * Resolves when something was noted since `afterId` (of the project, if one is given: what others do wakes nobody), after
   * `waitMs`, or at the signal.
   */
  wait(afterId: number, waitMs: number, signal: AbortSignal, projectId?: ProjectId): Promise<void>
  /** Lets go of what is older than is kept, and of what is more; the newest stays. */
  sweep(): Promise<void>
}
