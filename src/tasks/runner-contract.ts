import type { Selectable } from 'kysely'
import type { Catalog, Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import type { ImageId, MachineId, ProjectId, RegionId, SnapshotId, TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import type { EventLog } from './event-log.ts'
import type { Gates } from './gates.ts'

export type TaskRow = Selectable<Schema['task']>

/** What a step sees. Everything it wants to find again after a crash goes into the checkpoint. */
export interface StepContext<Input = unknown> {
  readonly id: TaskId
  readonly row: TaskRow
  readonly input: Input
  readonly signal: AbortSignal
  /** What earlier steps, or an earlier run of this one, left. */
  checkpoint(): Record<string, unknown>
  /** Adds to the checkpoint; durable once resolved. */
  save(patch: Record<string, unknown>): Promise<void>
  /**
   * Committed bytes so far (I8). Kept at most five times a second; call it as often as you like. What is shown of it never
   * falls, whatever is told, over all runs of the task.
   */
  progress(bytes: { doneBytes: number; totalBytes: number; movedBytes?: number; savedBytes?: number }): void
  /**
   * Does a part of a step inside another gate than the task's own; the place is given back at its end. `source`: whose bytes
   * it reads, a region's id: of tasks alike, that of the source with the fewest inside goes first.
   */
  within<Result>(gate: keyof Gates, work: () => Promise<Result>, source?: string): Promise<Result>
  /** Shows the task at another part of its step, for whoever watches: 'clean: scrub'. Once its run is over, nothing. */
  phase(name: string): Promise<void>
  /**
   * Ends the task in the same transaction as `work`: the state before or the state after, never between. Throws where the
   * task was cancelled first.
   */
  finish(output: Record<string, unknown>, work: (rows: Rows) => Promise<void>): Promise<void>
}

export interface Step<Input> {
  readonly name: string
  /** May run twice; the second run changes nothing (I3). */
  run(context: StepContext<Input>): Promise<void>
}

export interface TaskDefinition<Input = never> {
  readonly kind: TaskKind
  /** Tasks of one gate share its places: reading and writing disks, or machines' power. */
  readonly gate: keyof Gates
  /**
   * A run that fails with Fault 'unavailable' is begun again after a while, its session and checkpoint as they are: so often in
   * all, with `waitMs(n)` after the n-th. Undone only when none is left.
   */
  readonly attempts?: { readonly countMax: number; waitMs(attempt: number): number }
  /** It may be held and let go on: a run may be broken off at any point and begun again. */
  readonly isPausable?: boolean
  readonly steps: readonly Step<Input>[]
  /**
   * After a failure or a cancel: takes away what the steps made. May run twice, and runs until it succeeds. Where a step
   * has done what cannot be taken back, it does the rest instead and calls `finish`: then the task is done after all.
   */
  undo(context: StepContext<Input>, reason: string): Promise<void>
}

export interface NewTask {
  readonly kind: TaskKind
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly input: unknown
  readonly parentId?: TaskId
  readonly imageId?: ImageId
  /** The first of several. */
  readonly snapshotId?: SnapshotId
  readonly machineId?: MachineId
  readonly totalBytes?: number
  /** 0 to 9, higher first; 5 if absent. Of tasks alike the one with the earlier deadline goes first. */
  readonly priority?: number
  readonly deadlineAtMs?: number
  readonly requestKey?: string
}

export interface Runner {
  /** Writes the task's row; call `kick` once the transaction around it is committed. */
  add(rows: Rows, task: NewTask): Promise<TaskId>
  kick(id: TaskId): void
  /**
   * Asks a live task to end, also one that is paused. Its row says at once, before anything is undone, that it runs no more:
   * 'running', step 'undo'. The undo was tried once at least when this resolves; where that went well, the row says cancelled.
   * With `held` only one that is paused, and the undo is told this reason.
   */
  cancel(id: TaskId, held?: { readonly reason: string }): Promise<void>
  /**
   * What the row of a live task says once it is asked to end, in the caller's transaction; `cancel` once that is committed. Where
   * the process ends in between, the next start undoes it.
   */
  markCancelled(rows: Rows, id: TaskId): Promise<void>
  /**
   * Holds a live task whose kind is pausable: its run is broken off, its place in the gate is free, and its row says so
   * when this resolves. Fault 'conflict' 'task' for any other.
   */
  pause(id: TaskId): Promise<void>
  /** Lets a paused task go on. Fault 'conflict' 'task' for one that is not paused. */
  proceed(id: TaskId): Promise<void>
  /** Also of a task that waits: it takes its new place in the line. */
  setPriority(id: TaskId, priority: number): Promise<void>
  /** Resolves at the next change of the task, after `waitMs`, or at the signal. */
  changed(id: TaskId, waitMs: number, signal: AbortSignal): Promise<void>
  /** Takes up every task that an earlier process left. */
  resume(): Promise<number>
  /** Stops working; tasks stay as they are and go on at the next start. */
  close(): Promise<void>
}

export interface RunnerOptions {
  readonly catalog: Catalog
  readonly definitions: readonly TaskDefinition<never>[]
  readonly clock: () => number
  readonly log: (record: Record<string, unknown>) => void
  /** The one that others wait on. Absent: one of the runner's own, for whoever only reads the rows. */
  readonly events?: EventLog
  /** How many copies move bytes at once; 4 if absent. */
  readonly copiesAtOnce?: number
}
