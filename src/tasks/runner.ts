import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault, type FaultKind, isFault } from '../image/fault.ts'
import type { TaskId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { createEventLog } from './events.ts'
import { createGates, PRIORITY_MAX } from './gates.ts'
import { Cancelled, createRun } from './run-context.ts'
import type { Runner, RunnerOptions, TaskDefinition, TaskRow } from './runner-contract.ts'
import { TaskRows } from './task-rows.ts'

export type * from './runner-contract.ts'

const UNDO_MS = 120_000
const UNDO_AGAIN_MS = 500
const UNDO_AGAIN_MS_MAX = 30_000
/** In a row of a live task: it has failed or was cancelled, and is undone once its run is over. */
const UNDO = 'undo'
/** In a row of a live task: it will be tried again after a while. */
const WAIT = 'wait'
/** In a row as of a task whose undo has begun, so that it is one, whatever becomes of this process. */
const CANCELLED = { cancelRequested: 1, state: 'running', step: UNDO } as const
/** In the checkpoint: how many attempts have failed. A crash or a pause is not the task's failure. */
const FAILED_COUNT = 'failedAttempts'
/** Likewise: the bytes that were done at the last one. */
const FAILED_AT = 'failedAtBytes'
class Shutdown extends Error {}
class Paused extends Error {}

interface Live {
  readonly abort: AbortController
  readonly ended: Promise<void>
  /** Its end, or the first time that its undo failed. */
  readonly undone: Promise<void>
  /** Its undo has begun. */
  isEnding: boolean
  isPaused: boolean
  /** Somebody wants another look at the row when this is over. */
  isKicked: boolean
  priority: number | undefined
}

/** The in-process runner: tasks are rows, their steps may run twice, and a start takes up what a crash left. */
export function createRunner(options: RunnerOptions): Runner {
  const { catalog, clock, log } = options
  const definitions = new Map(options.definitions.map((d) => [d.kind, d as TaskDefinition<unknown>]))
  const taskRows = new TaskRows(catalog, options.events ?? createEventLog({ catalog, clock }), clock)
  const gates = createGates(options.copiesAtOnce === undefined ? {} : { copies: options.copiesAtOnce })
  const live = new Map<TaskId, Live>()
  const closing = new AbortController()

  const find = (id: TaskId) => taskRows.find(id)
  const runOf = (row: TaskRow, one: Live, signal: AbortSignal, isUndo: boolean) =>
    createRun(row, signal, isUndo, { taskRows, gates, log, priority: () => one.priority ?? row.priority })

  function faultOf(error: unknown): Fault {
    if (error instanceof Cancelled) {
      return new Fault('conflict', error.message || 'It was cancelled before it was done.')
    }
    if (isFault(error)) return error
    return new Fault('unavailable', 'The server met a fault of its own. Its log has the details.', {
      cause: error,
    })
  }

  const cancelledOf = ({ reason }: TaskRow) => new Cancelled(reason ?? '')

  /** The undo of an earlier process, or of an earlier try, goes on with the reason that it began with. */
  const begunUndo = (row: TaskRow): unknown =>
    row.cancelRequested === 1 ? cancelledOf(row) : new Fault(row.faultKind as FaultKind, row.reason ?? '')

  /** Undoes the task, again and again until that succeeds: what it left would be in everybody's way. */
  async function end(row: TaskRow, error: unknown, one: Live, onTried: () => void): Promise<void> {
    const id = row.id as TaskId
    const isCancelled = error instanceof Cancelled
    const fault = faultOf(error)
    const message = `task ${isCancelled ? 'cancelled' : 'failed'}`
    // Where secrets lie in an image is for its owner alone.
    const told = fault.reason === 'secrets' ? {} : { error }
    log({ level: isCancelled ? 'info' : 'warn', message, task: id, kind: row.kind, ...told })
    const undoing = {
      ...{ state: 'running', step: UNDO, faultKind: fault.kind, reason: fault.message },
      bytesPerSecond: null,
    }
    const ended = { state: isCancelled ? 'cancelled' : 'failed', step: '' }
    for (let waitMs = UNDO_AGAIN_MS; ; waitMs = Math.min(2 * waitMs, UNDO_AGAIN_MS_MAX)) {
      try {
        await taskRows.change(id, undoing)
        const fresh = (await find(id)) ?? row
        const run = runOf(fresh, one, AbortSignal.timeout(UNDO_MS), true)
        try {
          await definitions.get(row.kind as TaskKind)?.undo(run.context, fault.message)
        } finally {
          await run.close()
        }
        if (!run.isFinished()) await taskRows.change(id, { ...ended, endedAtMs: clock() })
        return
      } catch (undoError) {
        log({ level: 'error', message: 'undo failed', task: id, kind: row.kind, error: undoError })
        onTried()
        await delay(waitMs, undefined, { signal: closing.signal })
      }
    }
  }

  /** One run of all steps. False if the row has changed before it could begin. */
  async function attempt(found: TaskRow, definition: TaskDefinition<unknown>, one: Live): Promise<boolean> {
    const { signal } = one.abort
    const id = found.id as TaskId
    one.priority ??= found.priority
    const leave = await gates[definition.gate].enter(signal, found.projectId, {
      priority: () => one.priority ?? found.priority,
      deadlineAtMs: found.deadlineAtMs ?? undefined,
    })
    try {
      // With the first step's name, so that a task of one step begins in one commit.
      let step = definition.steps[0]?.name ?? ''
      const begun = {
        ...{ state: 'running', step, attemptCount: found.attemptCount + 1, bytesPerSecond: null },
        startedAtMs: found.startedAtMs ?? clock(),
      }
      const only = { state: found.state, cancelRequested: 0 }
      if (!(await taskRows.change(id, begun, { only }))) return false
      const run = runOf({ ...found, ...begun }, one, signal, false)
      try {
        for (const { name, run: work } of definition.steps) {
          signal.throwIfAborted()
          if (name !== step) {
            const isOurs = await taskRows.change(id, { step: name }, { only: { cancelRequested: 0 } })
            if (!isOurs && !run.isFinished()) throw new Cancelled()
          }
          step = name
          await work(run.context)
        }
        if (!run.isFinished()) await run.context.finish({}, async () => {})
        return true
      } finally {
        await run.close()
      }
    } finally {
      leave()
    }
  }

  /** Whether the task is to be tried again after this failure: then the while is over when this resolves. */
  async function waitForNext(id: TaskId, error: unknown, one: Live): Promise<boolean> {
    if (one.abort.signal.aborted || !isFault(error, 'unavailable')) return false
    const row = await find(id)
    const attempts = definitions.get(row?.kind as TaskKind)?.attempts
    if (row === undefined || attempts === undefined) return false
    const checkpoint = JSON.parse(row.checkpoint) as Record<string, unknown>
    // What got on since the last failure is not stuck, however often it stumbles.
    const isStuck = row.doneBytes <= Number(checkpoint[FAILED_AT] ?? -1)
    const failedCount = (isStuck ? Number(checkpoint[FAILED_COUNT] ?? 0) : 0) + 1
    if (failedCount >= attempts.countMax) return false
    const waiting = {
      ...{ step: WAIT, lastReason: error.message, bytesPerSecond: null },
      checkpoint: JSON.stringify({ ...checkpoint, [FAILED_COUNT]: failedCount, [FAILED_AT]: row.doneBytes }),
    }
    const waitMs = attempts.waitMs(failedCount)
    const only = { state: 'running', cancelRequested: 0 }
    if (!(await taskRows.change(id, waiting, { only }))) return false
    log({
      level: 'warn',
      message: 'task waits for its next attempt',
      task: id,
      kind: row.kind,
      waitMs,
      error,
    })
    await delay(waitMs, undefined, { signal: one.abort.signal })
    return true
  }

  async function work(id: TaskId, one: Live): Promise<void> {
    for (;;) {
      const found = await find(id)
      if (found === undefined || found.endedAtMs !== null || found.state === 'paused') return
      const definition = definitions.get(found.kind as TaskKind)
      if (definition === undefined) throw new Error(`no definition for task kind ${found.kind}`)
      if (found.step === UNDO) throw begunUndo(found)
      try {
        if (await attempt(found, definition, one)) return
      } catch (error) {
        if (!(await waitForNext(id, error, one))) throw error
      }
    }
  }

  const heldRow = () => ({ state: 'paused', step: '', bytesPerSecond: null, progressAtMs: clock() })

  /** What becomes of a task whose run was broken off, or broke. */
  async function settle(id: TaskId, error: unknown, one: Live, onTried: () => void): Promise<void> {
    const { signal } = one.abort
    const reason: unknown = signal.aborted ? signal.reason : error
    if (reason instanceof Shutdown) return
    if (reason instanceof Paused) {
      one.isPaused = await taskRows.change(id, heldRow(), { only: { cancelRequested: 0 } })
      if (one.isPaused) return
    }
    one.isEnding = true
    const row = await find(id)
    if (row === undefined || row.endedAtMs !== null) return
    await end(row, row.cancelRequested === 1 ? cancelledOf(row) : reason, one, onTried)
  }

  function kick(id: TaskId): void {
    taskRows.noted()
    if (closing.signal.aborted) return
    const running = live.get(id)
    if (running !== undefined) {
      running.isKicked = true
      return
    }
    const tried = Promise.withResolvers<void>()
    const over = Promise.withResolvers<void>()
    const one: Live = {
      abort: new AbortController(),
      ended: over.promise,
      undone: Promise.race([over.promise, tried.promise]),
      ...{ isEnding: false, isPaused: false, isKicked: false, priority: undefined },
    }
    live.set(id, one)
    void work(id, one)
      .catch((error) => settle(id, error, one, tried.resolve))
      .catch((error) => {
        // The next start takes it up.
        if (closing.signal.aborted) return
        log({ level: 'error', message: 'a task could not be ended', task: id, error })
      })
      .finally(() => {
        live.delete(id)
        over.resolve()
        taskRows.tell(id)
        if (one.isKicked) kick(id)
      })
  }

  const conflict = (message: string) => new Fault('conflict', message, { subject: 'task' })

  return {
    add: (rows, task) => taskRows.add(rows, task),
    kick,
    async cancel(id, held) {
      const asked = held === undefined ? CANCELLED : { ...CANCELLED, reason: held.reason }
      const only = { cancelRequested: 0, ...(held === undefined ? {} : { state: 'paused' }) }
      if (!(await taskRows.change(id, asked, { only }))) {
        if (held !== undefined) return
        const row = await find(id)
        if (row === undefined || row.endedAtMs !== null) return
        // It was marked in the transaction of somebody who is heard of now.
        taskRows.noted()
        taskRows.tell(id)
      }
      const running = live.get(id)
      running?.abort.abort(new Cancelled())
      await running?.undone
      // It was held, or waited to be kicked.
      if (!live.has(id)) kick(id)
      await live.get(id)?.undone
    },
    markCancelled: (rows, id) => taskRows.changeWithin(rows, id, CANCELLED),
    async pause(id) {
      const row = await find(id)
      if (row === undefined) throw new Fault('absent', 'There is no such task.', { subject: 'task' })
      if (row.endedAtMs !== null) throw conflict(`The task has ended already: ${row.state}.`)
      if (definitions.get(row.kind as TaskKind)?.isPausable !== true) {
        throw conflict(`A ${row.kind} task cannot be paused.`)
      }
      if (row.state === 'paused') throw conflict('The task is paused already.')
      const running = live.get(id)
      if (row.step === UNDO || running?.isEnding === true) {
        throw conflict('The task has failed or was cancelled, and is being undone.')
      }
      if (running === undefined) {
        if (await taskRows.change(id, heldRow(), { only: { state: row.state, cancelRequested: 0 } })) return
      } else {
        running.abort.abort(new Paused())
        await running.undone
        if (running.isPaused) return
      }
      const now = await find(id)
      throw conflict(`The task could not be paused: by now it is ${now?.state ?? 'gone'}.`)
    },
    async proceed(id) {
      if (!(await taskRows.change(id, { state: 'queued' }, { only: { state: 'paused' } }))) {
        throw conflict('The task is not paused.')
      }
      kick(id)
    },
    async setPriority(id, priority) {
      assert(Number.isInteger(priority) && priority >= 0 && priority <= PRIORITY_MAX)
      if (!(await taskRows.change(id, { priority }, { isEvent: false }))) return
      const running = live.get(id)
      if (running !== undefined) running.priority = priority
    },
    changed: (id, waitMs, signal) => taskRows.changed(id, waitMs, signal),
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
