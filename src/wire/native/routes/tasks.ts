import { Fault } from '../../../image/fault.ts'
import { spellId, type TaskId } from '../../../image/ids.ts'
import { TASK_KINDS, TASK_STATES, type Task } from '../../../image/task.ts'
import { distinct, flag, id, integer, list, oneOf, optional, text, withDefault } from '../fields.ts'
import { type Route, type RouteContext, route } from '../route.ts'
import { showTask } from '../show.ts'
import { paging, place } from './common.ts'
import { showCopies } from './copies.ts'

/** Shorter than the 60 s after which proxies give up on an answer. */
const WAIT_MS_MAX = 50_000

/** Waits for a change, but no longer than the caller stays and the server stays open. */
async function waitForChange(context: RouteContext, taskId: TaskId, waitMs: number): Promise<Task> {
  const { app, caller, signal } = context
  if (waitMs === 0 || signal.aborted) return app.tasks.get(caller, taskId)
  let stop = () => {}
  const cut = new Promise<undefined>((resolve) => {
    stop = () => resolve(undefined)
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    const waited = app.tasks.wait(caller, taskId, waitMs)
    // Once the wait was cut, nobody is left to hear how it failed.
    waited.catch(() => undefined)
    return (await Promise.race([waited, cut])) ?? (await app.tasks.get(caller, taskId))
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

export const taskRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/tasks',
    useCase: 'tasks.list',
    about:
      'The tasks of the project, newest first: those that are in one of the states (`state`, which may be repeated); `live` keeps those that have not ended.',
    status: 200,
    fields: {
      project: place.project,
      kind: optional(oneOf(...TASK_KINDS)),
      state: withDefault(list(oneOf(...TASK_STATES), TASK_STATES.length), []),
      parentId: optional(id('task')),
      live: optional(flag),
      ...paging,
    },
    async run({ app, caller }, parameters) {
      const { kind, state: states, parentId, live } = parameters
      const { total, items } = await app.tasks.list(
        caller,
        {
          projectId: parameters.project,
          ...(kind === undefined ? {} : { kind }),
          ...(states.length === 0 ? {} : { states }),
          ...(parentId === undefined ? {} : { parentId }),
          ...(live === undefined ? {} : { live }),
        },
        { offset: parameters.offset, limit: parameters.limit },
      )
      return { total, tasks: items.map(showTask) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/tasks/:id',
    useCase: 'tasks.list',
    about: 'One task; with `waitMs`, once it has changed or ended, or that time is over.',
    status: 200,
    fields: { id: id('task'), waitMs: withDefault(integer(0, WAIT_MS_MAX), 0) },
    async run(context, parameters) {
      return showTask(await waitForChange(context, parameters.id, parameters.waitMs))
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/tasks/:id',
    useCase: 'tasks.cancel',
    about: 'Asks a task to stop and to undo what it did.',
    status: 202,
    fields: { id: id('task') },
    async run({ app, caller }, parameters) {
      await app.tasks.cancel(caller, parameters.id)
      return { id: spellId('task', parameters.id, 'native') }
    },
  }),
  route({
    method: 'PATCH',
    path: '/v1/tasks/:id',
    useCase: 'tasks.change',
    about:
      'Holds a copy (`paused` true), lets it go on (false), or changes its place in the line (`priority`, the higher first); of a batch all copies that have not ended. A copy that is held keeps what it has, and gives its place to others.',
    status: 200,
    fields: { id: id('task'), paused: optional(flag), priority: optional(integer(0, 9)) },
    async run({ app, caller }, { id: taskId, paused, priority }) {
      if (paused === undefined && priority === undefined)
        throw new Fault('invalid', "Nothing is to be changed. Name 'paused', 'priority' or both.", {
          subject: 'task',
        })
      await app.tasks.change(caller, taskId, { paused, priority })
      return { id: spellId('task', taskId, 'native') }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/tasks/:id/retry',
    useCase: 'tasks.retry',
    about:
      'Begins anew what failed or was cancelled of a copy or a batch, with the same images; what is done stays as it is. The answer is that of a copy.',
    status: 202,
    fields: { id: id('task') },
    async run({ app, caller }, parameters) {
      return showCopies(await app.tasks.retry(caller, parameters.id))
    },
  }),
  route({
    method: 'POST',
    path: '/v1/verify',
    useCase: 'tasks.verify',
    about:
      'Checks every pack, map and image of the named regions, or of all that the caller may list; one task for each.',
    status: 202,
    fields: {
      regions: withDefault(distinct(text(64, { lengthMin: 1 }), 50), []),
      deep: withDefault(flag, false),
    },
    async run({ app, caller, region }, parameters) {
      const named = parameters.regions.map((one) => region(one))
      const regionIds = named.length > 0 ? named : (await app.regions.list(caller)).map((one) => one.id)
      const { taskIds } = await app.tasks.verify(caller, { regionIds, deep: parameters.deep })
      return { taskIds: taskIds.map((taskId) => spellId('task', taskId, 'native')) }
    },
  }),
]
