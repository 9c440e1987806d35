import { createHmac } from 'node:crypto'
import type { Parts } from './app/parts.ts'
import type { WebhookAdmission } from './app/webhook-rights.ts'
import type { Catalog } from './catalog/contract.ts'
import type { Sender } from './intake/sender.ts'
import type { Settings } from './settings.ts'
import type { EventLog } from './tasks/event-log.ts'
import { createWebhookSeal } from './tasks/webhook-row.ts'
import type { WebhookSender } from './tasks/webhooks.ts'

/** What webhooks keep secret is sealed with; no other key is the same. */
export function webhooksKey(key: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update('calotype webhooks').digest()
}

/**
 * Joins what tells webhooks of events. `start` begins to send; whoever made or changed one before that is heard then.
 * The way out is loaded when it is first needed.
 */
export function createWebhookParts(
  settings: Pick<Settings, 'imports'>,
  where: {
    readonly catalog: Catalog
    readonly events: EventLog
    /** Of the installation, 32 bytes. */
    readonly key: Uint8Array
    readonly clock: () => number
    readonly log: (record: Record<string, unknown>) => void
  },
): { readonly webhooks: Parts['webhooks']; start(admit: WebhookAdmission): Promise<WebhookSender> } {
  const { catalog, events, clock, log } = where
  const seal = createWebhookSeal(webhooksKey(where.key))
  let opened: Promise<Sender> | undefined
  const open = () => {
    opened ??= import('./intake/sender.ts').then(({ createSender }) =>
      createSender({ allow: settings.imports.allow }),
    )
    return opened
  }
  let sender: WebhookSender | undefined
  return {
    webhooks: {
      check: async (url) => (await open()).check(url),
      seal,
      changed() {
        sender?.look().catch((error: unknown) => {
          log({ level: 'error', message: 'webhooks could not be looked at', error })
        })
      },
    },
    async start(admit) {
      const { createWebhookSender } = await import('./tasks/webhooks.ts')
      const { showEvent: show } = await import('./wire/native/show-events.ts')
      const send: Pick<Sender, 'post'> = { post: async (...message) => (await open()).post(...message) }
      sender = createWebhookSender({ catalog, events, send, seal, admit, show, clock, log })
      return sender
    },
  }
}
