import { setTimeout as sleep } from 'node:timers/promises'
import type { App, Caller, Page, Paging } from '../../app/contract.ts'
import type { ReplicationRule } from '../../image/copy.ts'
import type { TaskEvent, Webhook } from '../../image/event.ts'
import { Fault } from '../../image/fault.ts'
import { newId, type RegionId } from '../../image/ids.ts'
import { NOW_MS, PROJECT } from './fixture-nouns.ts'

/** What happened and who is told; a test may change any of it. */
export interface FollowingHeld {
  readonly events: readonly TaskEvent[]
  readonly webhooks: Map<string, Webhook>
  readonly rules: Map<string, ReplicationRule>
  /** Events up to this id are no longer kept. */
  goneId: number
  /** One more event, a second after the last; whoever waits is told. */
  add(change?: Partial<TaskEvent>): TaskEvent
}

interface FakeParts {
  called(name: string, caller: Caller, input: unknown): Promise<void>
  page<Item>(items: readonly Item[], paging: Paging): Page<Item>
}

/** Events, webhooks and replication rules of an App in memory. */
export function createFakeFollowing({ called, page }: FakeParts) {
  const events: TaskEvent[] = []
  const waiting = new Set<() => void>()
  let lastId = 0
  let countMade = 0

  const held: FollowingHeld = {
    events,
    webhooks: new Map(),
    rules: new Map(),
    goneId: 0,
    add(change = {}) {
      lastId = change.id ?? lastId + 1
      const event: TaskEvent = {
        id: lastId,
        atMs: NOW_MS + lastId * 1000,
        projectId: PROJECT,
        regionId: 'cn-hangzhou' as RegionId,
        taskId: newId('task'),
        parentId: undefined,
        kind: 'copy-image',
        imageId: newId('image'),
        state: 'running',
        step: 'pull',
        faultKind: undefined,
        reason: undefined,
        ...{ doneBytes: 1024, totalBytes: 4096, movedBytes: 1024, savedBytes: 0 },
        ...change,
      }
      events.push(event)
      for (const tell of waiting) tell()
      return event
    },
  }

  /** Resolves at the next event, the end of the time, or the signal. */
  async function nextEvent(waitMs: number, signal: AbortSignal): Promise<void> {
    const done = new AbortController()
    const tell = () => done.abort()
    waiting.add(tell)
    try {
      await sleep(waitMs, undefined, { signal: AbortSignal.any([signal, done.signal]) })
    } catch {
      // An event came, or nobody is left to tell of one.
    } finally {
      waiting.delete(tell)
    }
  }

  function getRow<Row>(rows: Map<string, Row>, id: string, subject: 'webhook' | 'replication-rule'): Row {
    const row = rows.get(id)
    if (row === undefined) throw new Fault('absent', `There is no such ${subject}.`, { subject })
    return row
  }

  const app: Pick<App, 'events' | 'webhooks' | 'replication'> = {
    events: {
      async list(caller, filter, { limit, waitMs, signal }) {
        await called('events.list', caller, filter)
        const { afterId = lastId, taskId, kinds } = filter
        if (afterId < held.goneId) {
          const message = 'Events so old are no longer kept. Look at the tasks, and follow from now on.'
          throw new Fault('conflict', message, { subject: 'event', reason: 'gone' })
        }
        const find = () =>
          events.filter(
            (one) =>
              one.id > afterId &&
              (taskId === undefined || one.taskId === taskId) &&
              (kinds?.includes(one.kind) ?? true),
          )
        const until = performance.now() + waitMs
        while (find().length === 0 && performance.now() < until && !signal.aborted)
          await nextEvent(until - performance.now(), signal)
        const found = find().slice(0, limit)
        return { events: found, lastId: found.length < limit ? lastId : (found.at(-1)?.id ?? lastId) }
      },
    },
    webhooks: {
      async create(caller, input) {
        await called('webhooks.create', caller, input)
        const { name, url, kinds, endsOnly, secret = 'made-for-the-webhook' } = input
        const id = `hook-${++countMade}`
        held.webhooks.set(id, {
          ...{ id, projectId: PROJECT, name, url, kinds, endsOnly, isEnabled: true },
          ...{ createdAtMs: NOW_MS, deliveredId: lastId, deliveredAtMs: undefined },
          ...{ failingSinceMs: undefined, lastReason: undefined },
        })
        return { id, secret }
      },
      async list(caller, filter, paging) {
        await called('webhooks.list', caller, filter)
        return page([...held.webhooks.values()], paging)
      },
      async change(caller, input) {
        await called('webhooks.change', caller, input)
        const { id, isEnabled } = input
        held.webhooks.set(id, { ...getRow(held.webhooks, id, 'webhook'), isEnabled })
      },
      async remove(caller, input) {
        await called('webhooks.remove', caller, input)
        getRow(held.webhooks, input.id, 'webhook')
        held.webhooks.delete(input.id)
      },
    },
    replication: {
      async create(caller, input) {
        await called('replication.create', caller, input)
        const { regionId, name, filter, targetProjectId = PROJECT, targetRegionIds, keepCount = null } = input
        const id = `rule-${++countMade}`
        held.rules.set(id, {
          ...{ id, projectId: PROJECT, regionId, name, filter, targetProjectId, targetRegionIds, keepCount },
          ...{ isEnabled: true, creator: caller.userName, createdAtMs: NOW_MS },
          ...{ lastDoneAtMs: undefined, lastFailedAtMs: undefined, lastReason: undefined },
        })
        return { id }
      },
      async list(caller, filter, paging) {
        await called('replication.list', caller, filter)
        return page(
          [...held.rules.values()].filter(({ regionId }) => regionId === filter.regionId),
          paging,
        )
      },
      async get(caller, where) {
        await called('replication.get', caller, where)
        return getRow(held.rules, where.id, 'replication-rule')
      },
      async change(caller, input) {
        await called('replication.change', caller, input)
        const { id, isEnabled } = input
        held.rules.set(id, { ...getRow(held.rules, id, 'replication-rule'), isEnabled })
      },
      async remove(caller, input) {
        await called('replication.remove', caller, input)
        getRow(held.rules, input.id, 'replication-rule')
        held.rules.delete(input.id)
      },
    },
  }
  return { app, held }
}
