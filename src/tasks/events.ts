import { EventEmitter } from 'node:events'
import type { Catalog } from '../catalog/contract.ts'
import type { TaskEvent } from '../image/event.ts'
import type { FaultKind } from '../image/fault.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { TaskKind, TaskState } from '../image/task.ts'
import type { EventLog } from './event-log.ts'

const KEEP_MS = 7 * 24 * 60 * 60 * 1000
const KEEP_COUNT_MAX = 200_000
/** Removed in one commit: nothing else is written meanwhile. */
const SWEEP_COUNT = 5000
const NOTED = 'noted'

/**
 * The record of what tasks did, in the catalog. The newest event is never let go of, so that the ids go on behind it whatever was
 * swept away.
 */
export function createEventLog({
  catalog,
  clock,
  keepMs = KEEP_MS,
  keepMax = KEEP_COUNT_MAX,
}: {
  readonly catalog: Catalog
  readonly clock: () => number
  readonly keepMs?: number
  readonly keepMax?: number
}): EventLog {
  const emitter = new EventEmitter().setMaxListeners(0)
  /** The newest id that was written for each project by this process; one too many where its transaction failed. */
  const written = new Map<string, number>()

  async function findEdge(order: 'asc' | 'desc', projectId?: ProjectId): Promise<number | undefined> {
    let query = catalog.rows.selectFrom('event').select('id').orderBy('id', order).limit(1)
    if (projectId !== undefined) query = query.where('projectId', '=', projectId)
    return (await query.executeTakeFirst())?.id
  }
  const last = async () => (await findEdge('desc')) ?? 0

  return {
    async note(rows, id) {
      const row = await rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirst()
      if (row === undefined) return
      const event: Omit<TaskEvent, 'id'> = {
        atMs: clock(),
        projectId: row.projectId as ProjectId,
        regionId: row.regionId as RegionId,
        taskId: id,
        parentId: (row.parentId as TaskId | null) ?? undefined,
        kind: row.kind as TaskKind,
        imageId: (row.imageId as ImageId | null) ?? undefined,
        state: row.state as TaskState['at'],
        step: row.step === '' ? undefined : row.step,
        faultKind: (row.faultKind as FaultKind | null) ?? undefined,
        reason: row.reason ?? undefined,
        doneBytes: row.doneBytes,
        totalBytes: row.totalBytes,
        movedBytes: row.movedBytes,
        savedBytes: row.savedBytes,
      }
      const { id: eventId } = await rows
        .insertInto('event')
        .values({
          atMs: event.atMs,
          projectId: event.projectId,
          taskId: event.taskId,
          kind: event.kind,
          isEnd: row.endedAtMs === null ? 0 : 1,
          body: JSON.stringify(event),
        })
        .returning('id')
        .executeTakeFirstOrThrow()
      written.set(row.projectId, eventId)
    },
    noted() {
      emitter.emit(NOTED)
    },
    last,
    async first() {
      return (await findEdge('asc')) ?? 1
    },
    async list({ projectId, taskId, kinds, endsOnly }, afterId, limit) {
      let query = catalog.rows.selectFrom('event').select(['id', 'body']).where('id', '>', afterId)
      if (projectId !== undefined) query = query.where('projectId', '=', projectId)
      if (taskId !== undefined) query = query.where('taskId', '=', taskId)
      if (kinds !== undefined) query = query.where('kind', 'in', kinds)
      if (endsOnly === true) query = query.where('isEnd', '=', 1)
      const found = await query.orderBy('id').limit(limit).execute()
      return found.map(({ id, body }): TaskEvent => ({ id, ...JSON.parse(body) }))
    },
    async wait(afterId, waitMs, signal, projectId) {
      // Listening starts before the look, so that what comes between the two is not missed.
      const woken = Promise.withResolvers<void>()
      // Asked at every commit for everybody who waits, and so never of the catalog.
      const hear = () => {
        if (projectId === undefined || (written.get(projectId) ?? 0) > afterId) woken.resolve()
      }
      const timer = setTimeout(woken.resolve, Math.max(0, Math.ceil(waitMs)))
      emitter.on(NOTED, hear)
      signal.addEventListener('abort', woken.resolve as () => void, { once: true })
      try {
        if (signal.aborted || ((await findEdge('desc', projectId)) ?? 0) > afterId) return
        await woken.promise
      } finally {
        clearTimeout(timer)
        emitter.off(NOTED, hear)
        signal.removeEventListener('abort', woken.resolve as () => void)
      }
    },
    async sweep() {
      const newest = await last()
      const young = await catalog.rows
        .selectFrom('event')
        .select('id')
        .where('atMs', '>=', clock() - keepMs)
        .orderBy('id')
        .limit(1)
        .executeTakeFirst()
      const keptFrom = Math.min(newest, Math.max(young?.id ?? newest, newest - keepMax + 1))
      for (;;) {
        const oldest = (await findEdge('asc')) ?? keptFrom
        if (oldest >= keptFrom) return
        const below = Math.min(keptFrom, oldest + SWEEP_COUNT)
        await catalog.rows.deleteFrom('event').where('id', '<', below).execute()
      }
    },
  }
}
