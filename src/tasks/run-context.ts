import type { TaskId } from '../image/ids.ts'
import type { Gates, Order } from './gates.ts'
import { RunProgress } from './run-progress.ts'
import type { StepContext, TaskRow } from './runner-contract.ts'
import type { TaskRows } from './task-rows.ts'

/** Somebody asked for the task's end. */
export class Cancelled extends Error {}

export interface Run {
  readonly context: StepContext
  readonly isFinished: () => boolean
  /** The run is over: all that it told is written, and what comes late is not heard. */
  close(): Promise<void>
}

/** `isUndo`: it takes away what a failed or cancelled task left, which nobody can cancel. */
export function createRun(
  row: TaskRow,
  signal: AbortSignal,
  isUndo: boolean,
  parts: {
    readonly taskRows: TaskRows
    readonly gates: Gates
    readonly priority: () => number
    readonly log: (record: Record<string, unknown>) => void
  },
): Run {
  const { taskRows, gates, priority, log } = parts
  const id = row.id as TaskId
  const progress = new RunProgress(row, taskRows, log)
  let checkpoint = JSON.parse(row.checkpoint) as Record<string, unknown>
  let isFinished = false
  let isOver = false
  const wanted = isUndo ? {} : { cancelRequested: 0 }
  const context: StepContext = {
    id,
    row,
    input: JSON.parse(row.input),
    signal,
    checkpoint: () => checkpoint,
    async save(patch) {
      checkpoint = { ...checkpoint, ...patch }
      await taskRows.save(id, checkpoint)
    },
    progress: (bytes) => progress.tell(bytes),
    async within(gate, work, source) {
      const { position = 0 } = context.input as { readonly position?: number }
      const asked: Order['asked'] = [row.createdAtMs, position]
      const order: Order = { priority, deadlineAtMs: row.deadlineAtMs ?? undefined, source, asked }
      const leave = await gates[gate].enter(signal, row.projectId, order)
      try {
        return await work()
      } finally {
        leave()
      }
    },
    async phase(name) {
      // An undo is told from a run by its step.
      if (isUndo || isOver) return
      await taskRows.change(id, { step: name }, { only: { ...wanted, state: 'running' } })
    },
    async finish(output, work) {
      await progress.settle()
      const ended = {
        ...{ state: 'done', step: '', faultKind: null, reason: null, bytesPerSecond: null },
        ...{ output: JSON.stringify(output), endedAtMs: taskRows.clock() },
      }
      if (!(await taskRows.change(id, ended, { only: wanted, work }))) throw new Cancelled()
      isFinished = true
    },
  }
  return {
    context,
    isFinished: () => isFinished,
    async close() {
      isOver = true
      await progress.close()
    },
  }
}
