import { setTimeout as delay } from 'node:timers/promises'
import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { EventLog } from './event-log.ts'
import { createEventLog } from './events.ts'
import {
  createRunner,
  type NewTask,
  type Runner,
  type StepContext,
  type TaskDefinition,
  type TaskRow,
} from './runner.ts'

export interface RunnerPlace {
  readonly catalog: Catalog
  readonly events: EventLog
  /** The one of now: `restart` makes another. */
  readonly runner: Runner
  nowMs: number
  /** What the one step of every task does, what its undo does, and all else that is not as usual. */
  run: (context: StepContext) => Promise<void>
  undo: (context: StepContext, reason: string) => Promise<void>
  /** Awaited when a transaction is committed, before whoever began it knows. */
  committed: () => Promise<void>
  begin(task?: Partial<NewTask>): Promise<TaskId>
  row(id: TaskId): Promise<TaskRow>
  /** The row, once it is so. */
  until(id: TaskId, isSo: (row: TaskRow) => boolean): Promise<TaskRow>
  ended(id: TaskId): Promise<TaskRow>
  /** An image that the task makes. */
  image(taskId: TaskId): Promise<ImageId>
  /** The process ends and another takes up what it left: how many. */
  restart(): Promise<number>
  close(): Promise<void>
}

export const never = () => new AbortController().signal

/** For as long as nobody breaks the run off. */
export const forever = ({ signal }: { readonly signal: AbortSignal }): Promise<void> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

/** The runner over a catalog in memory, with tasks of one kind and one step. */
export async function newRunnerPlace(
  definition: Partial<Pick<TaskDefinition, 'kind' | 'gate' | 'attempts' | 'isPausable'>> = {},
): Promise<RunnerPlace> {
  const inner = await openSqliteCatalog(':memory:')
  const catalog: Catalog = {
    ...inner,
    async transaction(work) {
      const result = await inner.transaction(work)
      await place.committed()
      return result
    },
  }
  const kind = definition.kind ?? 'copy-image'
  let runner: Runner
  let imageCount = 0
  const clock = () => place.nowMs
  const events = createEventLog({ catalog, clock })
  const one: TaskDefinition<unknown> = {
    ...{ kind, gate: 'none', isPausable: true, ...definition },
    steps: [{ name: 'work', run: (context) => place.run(context) }],
    undo: (context, reason) => place.undo(context, reason),
  }
  const start = () => {
    const definitions = [one as TaskDefinition<never>]
    runner = createRunner({ catalog, events, definitions, clock, log: () => {}, copiesAtOnce: 1 })
  }
  const place: RunnerPlace = {
    ...{ catalog, events, nowMs: 1_700_000_000_000 },
    get runner() {
      return runner
    },
    run: async () => {},
    undo: async () => {},
    committed: async () => {},
    async begin(task = {}) {
      const projectId = 'org-a' as ProjectId
      const more = { kind, projectId, regionId: 'hk' as RegionId, input: {}, ...task }
      const id = await catalog.transaction((rows) => runner.add(rows, more))
      runner.kick(id)
      return id
    },
    row: (id) => catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow(),
    async until(id, isSo) {
      for (;;) {
        const row = await place.row(id)
        if (isSo(row)) return row
        await runner.changed(id, 20, never())
        await delay(0)
      }
    },
    ended: (id) => place.until(id, ({ endedAtMs }) => endedAtMs !== null),
    async image(taskId) {
      const id = `i${imageCount++}` as ImageId
      await catalog.rows
        .insertInto('image')
        .values({
          ...{ id, taskId, projectId: 'org-a', regionId: 'hk', name: id, description: '', tag: '' },
          ...{ kind: 'custom', origin: 'copy', osType: 'Linux', osName: '', disks: '[]', config: '{}' },
          ...{ state: 'creating', digest: null, reason: null, consistency: null, parent: null },
          ...{ progressPermille: 0, dataBytes: 0, storedBytes: 0, movedBytes: 0 },
          ...{ sourceMachineId: null, sourceImageId: null, createdAtMs: 0, updatedAtMs: 0 },
        })
        .execute()
      return id
    },
    async restart() {
      await runner.close()
      start()
      return runner.resume()
    },
    async close() {
      await runner.close()
      await catalog.close()
    },
  }
  start()
  return place
}
