import type { Rows } from '../catalog/contract.ts'
import { Rate } from './run-rate.ts'
import type { StepContext, TaskRow } from './runner-contract.ts'
import type { TaskRows } from './task-rows.ts'

type Told = Parameters<StepContext['progress']>[0]

const WRITE_MS = 200
const EVENT_MS = 1000

/**
 * What a run tells of its bytes, on its way into the task's row and those of what it makes: five times a second at most, as an
 * event once a second at most. What is written never falls.
 */
export class RunProgress {
  readonly #taskRows: TaskRows
  readonly #log: (record: Record<string, unknown>) => void
  readonly #row: TaskRow
  readonly #rate = new Rate()
  /** By earlier runs: what each moved was moved. */
  readonly #movedBefore: number
  #kept: Pick<TaskRow, 'doneBytes' | 'totalBytes' | 'movedBytes' | 'savedBytes'>
  #eventAtMs: number
  #told: Told | undefined
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<unknown> = Promise.resolve()
  #isOver = false

  /** `row`: as the run begins, right after its event. */
  constructor(row: TaskRow, taskRows: TaskRows, log: (record: Record<string, unknown>) => void) {
    this.#row = row
    this.#kept = row
    this.#movedBefore = row.movedBytes
    this.#taskRows = taskRows
    this.#log = log
    this.#eventAtMs = taskRows.clock()
  }

  tell(bytes: Told): void {
    if (this.#isOver) return
    this.#told = bytes
    this.#timer ??= setTimeout(() => this.#write(), WRITE_MS)
  }

  /** Resolves once all that was told is written. */
  async settle(): Promise<void> {
    clearTimeout(this.#timer)
    this.#write()
    await this.#writing
  }

  /** The run is over: what comes late is not heard. */
  close(): Promise<void> {
    this.#isOver = true
    return this.settle()
  }

  #write(): void {
    this.#timer = undefined
    const told = this.#told
    this.#told = undefined
    if (told === undefined) return
    const { clock } = this.#taskRows
    const nowMs = clock()
    const doneBytes = Math.max(this.#kept.doneBytes, told.doneBytes)
    const movedBytes = Math.max(this.#kept.movedBytes, this.#movedBefore + (told.movedBytes ?? 0))
    this.#kept = {
      doneBytes,
      totalBytes: Math.max(told.totalBytes, doneBytes),
      movedBytes,
      savedBytes: told.savedBytes ?? this.#kept.savedBytes,
    }
    // By what was told: a run that begins anew may be behind what is kept of the one before.
    const { doneBytes: toldBytes, movedBytes: toldMovedBytes = 0 } = told
    const bytesPerSecond = this.#rate.add({
      atMs: nowMs,
      doneBytes: toldBytes,
      movedBytes: toldMovedBytes,
    })
    const values = { ...this.#kept, bytesPerSecond, progressAtMs: nowMs }
    const sinceMs = nowMs - this.#eventAtMs
    // A clock that was set back would else hold events back for as long.
    const isEvent = sinceMs >= EVENT_MS || sinceMs < 0
    if (isEvent) this.#eventAtMs = nowMs
    this.#writing = this.#writing
      .then(() =>
        this.#taskRows.change(this.#row.id, values, {
          isEvent,
          work: (rows) => setPermille(rows, this.#row.id, values, nowMs),
        }),
      )
      .catch((error) =>
        this.#log({ level: 'warn', message: 'progress was not kept', task: this.#row.id, error }),
      )
  }
}

/** Of everything that the task makes. It rises only, and all of it is there when the thing is available, not before. */
async function setPermille(
  rows: Rows,
  taskId: string,
  { doneBytes, totalBytes }: Pick<TaskRow, 'doneBytes' | 'totalBytes'>,
  nowMs: number,
): Promise<void> {
  const permille = totalBytes > 0 ? Math.min(999, Math.floor((doneBytes * 1000) / totalBytes)) : 0
  for (const noun of ['image', 'snapshot'] as const) {
    await rows
      .updateTable(noun)
      .set({ progressPermille: permille, updatedAtMs: nowMs })
      .where('taskId', '=', taskId)
      .where('state', '=', 'creating')
      .where('progressPermille', '<', permille)
      .execute()
  }
}
