import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Catalog } from '../catalog/contract.ts'
import type { TaskEvent } from '../image/event.ts'
import type { ProjectId, RegionId, TaskId } from '../image/ids.ts'
import { createSender, type SenderOptions } from '../intake/sender.ts'
import type { EventLog } from './event-log.ts'
import { createWebhookSeal } from './webhook-row.ts'
import { createWebhookSender, type WebhookSender } from './webhooks.ts'

export const PROJECT = 'org-default' as ProjectId
export const SECRET = 'a secret of sixteen or more'
export const seal = createWebhookSeal(new Uint8Array(32).fill(7))

/** A log of events in memory, in which the test notes them. */
export interface TestEvents extends Pick<EventLog, 'last' | 'first' | 'list' | 'wait'> {
  add(event?: Partial<TaskEvent>): TaskEvent
  /** Lets go of all up to this id. */
  forget(id: number): void
}

export function newEvents(): TestEvents {
  const held: TaskEvent[] = []
  const waiting = new Set<() => void>()
  let lastId = 0
  let firstId = 1
  return {
    add(event = {}) {
      const noted: TaskEvent = {
        ...{ id: ++lastId, atMs: 1000, projectId: PROJECT, regionId: 'hk' as RegionId },
        ...{ taskId: 't'.repeat(17) as TaskId, parentId: undefined, kind: 'copy-image', imageId: undefined },
        ...{ state: 'running', step: 'pull', faultKind: undefined, reason: undefined },
        ...{ doneBytes: 1, totalBytes: 2, movedBytes: 1, savedBytes: 0, ...event },
      }
      held.push(noted)
      for (const go of waiting) go()
      return noted
    },
    forget(id) {
      firstId = id + 1
      held.splice(0, held.length, ...held.filter((one) => one.id > id))
    },
    last: async () => lastId,
    first: async () => firstId,
    async list(filter, afterId, limit) {
      return held
        .filter(
          ({ id, projectId, taskId, kind, state }) =>
            id > afterId &&
            (filter.projectId ?? projectId) === projectId &&
            (filter.taskId ?? taskId) === taskId &&
            (filter.kinds?.includes(kind) ?? true) &&
            (filter.endsOnly !== true || ['done', 'failed', 'cancelled'].includes(state)),
        )
        .slice(0, limit)
    },
    async wait(afterId, waitMs, signal) {
      if (signal.aborted || lastId > afterId) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, waitMs)
      waiting.add(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
      await promise
      waiting.delete(resolve)
      clearTimeout(timer)
    },
  }
}

export interface Received {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  readonly event: { readonly id: number }
}

/** Takes messages on loopback and notes them as they come, before it answers; 204 unless `answer` does otherwise. */
export async function startReceiver(
  answer: (received: Received, response: ServerResponse) => void = (_, response) =>
    response.writeHead(204).end(),
) {
  const got: Received[] = []
  const server = createServer(async (request, response) => {
    try {
      const body = Buffer.concat(await Array.fromAsync(request))
      const event = JSON.parse(body.toString())
      const received = { path: request.url ?? '', headers: request.headers, body, event }
      got.push(received)
      answer(received, response)
    } catch {
      // The sender broke off.
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    ...{ got, port, url: `http://127.0.0.1:${port}` },
    idsOf: (path: string) => got.filter((one) => one.path === path).map(({ event }) => event.id),
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

export async function insertWebhook(
  catalog: Catalog,
  id: string,
  url: string,
  row: Partial<{ projectId: string; kinds: string; endsOnly: number; deliveredId: number }> = {},
): Promise<void> {
  await catalog.rows
    .insertInto('webhook')
    .values({
      ...{ id, projectId: PROJECT, name: id, url, secret: seal.seal({ url, secret: SECRET }), kinds: '[]' },
      caller: '{}',
      ...{
        endsOnly: 0,
        isEnabled: 1,
        createdAtMs: 0,
        deliveredId: 0,
        deliveredAtMs: null,
        failingSinceMs: null,
      },
      ...{ lastReason: null, attemptCount: 0, nextAtMs: 0, ...row },
    })
    .execute()
}

export const rowOf = (catalog: Catalog, id: string) =>
  catalog.rows.selectFrom('webhook').selectAll().where('id', '=', id).executeTakeFirstOrThrow()

export interface TestSender {
  nowMs: number
  /** How many messages were on their way at once. */
  sendingMost: number
  /** Refuses by throwing; at first nobody is. */
  admit: (id: string) => Promise<void>
  readonly logged: Record<string, unknown>[]
}

/** A sender that may reach loopback, with a clock of its own. */
export function startSender(
  catalog: Catalog,
  events: Pick<EventLog, 'last' | 'list' | 'wait'>,
  options: SenderOptions = { allow: ['127.0.0.1'] },
): WebhookSender & TestSender {
  const logged: Record<string, unknown>[] = []
  const place: Omit<TestSender, 'logged'> = {
    nowMs: 1_700_000_000_000,
    sendingMost: 0,
    admit: async () => {},
  }
  const { post } = createSender(options)
  let sendingCount = 0
  const sender = createWebhookSender({
    ...{ catalog, events, seal },
    send: {
      async post(...message) {
        place.sendingMost = Math.max(place.sendingMost, ++sendingCount)
        return await post(...message).finally(() => sendingCount--)
      },
    },
    admit: ({ id }) => place.admit(id),
    show: ({ id, kind, state }) => ({ id, kind, state }),
    clock: () => place.nowMs,
    log: (record) => logged.push(record),
  })
  return Object.assign(place, sender, { logged })
}

/** Until it is so; the runner of tests ends what never becomes so. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 2))
}
