import type { TaskEvent, Webhook } from '../../image/event.ts'
import { spellId } from '../../image/ids.ts'

// As show.ts: ids are spelt natively, times are milliseconds since 1970, and a value that is not there is null.

/** Also the body of a webhook's message: docs/copies.md, "Events". */
export interface ShownEvent {
  readonly id: number
  readonly atMs: number
  readonly project: string
  readonly region: string
  readonly taskId: string
  readonly parentId: string | null
  readonly kind: TaskEvent['kind']
  readonly imageId: string | null
  readonly state: TaskEvent['state']
  readonly step: string | null
  readonly faultKind: string | null
  readonly reason: string | null
  readonly doneBytes: number
  readonly totalBytes: number
  readonly movedBytes: number
  readonly savedBytes: number
}

export interface ShownWebhook {
  readonly id: string
  readonly project: string
  readonly name: string
  /** Without its query. */
  readonly url: string
  readonly kinds: Webhook['kinds']
  readonly endsOnly: boolean
  readonly isEnabled: boolean
  readonly createdAtMs: number
  readonly deliveredId: number
  readonly deliveredAtMs: number | null
  readonly failingSinceMs: number | null
  readonly lastReason: string | null
}

export function showEvent(event: TaskEvent): ShownEvent {
  const { parentId, imageId } = event
  return {
    id: event.id,
    atMs: event.atMs,
    project: event.projectId,
    region: event.regionId,
    taskId: spellId('task', event.taskId, 'native'),
    parentId: parentId === undefined ? null : spellId('task', parentId, 'native'),
    kind: event.kind,
    imageId: imageId === undefined ? null : spellId('image', imageId, 'native'),
    state: event.state,
    step: event.step ?? null,
    faultKind: event.faultKind ?? null,
    reason: event.reason ?? null,
    doneBytes: event.doneBytes,
    totalBytes: event.totalBytes,
    movedBytes: event.movedBytes,
    savedBytes: event.savedBytes,
  }
}

export function showWebhook(webhook: Webhook): ShownWebhook {
  return {
    id: webhook.id,
    project: webhook.projectId,
    name: webhook.name,
    url: webhook.url,
    kinds: webhook.kinds,
    endsOnly: webhook.endsOnly,
    isEnabled: webhook.isEnabled,
    createdAtMs: webhook.createdAtMs,
    deliveredId: webhook.deliveredId,
    deliveredAtMs: webhook.deliveredAtMs ?? null,
    failingSinceMs: webhook.failingSinceMs ?? null,
    lastReason: webhook.lastReason ?? null,
  }
}
