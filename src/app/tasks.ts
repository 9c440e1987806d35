import { Fault } from '../image/fault.ts'
import type { ProjectId, TaskId } from '../image/ids.ts'
import type { Task, TaskKind } from '../image/task.ts'
import type { VerifyInput } from '../tasks/verify-region.ts'
import type { App, Caller } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'
import { taskOf } from './rows.ts'

/** Machines' own tasks leave them between two states; they are short, and end by themselves. */
const CANCELLABLE: readonly TaskKind[] = [
  'capture-image',
  'copy-image',
  'copy-batch',
  'import-image',
  'verify-region',
]
const WAIT_MAX_MS = 60_000

export function createTasks({ catalog, runner }: Parts, guard: Guard): App['tasks'] {
  async function find(caller: Caller, id: TaskId, useCase: 'tasks.list' | 'tasks.cancel'): Promise<Task> {
    const row = await catalog.rows
      .selectFrom('task')
      .innerJoin('project', 'project.id', 'task.projectId')
      .selectAll('task')
      .where('task.id', '=', id)
      .where('project.accountId', '=', caller.accountId)
      .executeTakeFirst()
    const absent = () => new Fault('absent', 'There is no such task. List the tasks.', { subject: 'task' })
    if (row === undefined) throw absent()
    try {
      await guard.admit(caller, useCase, { projectId: row.projectId as ProjectId, resource: `task/${id}` })
    } catch (error) {
      // Whoever has no right in its project at all is not told that it exists (I10).
      if (error instanceof Fault && error.kind === 'denied' && error.subject === 'project') throw absent()
      throw error
    }
    return taskOf(row)
  }

  return {
    async list(caller, filter, paging) {
      const projectId = await guard.admit(caller, 'tasks.list', {
        projectId: filter.projectId,
        resource: 'task/*',
      })
      const query = () => {
        let q = catalog.rows.selectFrom('task').where('projectId', '=', projectId)
        if (filter.kind !== undefined) q = q.where('kind', '=', filter.kind)
        if (filter.parentId !== undefined) q = q.where('parentId', '=', filter.parentId)
        if (filter.live === true) q = q.where('endedAtMs', 'is', null)
        return q
      }
      const count = await query()
        .select((q) => q.fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      const rows = await query()
        .selectAll()
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .limit(paging.limit)
        .offset(paging.offset)
        .execute()
      return { total: Number(count.count), items: rows.map(taskOf) }
    },

    get: (caller, id) => find(caller, id, 'tasks.list'),

    async wait(caller, id, waitMs) {
      // Listening starts before the look, so that a change between the two is not missed.
      const stop = new AbortController()
      const changed = runner.changed(id, Math.max(1, Math.min(waitMs, WAIT_MAX_MS)), stop.signal)
      try {
        const before = await find(caller, id, 'tasks.list')
        if (before.endedAtMs !== undefined || waitMs <= 0) return before
        await changed
        return await find(caller, id, 'tasks.list')
      } finally {
        stop.abort()
        await changed
      }
    },

    async cancel(caller, id) {
      const task = await find(caller, id, 'tasks.cancel')
      await guard.change(
        caller,
        'tasks.cancel',
        { projectId: task.projectId, resource: `task/${id}` },
        async () => {
          if (task.endedAtMs !== undefined) {
            throw new Fault('conflict', `The task has ended already: ${task.state.at}.`, { subject: 'task' })
          }
          if (!CANCELLABLE.includes(task.kind)) {
            throw new Fault('conflict', `A ${task.kind} task cannot be cancelled; it ends by itself.`, {
              subject: 'task',
            })
          }
          const children = await catalog.rows
            .selectFrom('task')
            .select('id')
            .where('parentId', '=', id)
            .where('endedAtMs', 'is', null)
            .execute()
          await Promise.all([
            runner.cancel(id),
            ...children.map((child) => runner.cancel(child.id as TaskId)),
          ])
        },
      )
    },

    verify(caller, input) {
      return guard.change(caller, 'tasks.verify', { resource: 'region/*' }, async (projectId) => {
        const taskIds = await catalog.transaction(async (rows) => {
          const made: TaskId[] = []
          for (const regionId of input.regionIds) {
            const task: VerifyInput = { regionId, deep: input.deep }
            made.push(await runner.add(rows, { kind: 'verify-region', projectId, regionId, input: task }))
          }
          return made
        })
        for (const id of taskIds) runner.kick(id)
        return { taskIds }
      })
    },
  }
}
