import { randomBytes } from 'node:crypto'
import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import { newCore, type ProjectId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { webhookOf } from '../tasks/webhook-row.ts'
import type { App } from './contract.ts'
import type { Guard } from './guard.ts'
import type { Parts } from './parts.ts'
import { refuseShortName } from './short-name.ts'
import { admitTold } from './webhook-rights.ts'
import type { InProject } from './wishes.ts'

const WEBHOOKS_PER_PROJECT_MAX = 50
const SECRET_BYTES = 32
const ANY = 'webhook/*'

const invalid = (field: string, message: string) => new Fault('invalid', message, { field })

/** Throws Fault 'invalid' with the field for what no webhook may have. */
function checkWords({ name, secret }: { readonly name: string; readonly secret?: string | undefined }): void {
  refuseShortName('webhook', name)
  if (secret !== undefined && !/^[\x20-\x7e]{16,256}$/.test(secret)) {
    throw invalid('secret', 'A secret has 16 to 256 printable characters of ASCII. Leave it out to get one.')
  }
}

export function createWebhooks(
  { catalog, clock, events, webhooks }: Pick<Parts, 'catalog' | 'clock' | 'events' | 'webhooks'>,
  guard: Guard,
): App['webhooks'] {
  const targetOf = ({ projectId, id }: InProject & { readonly id: string }) => ({
    ...{ projectId, resource: `webhook/${id}` },
  })

  async function requireOne(rows: Rows, id: string, projectId: ProjectId) {
    const row = await rows
      .selectFrom('webhook')
      .selectAll()
      .where('id', '=', id)
      .where('projectId', '=', projectId)
      .executeTakeFirst()
    if (row !== undefined) return row
    throw new Fault('absent', 'There is no such webhook in this project. List the webhooks.', {
      subject: 'webhook',
    })
  }

  return {
    create(caller, input) {
      const { name, url, kinds, endsOnly } = input
      const target = { projectId: input.projectId, resource: ANY }
      return guard.change(caller, 'webhooks.create', target, async (projectId) => {
        checkWords(input)
        await admitTold(guard, caller, projectId, kinds)
        const shownUrl = await webhooks.check(url)
        const id = newCore()
        const secret = input.secret ?? randomBytes(SECRET_BYTES).toString('base64url')
        const lastId = await events.last()
        await catalog.transaction(async (rows) => {
          const held = await rows
            .selectFrom('webhook')
            .select((q) => q.fn.countAll<number>().as('count'))
            .where('projectId', '=', projectId)
            .executeTakeFirstOrThrow()
          if (Number(held.count) >= WEBHOOKS_PER_PROJECT_MAX) {
            const message = `Project ${projectId} has its ${WEBHOOKS_PER_PROJECT_MAX} webhooks. Delete one.`
            throw new Fault('full', message, { subject: 'webhook' })
          }
          await rows
            .insertInto('webhook')
            .values({
              ...{ id, projectId, name, url: shownUrl, secret: webhooks.seal.seal({ url, secret }) },
              ...{ kinds: JSON.stringify([...new Set(kinds)]), endsOnly: endsOnly ? 1 : 0, isEnabled: 1 },
              ...{ caller: JSON.stringify(caller), createdAtMs: clock() },
              ...{ deliveredId: lastId, deliveredAtMs: null },
              ...{ failingSinceMs: null, lastReason: null, attemptCount: 0, nextAtMs: 0 },
            })
            .execute()
        })
        webhooks.changed()
        return { id, secret }
      })
    },

    async list(caller, filter, paging) {
      const target = { projectId: filter.projectId, resource: ANY }
      const projectId = await guard.admit(caller, 'webhooks.list', target)
      const query = catalog.rows.selectFrom('webhook').where('projectId', '=', projectId)
      const { count } = await query
        .select((q) => q.fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      const rows = await query
        .selectAll()
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .limit(paging.limit)
        .offset(paging.offset)
        .execute()
      return { total: Number(count), items: rows.map(webhookOf) }
    },

    async change(caller, input) {
      await guard.change(caller, 'webhooks.change', targetOf(input), async (projectId) => {
        if (input.isEnabled) {
          const { kinds } = await requireOne(catalog.rows, input.id, projectId)
          await admitTold(guard, caller, projectId, JSON.parse(kinds) as TaskKind[])
        }
        const lastId = await events.last()
        await catalog.transaction(async (rows) => {
          const row = await requireOne(rows, input.id, projectId)
          if ((row.isEnabled === 1) === input.isEnabled) return
          const fresh = { failingSinceMs: null, lastReason: null, attemptCount: 0, nextAtMs: 0 }
          await rows
            .updateTable('webhook')
            .set(input.isEnabled ? { ...fresh, isEnabled: 1, deliveredId: lastId } : { isEnabled: 0 })
            .where('id', '=', input.id)
            .execute()
        })
        webhooks.changed()
      })
    },

    async remove(caller, input) {
      await guard.change(caller, 'webhooks.remove', targetOf(input), async (projectId) => {
        await catalog.transaction(async (rows) => {
          await requireOne(rows, input.id, projectId)
          await rows.deleteFrom('webhook').where('id', '=', input.id).execute()
        })
        webhooks.changed()
      })
    },
  }
}
