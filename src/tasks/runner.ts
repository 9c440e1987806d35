import { EventEmitter, once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Selectable } from 'kysely'
import type { Catalog, Rows } from '../catalog/contract.ts'
import type { Schema } from '../catalog/schema.ts'
import { Fault, type FaultKind, isFault } from '../image/fault.ts'
import {
  type ImageId,
  type MachineId,
  newId,
  type ProjectId,
  type RegionId,
  type SnapshotId,
  type TaskId,
} from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { createGates, type Gates } from './gates.ts'

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
  /** Committed bytes so far (I8). Kept at most five times a second; call it as often as you like. */
  progress(bytes: { doneBytes: number; totalBytes: number; movedBytes?: number }): void
  /** Does a part of a step inside another gate than the task's own; the place is given back at its end. */
  within<Result>(gate: keyof Gates, work: () => Promise<Result>): Promise<Result>
  /** Shows the task at another part of its step, for whoever watches: 'clean: scrub'. */
  phase(name: string): Promise<void>
  /** Ends the task in the same transaction as `work`: the state before or the state after, never between. */
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
}

export interface Runner {
  /** Writes the task's row; call `kick` once the transaction around it is committed. */
  add(rows: Rows, task: NewTask): Promise<TaskId>
  kick(id: TaskId): void
  /** Asks a live task to end. It is undone, tried once at least when this resolves; its row then says cancelled. */
  cancel(id: TaskId): Promise<void>
  /** Resolves at the next change of the task, after `waitMs`, or at the signal. */
  changed(id: TaskId, waitMs: number, signal: AbortSignal): Promise<void>
  /** Takes up every task that an earlier process left. */
  resume(): Promise<number>
  /** Stops working; tasks stay as they are and go on at the next start. */
  close(): Promise<void>
}

const PROGRESS_MS = 200
const UNDO_AGAIN_MS = 500
const UNDO_AGAIN_MS_MAX = 30_000
/** In a row of a live task: it has failed or was cancelled, and its undo has begun. */
const UNDO = 'undo'
class Shutdown extends Error {}
class Cancelled extends Error {}

/** The in-process runner: tasks are rows, their steps may run twice, and a start takes up what a crash left. */
export function createRunner(options: {
  readonly catalog: Catalog
  readonly definitions: readonly TaskDefinition<never>[]
  readonly clock: () => number
  readonly log: (record: Record<string, unknown>) => void
}): Runner {
  const { catalog, clock, log } = options
  const definitions = new Map(options.definitions.map((d) => [d.kind, d as TaskDefinition<unknown>]))
  /** `undone`: its end, or the first time that its undo failed. */
  const live = new Map<TaskId, { abort: AbortController; ended: Promise<void>; undone: Promise<void> }>()
  const events = new EventEmitter().setMaxListeners(0)
  const gates = createGates()
  const closing = new AbortController()

  const update = (rows: Rows, id: TaskId, values: Partial<TaskRow>) =>
    rows.updateTable('task').set(values).where('id', '=', id).execute()

  async function contextFor(row: TaskRow, signal: AbortSignal) {
    const id = row.id as TaskId
    let checkpoint = JSON.parse(row.checkpoint) as Record<string, unknown>
    let waiting: { doneBytes: number; totalBytes: number; movedBytes?: number } | undefined
    let timer: NodeJS.Timeout | undefined
    let top = row.doneBytes
    let writing: Promise<unknown> = Promise.resolve()

    const writeProgress = () => {
      timer = undefined
      const bytes = waiting
      waiting = undefined
      if (bytes === undefined) return
      top = Math.max(top, bytes.doneBytes)
      const permille = bytes.totalBytes > 0 ? Math.min(999, Math.floor((top * 1000) / bytes.totalBytes)) : 0
      writing = writing
        .then(() =>
          catalog.transaction(async (rows) => {
            await update(rows, id, {
              doneBytes: top,
              totalBytes: bytes.totalBytes,
              ...(bytes.movedBytes === undefined ? {} : { movedBytes: bytes.movedBytes }),
            })
            for (const noun of ['image', 'snapshot'] as const) {
              await rows
                .updateTable(noun)
                .set({ progressPermille: permille, updatedAtMs: clock() })
                .where('taskId', '=', id)
                .where('state', '=', 'creating')
                .where('progressPermille', '<', permille)
                .execute()
            }
          }),
        )
        .catch((error) => log({ level: 'warn', message: 'progress was not kept', task: id, error }))
      events.emit(id)
    }
    const settle = async () => {
      clearTimeout(timer)
      writeProgress()
      await writing
    }
    let finished = false
    const context: StepContext = {
      id,
      row,
      input: JSON.parse(row.input),
      signal,
      checkpoint: () => checkpoint,
      async save(patch) {
        checkpoint = { ...checkpoint, ...patch }
        await update(catalog.rows, id, { checkpoint: JSON.stringify(checkpoint) })
      },
      progress(bytes) {
        waiting = bytes
        timer ??= setTimeout(writeProgress, PROGRESS_MS)
      },
      async within(gate, work) {
        const leave = await gates[gate].enter(signal, row.projectId)
        try {
          return await work()
        } finally {
          leave()
        }
      },
      async phase(name) {
        await update(catalog.rows, id, { step: name })
        events.emit(id)
      },
      async finish(output, work) {
        await settle()
        await catalog.transaction(async (rows) => {
          await work(rows)
          await update(rows, id, {
            state: 'done',
            step: '',
            output: JSON.stringify(output),
            faultKind: null,
            reason: null,
            endedAtMs: clock(),
          })
        })
        finished = true
      },
    }
    return { context, settle, isFinished: () => finished }
  }

  function faultOf(error: unknown): Fault {
    if (error instanceof Cancelled) return new Fault('conflict', 'It was cancelled before it was done.')
    if (isFault(error)) return error
    return new Fault('unavailable', 'The server met a fault of its own. Its log has the details.', {
      cause: error,
    })
  }

  /** The undo of an earlier process, or of an earlier try, goes on with the reason that it began with. */
  const begunUndo = (row: TaskRow): unknown =>
    row.cancelRequested === 1 ? new Cancelled() : new Fault(row.faultKind as FaultKind, row.reason ?? '')

  /** Undoes the task, again and again until that succeeds: what it left would be in everybody's way. */
  async function end(row: TaskRow, error: unknown, onTried: () => void): Promise<void> {
    const id = row.id as TaskId
    const isCancelled = error instanceof Cancelled
    const fault = faultOf(error)
    const message = `task ${isCancelled ? 'cancelled' : 'failed'}`
    // Where secrets lie in an image is for its owner alone.
    const told = fault.reason === 'secrets' ? {} : { error }
    log({ level: isCancelled ? 'info' : 'warn', message, task: id, kind: row.kind, ...told })
    for (let waitMs = UNDO_AGAIN_MS; ; waitMs = Math.min(2 * waitMs, UNDO_AGAIN_MS_MAX)) {
      try {
        await update(catalog.rows, id, { step: UNDO, faultKind: fault.kind, reason: fault.message })
        const fresh = (await find(id)) ?? row
        const { context, settle, isFinished } = await contextFor(fresh, AbortSignal.timeout(120_000))
        await definitions.get(row.kind as TaskKind)?.undo(context, fault.message)
        await settle()
        if (isFinished()) return
        const state = isCancelled ? 'cancelled' : 'failed'
        await update(catalog.rows, id, { state, step: '', endedAtMs: clock() })
        return
      } catch (undoError) {
        log({ level: 'error', message: 'undo failed', task: id, kind: row.kind, error: undoError })
        onTried()
        await delay(waitMs, undefined, { signal: closing.signal })
      }
    }
  }

  const find = (id: TaskId) =>
    catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirst()

  async function work(id: TaskId, abort: AbortController): Promise<void> {
    const found = await find(id)
    if (found === undefined || found.endedAtMs !== null) return
    const definition = definitions.get(found.kind as TaskKind)
    if (definition === undefined) throw new Error(`no definition for task kind ${found.kind}`)
    if (found.step === UNDO) throw begunUndo(found)
    const leave = await gates[definition.gate].enter(abort.signal, found.projectId)
    try {
      // With the first step's name, so that a task of one step begins in one commit.
      let step = definition.steps[0]?.name ?? ''
      const row = { ...found, attemptCount: found.attemptCount + 1, state: 'running' }
      await update(catalog.rows, id, {
        ...{ state: 'running', step },
        attemptCount: row.attemptCount,
        startedAtMs: found.startedAtMs ?? clock(),
      })
      const { context, settle, isFinished } = await contextFor(row, abort.signal)
      for (const { name, run } of definition.steps) {
        abort.signal.throwIfAborted()
        if (row.cancelRequested === 1) throw new Cancelled()
        if (name !== step) await update(catalog.rows, id, { step: name })
        step = name
        events.emit(id)
        await run(context)
      }
      await settle()
      if (!isFinished()) await context.finish({}, async () => {})
    } finally {
      leave()
    }
  }

  function kick(id: TaskId): void {
    if (closing.signal.aborted || live.has(id)) return
    const abort = new AbortController()
    const tried = Promise.withResolvers<void>()
    const ended = work(id, abort)
      .catch(async (error) => {
        const reason: unknown = abort.signal.aborted ? abort.signal.reason : error
        if (reason instanceof Shutdown) return
        const row = await find(id)
        if (row !== undefined && row.endedAtMs === null) await end(row, reason, tried.resolve)
      })
      .catch((error) => {
        // The next start takes it up.
        if (closing.signal.aborted) return
        log({ level: 'error', message: 'a task could not be ended', task: id, error })
      })
      .finally(() => {
        live.delete(id)
        events.emit(id)
      })
    live.set(id, { abort, ended, undone: Promise.race([ended, tried.promise]) })
  }

  return {
    async add(rows, task) {
      const id = newId('task')
      await rows
        .insertInto('task')
        .values({
          id,
          parentId: task.parentId ?? null,
          kind: task.kind,
          projectId: task.projectId,
          regionId: task.regionId,
          state: 'queued',
          step: '',
          input: JSON.stringify(task.input),
          checkpoint: '{}',
          output: '{}',
          imageId: task.imageId ?? null,
          snapshotId: task.snapshotId ?? null,
          machineId: task.machineId ?? null,
          faultKind: null,
          reason: null,
          doneBytes: 0,
          totalBytes: task.totalBytes ?? 0,
          movedBytes: 0,
          attemptCount: 0,
          cancelRequested: 0,
          createdAtMs: clock(),
          startedAtMs: null,
          endedAtMs: null,
        })
        .execute()
      return id
    },
    kick,
    async cancel(id) {
      await update(catalog.rows, id, { cancelRequested: 1 })
      const running = live.get(id)
      if (running === undefined) return
      running.abort.abort(new Cancelled())
      await running.undone
    },
    async changed(id, waitMs, signal) {
      await once(events, id, { signal: AbortSignal.any([signal, AbortSignal.timeout(waitMs)]) }).catch(
        () => {},
      )
    },
    async resume() {
      const rows = await catalog.rows
        .selectFrom('task')
        .select('id')
        .where('state', 'in', ['queued', 'running'])
        .orderBy('createdAtMs')
        .execute()
      for (const row of rows) kick(row.id as TaskId)
      return rows.length
    },
    async close() {
      closing.abort()
      for (const { abort } of live.values()) abort.abort(new Shutdown())
      await Promise.all([...live.values()].map(({ ended }) => ended))
    },
  }
}
