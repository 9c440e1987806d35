import { TASK_KINDS } from '../../../image/task.ts'
import { followEvents, lastEventId, STREAM_HEADERS } from '../event-stream.ts'
import { id, integer, list, oneOf, optional, withDefault } from '../fields.ts'
import { FOLLOW_PATH } from '../followers.ts'
import { type Route, route } from '../route.ts'
import { showEvent } from '../show-events.ts'
import { place } from './common.ts'

/** Shorter than the 60 s after which proxies give up on an answer. */
const WAIT_MS_MAX = 50_000
const LIMIT_MAX = 500

const wanted = {
  project: place.project,
  afterId: optional(integer(0, Number.MAX_SAFE_INTEGER)),
  taskId: optional(id('task')),
  kinds: optional(list(oneOf(...TASK_KINDS), TASK_KINDS.length)),
}

export const eventRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/events',
    useCase: 'events.list',
    about:
      "What the project's tasks did, in its order, behind the event `afterId` (without it: from now on): at once if there is anything, else when there is or `waitMs` is over. `lastId` is where to go on. Where events behind `afterId` are no longer kept: `conflict`, subject `event`, reason `gone`. Who waits counts as one that follows (`GET /v1/events/stream`).",
    status: 200,
    fields: {
      ...wanted,
      limit: withDefault(integer(1, LIMIT_MAX), 100),
      waitMs: withDefault(integer(0, WAIT_MS_MAX), 0),
    },
    async run(
      { app, caller, signal, followers },
      { project: projectId, afterId, taskId, kinds, limit, waitMs },
    ) {
      const ask = async (fromId: number | undefined, ms: number) => {
        const filter = { projectId, afterId: fromId, taskId, kinds }
        const { events, lastId } = await app.events.list(caller, filter, { limit, waitMs: ms, signal })
        return { lastId, events: events.map(showEvent) }
      }
      // Once without waiting, so that only who may wait, and has to, takes a place.
      const there = await ask(afterId, 0)
      if (waitMs === 0 || there.events.length > 0) return there
      const leave = followers.enter(projectId ?? caller.defaultProjectId)
      try {
        return await ask(there.lastId, waitMs)
      } finally {
        leave()
      }
    },
  }),
  route({
    method: 'GET',
    path: FOLLOW_PATH,
    useCase: 'events.list',
    about:
      'The same as they come, as server-sent events (docs/copies.md), behind `Last-Event-ID` or `afterId`, else from now on. At most 16 may follow a project or wait for its events, and 64 all of them; one more is `unavailable`, reason `busy`.',
    status: 200,
    fields: wanted,
    headers: () => STREAM_HEADERS,
    async run(context, { project: projectId, afterId, taskId, kinds }) {
      const fromId = lastEventId(context) ?? afterId
      return { stream: await followEvents(context, { projectId, afterId: fromId, taskId, kinds }) }
    },
    // Safe: it is what `run` made.
    stream: (answer) => (answer as { stream: AsyncIterable<Uint8Array> }).stream,
  }),
]
