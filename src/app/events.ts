import { Fault } from '../image/fault.ts'
import { PROJECT_KINDS, TASK_KINDS } from '../image/task.ts'
import type { EventLog } from '../tasks/event-log.ts'
import type { App } from './contract.ts'
import { type Guard, isAdmitted } from './guard.ts'

const WAIT_MAX_MS = 60_000
const LIMIT_MAX = 1000

export function createEvents({ events }: { readonly events: EventLog }, guard: Guard): App['events'] {
  return {
    async list(
      caller,
      { projectId: wanted, afterId, taskId, kinds = TASK_KINDS },
      { limit, waitMs, signal },
    ) {
      const target = { projectId: wanted, resource: 'task/*' }
      const projectId = await guard.admit(caller, 'events.list', target)
      const isWide = await isAdmitted(guard, caller, 'events.list', { ...target, reach: 'account' })
      const filter = {
        ...{ projectId, taskId },
        kinds: kinds.filter((kind) => isWide || PROJECT_KINDS.includes(kind)),
      }
      const untilMs = performance.now() + Math.min(waitMs, WAIT_MAX_MS)
      let fromId = afterId ?? (await events.last())
      for (;;) {
        const lastId = await events.last()
        if (fromId + 1 < (await events.first()) || fromId > lastId) {
          throw new Fault(
            'conflict',
            `Events behind ${fromId} are not kept any more. Look at the tasks, and follow from now on.`,
            { subject: 'event', reason: 'gone' },
          )
        }
        const found = await events.list(filter, fromId, Math.max(1, Math.min(limit, LIMIT_MAX)))
        const newest = found.at(-1)
        if (newest !== undefined) return { events: found, lastId: newest.id }
        // Those of others were looked through as well.
        fromId = lastId
        const leftMs = untilMs - performance.now()
        if (leftMs <= 0 || signal.aborted) return { events: [], lastId }
        await events.wait(lastId, leftMs, signal, projectId)
      }
    },
  }
}
