import { Fault, isFault } from '../image/fault.ts'
import type { TaskId } from '../image/ids.ts'
import type { Task, TaskKind } from '../image/task.ts'
import type { VerifyInput } from '../tasks/verify-region.ts'
import type { App, Caller } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'
import { taskOf } from './rows.ts'

/** Machines' own tasks leave them between two states; they are short, and end by themselves. */
const CANCELLABLE: readonly TaskKind[] = [
  'capture-image',
  'create-snapshot',
  'compose-image',
  'plan-capture',
  'copy-image',
  'copy-batch',
  'import-image',
  'export-image',
  'verify-region',
  'collect-garbage',
  'scrub-region',
  'repair-region',
]
/** What they tell is of a whole region, so of all projects: reading it takes the right that starting them takes. */
const OF_REGIONS: readonly TaskKind[] = ['verify-region', 'collect-garbage', 'scrub-region', 'repair-region']
const WAIT_MAX_MS = 60_000

export function createTasks({ catalog, runner }: Parts, guard: Guard): App['tasks'] {
  const absent = () => new Fault('absent', 'There is no such task. List the tasks.', { subject: 'task' })

  /** The task, still without regard to the caller's rights in its project. */
  async function look(caller: Caller, id: TaskId): Promise<Task | undefined> {
    const row = await catalog.rows
      .selectFrom('task')
      .innerJoin('project', 'project.id', 'task.projectId')
      .selectAll('task')
      .where('task.id', '=', id)
      .where('project.accountId', '=', caller.accountId)
      .executeTakeFirst()
    return row === undefined ? undefined : taskOf(row)
  }

  const targetOf = ({ projectId, regionId, id, kind }: Task) => ({
    ...{ projectId, regionId, resource: `task/${id}` },
    ...(OF_REGIONS.includes(kind) ? { reach: 'account' as const } : {}),
  })

  /** Whoever has no right in a task's project at all is not told that it exists (I10). */
  const hide = (error: unknown) =>
    isFault(error, 'denied') && error.subject === 'project' ? absent() : error

  async function find(caller: Caller, id: TaskId): Promise<Task> {
    const task = await look(caller, id)
    if (task === undefined) throw absent()
    await guard.admit(caller, 'tasks.list', targetOf(task)).catch((error) => {
      throw hide(error)
    })
    return task
  }

  return {
    async list(caller, filter, paging) {
      const projectId = await guard.admit(caller, 'tasks.list', {
        projectId: filter.projectId,
        resource: 'task/*',
      })
      const wide = { projectId: filter.projectId, resource: 'task/*', reach: 'account' as const }
      const isWide = await guard.admit(caller, 'tasks.list', wide).then(
        () => true,
        (error) => {
          if (isFault(error, 'denied')) return false
          throw error
        },
      )
      const query = () => {
        let q = catalog.rows.selectFrom('task').where('projectId', '=', projectId)
        if (!isWide) q = q.where('kind', 'not in', OF_REGIONS)
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

    get: find,

    async wait(caller, id, waitMs) {
      // Listening starts before the look, so that a change between the two is not missed.
      const stop = new AbortController()
      const changed = runner.changed(id, Math.max(1, Math.min(waitMs, WAIT_MAX_MS)), stop.signal)
      try {
        const before = await find(caller, id)
        if (before.endedAtMs !== undefined || waitMs <= 0) return before
        await changed
        return await find(caller, id)
      } finally {
        stop.abort()
        await changed
      }
    },

    async cancel(caller, id) {
      const task = await look(caller, id)
      if (task === undefined) throw absent()
      const cancelled = guard.change(caller, 'tasks.cancel', targetOf(task), async () => {
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
        await Promise.all([runner.cancel(id), ...children.map((child) => runner.cancel(child.id as TaskId))])
      })
      await cancelled.catch((error) => {
        throw hide(error)
      })
    },

    verify(caller, input) {
      return guard.change(
        caller,
        'tasks.verify',
        // A region holds the images of all projects, and the report names them.
        { resource: input.regionIds.map((id) => `region/${id}`), reach: 'account' },
        async (projectId) => {
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
        },
      )
    },
  }
}
