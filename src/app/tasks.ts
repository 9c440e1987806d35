import { Fault, isFault } from '../image/fault.ts'
import type { TaskId } from '../image/ids.ts'
import { REGION_KINDS, type Task, type TaskKind } from '../image/task.ts'
import { PRIORITY_MAX } from '../tasks/gates.ts'
import type { VerifyInput } from '../tasks/verify-region.ts'
import type { UseCase } from './actions.ts'
import type { App, Caller } from './contract.ts'
import { type Guard, isAdmitted } from './guard.ts'
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
  'plan-copy',
  'import-image',
  'export-image',
  'verify-region',
  'collect-garbage',
  'scrub-region',
  'repair-region',
]
const COPIES: readonly TaskKind[] = ['copy-image', 'copy-batch']
const OF_REGIONS: readonly TaskKind[] = REGION_KINDS
const WAIT_MAX_MS = 60_000

type Copied = Awaited<ReturnType<App['tasks']['retry']>>

/** `retryCopies`: begins anew what failed of an ended copy or batch, for a caller with the right to begin its task anew. */
export function createTasks(
  { catalog, runner, clock }: Pick<Parts, 'catalog' | 'runner' | 'clock'>,
  guard: Guard,
  retryCopies: (task: Task, caller: Caller) => Promise<Copied>,
): App['tasks'] {
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
    return row === undefined ? undefined : taskOf(row, clock())
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

  const conflict = (message: string) => new Fault('conflict', message, { subject: 'task' })
  const ended = ({ state }: Task) => conflict(`The task has ended already: ${state.at}.`)

  async function changeTask<T>(
    caller: Caller,
    useCase: UseCase,
    id: TaskId,
    work: (task: Task) => Promise<T>,
  ): Promise<T> {
    const task = await look(caller, id)
    if (task === undefined) throw absent()
    return guard
      .change(caller, useCase, targetOf(task), () => work(task))
      .catch((error) => {
        throw hide(error)
      })
  }

  async function liveChildren(id: TaskId): Promise<readonly Task[]> {
    const rows = await catalog.rows
      .selectFrom('task')
      .selectAll()
      .where('parentId', '=', id)
      .where('endedAtMs', 'is', null)
      .execute()
    return rows.map((row) => taskOf(row, clock()))
  }

  /** All that are not so already; those of several that end meanwhile are left alone. */
  async function hold(tasks: readonly Task[], isHeld: boolean): Promise<void> {
    const others = tasks.filter(({ state }) => (state.at === 'paused') !== isHeld)
    if (others.length === 0)
      throw conflict(isHeld ? 'The task is paused already.' : 'The task is not paused.')
    const tried = await Promise.allSettled(
      others.map(({ id }) => (isHeld ? runner.pause(id) : runner.proceed(id))),
    )
    const failed = tried.filter((one) => one.status === 'rejected').map(({ reason }) => reason as unknown)
    for (const reason of failed) if (!isFault(reason, 'conflict')) throw reason
    if (failed.length === tried.length) throw failed[0]
  }

  return {
    async list(caller, filter, paging) {
      const projectId = await guard.admit(caller, 'tasks.list', {
        projectId: filter.projectId,
        resource: 'task/*',
      })
      const wide = { projectId: filter.projectId, resource: 'task/*', reach: 'account' as const }
      const isWide = await isAdmitted(guard, caller, 'tasks.list', wide)
      const query = () => {
        let q = catalog.rows.selectFrom('task').where('projectId', '=', projectId)
        if (!isWide) q = q.where('kind', 'not in', OF_REGIONS)
        if (filter.kind !== undefined) q = q.where('kind', '=', filter.kind)
        if (filter.states !== undefined && filter.states.length > 0) q = q.where('state', 'in', filter.states)
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
      return { total: Number(count.count), items: rows.map((row) => taskOf(row, clock())) }
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
      await changeTask(caller, 'tasks.cancel', id, async (task) => {
        if (task.endedAtMs !== undefined) throw ended(task)
        if (!CANCELLABLE.includes(task.kind)) {
          throw conflict(`A ${task.kind} task cannot be cancelled; it ends by itself.`)
        }
        const children = await liveChildren(id)
        await Promise.all([id, ...children.map((child) => child.id)].map((one) => runner.cancel(one)))
      })
    },

    async change(caller, id, { paused, priority }) {
      await changeTask(caller, 'tasks.change', id, async (task) => {
        if (paused === undefined && priority === undefined) {
          throw new Fault('invalid', 'Say what is to be changed: paused, or priority.')
        }
        if (
          priority !== undefined &&
          !(Number.isInteger(priority) && priority >= 0 && priority <= PRIORITY_MAX)
        ) {
          throw new Fault('invalid', `A priority is a whole number from 0 to ${PRIORITY_MAX}.`, {
            field: 'priority',
          })
        }
        if (task.endedAtMs !== undefined) throw ended(task)
        if (!COPIES.includes(task.kind)) {
          throw conflict(`A ${task.kind} task can be neither paused nor preferred; copies can.`)
        }
        const children = task.kind === 'copy-batch' ? await liveChildren(id) : []
        if (paused !== undefined) await hold(task.kind === 'copy-batch' ? children : [task], paused)
        if (priority === undefined) return
        await Promise.all([task, ...children].map((one) => runner.setPriority(one.id, priority)))
      })
    },

    retry(caller, id) {
      return changeTask(caller, 'tasks.retry', id, async (task) => {
        if (!COPIES.includes(task.kind)) {
          throw conflict(`A ${task.kind} task cannot be begun anew; ask for the same thing again.`)
        }
        if (task.endedAtMs === undefined) {
          throw conflict('The task has not ended. Wait for its end, or cancel it.')
        }
        if (task.state.at === 'done') throw conflict('Nothing of it failed, so there is nothing to repeat.')
        return retryCopies(task, caller)
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
