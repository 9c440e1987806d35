import type { Selectable } from 'kysely'
import type { Schema } from '../catalog/schema.ts'
import type { Webhook } from '../image/event.ts'
import { Fault } from '../image/fault.ts'
import type { ProjectId } from '../image/ids.ts'
import { PROJECT_KINDS, type TaskKind } from '../image/task.ts'
import type { EventFilter } from './event-log.ts'
import { createSeal, type Seal } from './seal.ts'

export type WebhookRow = Selectable<Schema['webhook']>

/** What the row keeps sealed: the address with its query, which often is a key by itself, and what messages are signed with. */
export interface WebhookSecret {
  readonly url: string
  readonly secret: string
}

export type WebhookSeal = Seal<WebhookSecret>

/** `key`: 32 bytes of the installation. */
export function createWebhookSeal(key: Uint8Array): WebhookSeal {
  return createSeal(key, (cause) => {
    const message = 'Its secret cannot be read any more: the key was changed. Make the webhook anew.'
    return new Fault('corrupt', message, { subject: 'webhook', cause })
  })
}

export function webhookOf(row: WebhookRow): Webhook {
  return {
    ...{ id: row.id, name: row.name, url: row.url },
    projectId: row.projectId as ProjectId,
    kinds: JSON.parse(row.kinds),
    endsOnly: row.endsOnly === 1,
    isEnabled: row.isEnabled === 1,
    createdAtMs: row.createdAtMs,
    deliveredId: row.deliveredId,
    deliveredAtMs: row.deliveredAtMs ?? undefined,
    failingSinceMs: row.failingSinceMs ?? undefined,
    lastReason: row.lastReason ?? undefined,
  }
}

/** The events that a webhook is told of. */
export function filterOf(row: Pick<WebhookRow, 'projectId' | 'kinds' | 'endsOnly'>): Required<EventFilter> {
  const kinds = JSON.parse(row.kinds) as TaskKind[]
  return {
    projectId: row.projectId as ProjectId,
    taskId: undefined,
    // Events of whole regions are only for those that name their kinds.
    kinds: kinds.length === 0 ? PROJECT_KINDS : kinds,
    endsOnly: row.endsOnly === 1,
  }
}
