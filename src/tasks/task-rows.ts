import { EventEmitter, once } from 'node:events'
import type { Catalog, Rows } from '../catalog/contract.ts'
import { newId, type TaskId } from '../image/ids.ts'
import type { EventLog } from './event-log.ts'
import { PRIORITY_USUAL } from './gates.ts'
import type { NewTask, TaskRow } from './runner-contract.ts'

export interface ChangeOptions {
  /** The change is made only where the row is so. */
  readonly only?: Partial<Pick<TaskRow, 'state' | 'cancelRequested'>>
  /** False: nobody is told of it by an event. */
  readonly isEvent?: boolean
  /** Done in the same transaction, before the change. */
  readonly work?: (rows: Rows) => Promise<void>
}

/** The rows of tasks, written in one commit with the events that tell of it. */
export class TaskRows {
  readonly clock: () => number
  readonly #catalog: Catalog
  readonly #events: EventLog
  readonly #changes = new EventEmitter().setMaxListeners(0)

  constructor(catalog: Catalog, events: EventLog, clock: () => number) {
    this.#catalog = catalog
    this.#events = events
    this.clock = clock
  }

  find(id: TaskId): Promise<TaskRow | undefined> {
    return this.#catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirst()
  }

  /** False, and nothing is changed, if the task has ended or is not as `only` says. */
  async change(
    id: string,
    values: Partial<TaskRow>,
    { only = {}, isEvent = true, work }: ChangeOptions = {},
  ): Promise<boolean> {
    const isChanged = await this.#catalog.transaction(async (rows) => {
      const is = await rows
        .selectFrom('task')
        .select(['state', 'cancelRequested', 'endedAtMs'])
        .where('id', '=', id)
        .executeTakeFirst()
      if (is === undefined || is.endedAtMs !== null) return false
      if (only.state !== undefined && only.state !== is.state) return false
      if (only.cancelRequested !== undefined && only.cancelRequested !== is.cancelRequested) return false
      await work?.(rows)
      await rows.updateTable('task').set(values).where('id', '=', id).execute()
      if (isEvent) await this.#events.note(rows, id as TaskId)
      return true
    })
    if (isChanged && isEvent) this.#events.noted()
    if (isChanged) this.tell(id)
    return isChanged
  }

  /** In the caller's transaction; nothing if the task has ended. `noted` and `tell` once that is committed. */
  async changeWithin(rows: Rows, id: TaskId, values: Partial<TaskRow>): Promise<void> {
    const { numUpdatedRows } = await rows
      .updateTable('task')
      .set(values)
      .where('id', '=', id)
      .where('endedAtMs', 'is', null)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows > 0n) await this.#events.note(rows, id)
  }

  /** Of no interest to anybody but the task itself. */
  async save(id: TaskId, checkpoint: Record<string, unknown>): Promise<void> {
    await this.#catalog.rows
      .updateTable('task')
      .set({ checkpoint: JSON.stringify(checkpoint) })
      .where('id', '=', id)
      .execute()
  }

  /** In the caller's transaction; `noted` once that is committed. */
  async add(rows: Rows, task: NewTask): Promise<TaskId> {
    const id = newId('task')
    const nobody = { imageId: null, snapshotId: null, machineId: null, parentId: null }
    const untold = { doneBytes: 0, movedBytes: 0, savedBytes: 0, bytesPerSecond: null, progressAtMs: null }
    await rows
      .insertInto('task')
      .values({
        ...{ id, kind: task.kind, projectId: task.projectId, regionId: task.regionId },
        ...{ ...nobody, ...untold, state: 'queued', step: '', checkpoint: '{}', output: '{}' },
        ...(task.parentId === undefined ? {} : { parentId: task.parentId }),
        ...(task.imageId === undefined ? {} : { imageId: task.imageId }),
        ...(task.snapshotId === undefined ? {} : { snapshotId: task.snapshotId }),
        ...(task.machineId === undefined ? {} : { machineId: task.machineId }),
        input: JSON.stringify(task.input),
        totalBytes: task.totalBytes ?? 0,
        priority: task.priority ?? PRIORITY_USUAL,
        deadlineAtMs: task.deadlineAtMs ?? null,
        requestKey: task.requestKey ?? null,
        ...{ faultKind: null, reason: null, lastReason: null, attemptCount: 0, cancelRequested: 0 },
        ...{ createdAtMs: this.clock(), startedAtMs: null, endedAtMs: null },
      })
      .execute()
    await this.#events.note(rows, id)
    return id
  }

  noted(): void {
    this.#events.noted()
  }

  /** Wakes those who wait for a change of the task. */
  tell(id: string): void {
    this.#changes.emit(id)
  }

  async changed(id: TaskId, waitMs: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(waitMs))])
    await once(this.#changes, id, { signal: either }).catch(() => {})
  }
}
