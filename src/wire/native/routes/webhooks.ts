import { TASK_KINDS } from '../../../image/task.ts'
import { flag, list, oneOf, optional, text, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showWebhook } from '../show-events.ts'
import { paging, place } from './common.ts'

const one = { project: place.project, id: text(64, { lengthMin: 1 }) }

export const webhookRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/webhooks',
    useCase: 'webhooks.create',
    about:
      "Tells this address of what the project's tasks do from now on, one event after the other, signed (docs/copies.md). `kinds` keeps those of these kinds of tasks, `endsOnly` how they end. The secret that messages are signed with, given or made, is answered this once.",
    status: 201,
    fields: {
      project: place.project,
      name: text(64, { lengthMin: 1, subject: 'name' }),
      url: text(8192, { lengthMin: 1 }),
      secret: optional(text(256, { lengthMin: 16 })),
      kinds: withDefault(list(oneOf(...TASK_KINDS), TASK_KINDS.length), []),
      endsOnly: withDefault(flag, false),
    },
    async run({ app, caller }, parameters) {
      const { project: projectId, ...webhook } = parameters
      return await app.webhooks.create(caller, { projectId, ...webhook })
    },
  }),
  route({
    method: 'GET',
    path: '/v1/webhooks',
    useCase: 'webhooks.list',
    about:
      "The project's webhooks, newest first: the last event that each took (`deliveredId`), and since when and why it takes none (`failingSinceMs`, `lastReason`). Of addresses host and port are shown.",
    status: 200,
    fields: { project: place.project, ...paging },
    async run({ app, caller }, { project: projectId, offset, limit }) {
      const { total, items } = await app.webhooks.list(caller, { projectId }, { offset, limit })
      return { total, webhooks: items.map(showWebhook) }
    },
  }),
  route({
    method: 'PATCH',
    path: '/v1/webhooks/:id',
    useCase: 'webhooks.change',
    about: 'Disables a webhook, or enables it again: it goes on with what comes from then on.',
    status: 200,
    fields: { ...one, isEnabled: flag },
    async run({ app, caller }, { project: projectId, id, isEnabled }) {
      await app.webhooks.change(caller, { projectId, id, isEnabled })
      return { id }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/webhooks/:id',
    useCase: 'webhooks.remove',
    about: 'Removes a webhook. A message that is on its way is broken off.',
    status: 200,
    fields: one,
    async run({ app, caller }, { project: projectId, id }) {
      await app.webhooks.remove(caller, { projectId, id })
      return { id }
    },
  }),
]
