import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import { isFault } from '../image/fault.ts'
import type { ProjectId } from '../image/ids.ts'
import type { TaskKind } from '../image/task.ts'
import { createSender } from '../intake/sender.ts'
import { newEvents, seal } from '../tasks/webhooks.fixture.ts'
import type { Caller } from './caller.ts'
import { ensureRoot } from './first-start.ts'
import { createGuard } from './guard.ts'
import { createKeyring } from './keyring.ts'
import { createWebhookAdmission } from './webhook-rights.ts'
import { createWebhooks } from './webhooks.ts'

const NEW = { name: 'ci', url: 'https://ci.example/hooks?token=abc', kinds: [], endsOnly: false }
const ALL = { offset: 0, limit: 100 }

async function newPlace(t: TestContext) {
  const catalog = await openSqliteCatalog(':memory:')
  t.after(() => catalog.close())
  const clock = () => 1000
  const parts = { catalog, clock }
  const { keyId } = await ensureRoot(catalog, undefined, 0)
  const keyring = createKeyring(parts)
  const key = await keyring.find(keyId)
  const request = { requestId: 'R', sourceIp: '127.0.0.1', secureTransport: false }
  const root = await keyring.caller(key?.userId ?? '', 'native', request)
  const events = newEvents()
  const { check } = createSender({ allow: [] })
  let changedCount = 0
  const guard = createGuard(parts)
  const webhooks = createWebhooks(
    {
      ...parts,
      events: { ...events, note: async () => {}, noted() {}, sweep: async () => {} },
      webhooks: { check: async (url) => check(url), seal, changed: () => void changedCount++ },
    },
    guard,
  )
  /** A user with these rights in the root's project alone. */
  async function userWith(name: string, actions: readonly string[]): Promise<Caller> {
    const { accountId, defaultProjectId } = root
    const document = JSON.stringify({
      Version: '1',
      Statement: [{ Effect: 'Allow', Action: actions, Resource: '*' }],
    })
    const user = { id: name, accountId, name, isRoot: 0, defaultProjectId, createdAtMs: 0 }
    await catalog.rows.insertInto('user').values(user).execute()
    await catalog.rows.insertInto('policy').values({ accountId, name, document, createdAtMs: 0 }).execute()
    await catalog.rows
      .insertInto('attachment')
      .values({ userId: name, policyName: name, projectId: defaultProjectId })
      .execute()
    return keyring.caller(name, 'native', request)
  }
  const allow = (name: string, actions: readonly string[]) => {
    const document = JSON.stringify({
      Version: '1',
      Statement: [{ Effect: 'Allow', Action: actions, Resource: '*' }],
    })
    return catalog.rows.updateTable('policy').set({ document }).where('name', '=', name).execute()
  }
  /** Of the newest webhook. */
  const admit = async () => {
    const rows = await catalog.rows.selectFrom('webhook').selectAll().execute()
    await createWebhookAdmission(guard, keyring)(rows.at(-1) ?? assert.fail())
  }
  return { allow, admit, catalog, events, webhooks, root, userWith, changedCount: () => changedCount }
}

const fault = (kind: string, subject: string, field?: string) => (error: unknown) =>
  isFault(error) && error.kind === kind && error.subject === subject && error.field === field

test('a webhook is made with a secret that is shown once, and nothing that opens its address is readable', async (t) => {
  const { catalog, events, webhooks, root, changedCount } = await newPlace(t)
  events.add()
  const made = await webhooks.create(root, NEW)
  assert.match(made.id, /^[0-9a-z]{17}$/)
  assert.match(made.secret, /^[A-Za-z0-9_-]{43}$/)
  const given = { secret: 'sixteen of them!', kinds: ['copy-image', 'copy-image'] as TaskKind[] }
  const other = await webhooks.create(root, { ...NEW, ...given, name: 'two', endsOnly: true })
  assert.equal(other.secret, given.secret)
  assert.equal(changedCount(), 2)
  const { total, items } = await webhooks.list(root, {}, ALL)
  assert.equal(total, 2)
  const shown = items.find(({ id }) => id === made.id)
  assert.deepEqual(shown, {
    ...{ id: made.id, projectId: root.defaultProjectId, name: 'ci', url: 'https://ci.example/…' },
    ...{ kinds: [], endsOnly: false, isEnabled: true, createdAtMs: 1000, deliveredId: 1 },
    ...{ deliveredAtMs: undefined, failingSinceMs: undefined, lastReason: undefined },
  })
  assert.deepEqual(items.find(({ id }) => id === other.id)?.kinds, ['copy-image'])
  const rows = await catalog.rows.selectFrom('webhook').selectAll().execute()
  assert.doesNotMatch(JSON.stringify(rows), /token|sixteen/)
  assert.ok(!JSON.stringify(rows).includes(made.secret))
  const opened = rows.map((row) => seal.open(row.secret)).find(({ secret }) => secret === made.secret)
  assert.deepEqual(opened, { url: NEW.url, secret: made.secret })
  assert.equal((await webhooks.list(root, {}, { offset: 1, limit: 1 })).items.length, 1)
})

test('a webhook may not be for an address that only the server can reach, nor have odd words', async (t) => {
  const { catalog, webhooks, root } = await newPlace(t)
  const refused = (change: Partial<typeof NEW> & { secret?: string }, subject: string, field: string) =>
    assert.rejects(webhooks.create(root, { ...NEW, ...change }), fault('invalid', subject, field))
  for (const host of [
    '127.0.0.1',
    'localhost',
    '0x7f.1',
    '[::1]',
    '169.254.169.254',
    '10.0.0.1',
    '[::ffff:7f00:1]',
  ])
    await refused({ url: `http://${host}/x?Signature=hidden` }, 'request', 'url')
  for (const url of [
    '',
    'ftp://x/',
    'file:///etc/passwd',
    'https://u:p@x.example/',
    'https://x.example/#a',
    'x',
  ])
    await refused({ url }, 'request', 'url')
  for (const name of ['', ' x', 'x ', 'a\nb', 'x'.repeat(65)]) await refused({ name }, 'name', 'name')
  for (const secret of ['', 'x'.repeat(15), 'x'.repeat(257), 'sixteen of them\n', 'sixteen of thém!'])
    await refused({ secret }, 'request', 'secret')
  assert.equal((await webhooks.list(root, {}, ALL)).total, 0)
  const audit = await catalog.rows.selectFrom('audit').select(['action', 'outcome']).execute()
  assert.ok(audit.length > 20)
  assert.ok(
    audit.every(({ action, outcome }) => action === 'calotype:CreateWebhook' && /^invalid/.test(outcome)),
  )
  assert.doesNotMatch(JSON.stringify(await catalog.rows.selectFrom('audit').selectAll().execute()), /hidden/)
})

test('a project has at most fifty', async (t) => {
  const { webhooks, root } = await newPlace(t)
  for (let count = 0; count < 50; count++) await webhooks.create(root, NEW)
  await assert.rejects(webhooks.create(root, NEW), fault('full', 'webhook'))
})

test('enabled again it goes on from now on; removed it is gone', async (t) => {
  const { catalog, events, webhooks, root, changedCount } = await newPlace(t)
  const { id } = await webhooks.create(root, NEW)
  const failing = { failingSinceMs: 5, lastReason: 'x', attemptCount: 9, nextAtMs: 99 }
  await catalog.rows.updateTable('webhook').set(failing).execute()
  events.add()
  // Nothing changes where nothing is changed.
  await webhooks.change(root, { id, isEnabled: true })
  assert.deepEqual((await webhooks.list(root, {}, ALL)).items[0]?.deliveredId, 0)
  await webhooks.change(root, { id, isEnabled: false })
  const off = (await webhooks.list(root, {}, ALL)).items[0]
  assert.deepEqual([off?.isEnabled, off?.lastReason, off?.deliveredId], [false, 'x', 0])
  await webhooks.change(root, { id, isEnabled: true })
  const row = await catalog.rows.selectFrom('webhook').selectAll().executeTakeFirstOrThrow()
  const { deliveredId, failingSinceMs, lastReason, attemptCount, nextAtMs } = row
  assert.deepEqual([deliveredId, failingSinceMs, lastReason, attemptCount, nextAtMs], [1, null, null, 0, 0])
  await webhooks.remove(root, { id })
  assert.equal(changedCount(), 5)
  for (const gone of [id, 'x'.repeat(17), '', "' or 1=1"]) {
    await assert.rejects(webhooks.remove(root, { id: gone }), fault('absent', 'webhook'))
    await assert.rejects(webhooks.change(root, { id: gone, isEnabled: true }), fault('absent', 'webhook'))
  }
})

test('a webhook is of its project alone, and tells of whole regions only who may read of them', async (t) => {
  const { catalog, webhooks, root, userWith } = await newPlace(t)
  const { accountId } = root
  const other = 'org-other' as ProjectId
  const project = { id: other, accountId, name: 'other', isDefault: 0, createdAtMs: 0 }
  await catalog.rows.insertInto('project').values(project).execute()
  const { id } = await webhooks.create(root, { ...NEW, projectId: other })
  await assert.rejects(webhooks.remove(root, { id }), fault('absent', 'webhook'))
  await assert.rejects(webhooks.change(root, { id, isEnabled: false }), fault('absent', 'webhook'))
  assert.equal((await webhooks.list(root, {}, ALL)).total, 0)
  const denied = (error: unknown) => isFault(error, 'denied')
  const blind = await userWith('blind', ['calotype:CreateWebhook'])
  await assert.rejects(webhooks.create(blind, NEW), denied)
  const user = await userWith('user', ['calotype:CreateWebhook', 'calotype:ListTasks'])
  await webhooks.create(user, { ...NEW, kinds: ['copy-image'] })
  await assert.rejects(webhooks.create(user, { ...NEW, kinds: ['copy-image', 'scrub-region'] }), denied)
  await assert.rejects(webhooks.create(user, { ...NEW, projectId: other }), denied)
  await assert.rejects(webhooks.list(user, {}, ALL), denied)
  await assert.rejects(webhooks.remove(user, { id }), denied)
  await webhooks.create(root, { ...NEW, kinds: ['scrub-region'] })
})

test('what a webhook is told goes by the rights that its maker has now', async (t) => {
  const { catalog, webhooks, root, userWith, allow, admit } = await newPlace(t)
  const denied = (error: unknown) => isFault(error, 'denied')
  const rights = ['calotype:CreateWebhook', 'calotype:ChangeWebhook', 'calotype:ListTasks']
  const ada = await userWith('ada', rights)
  const { id } = await webhooks.create(ada, NEW)
  await admit()
  await allow('ada', rights.slice(0, 2))
  await assert.rejects(admit(), denied)
  // Switched off it may be, by who may change it; on again only by who may read what it tells.
  await webhooks.change(ada, { id, isEnabled: false })
  await assert.rejects(webhooks.change(ada, { id, isEnabled: true }), denied)
  assert.equal((await webhooks.list(root, {}, ALL)).items[0]?.isEnabled, false)
  await webhooks.change(root, { id, isEnabled: true })
  await assert.rejects(admit(), denied)
  await allow('ada', rights)
  await admit()
  // Of whole regions only a right that holds in all projects is enough.
  await catalog.rows.updateTable('webhook').set({ kinds: '["copy-image","scrub-region"]' }).execute()
  await assert.rejects(admit(), denied)
  await catalog.rows.updateTable('attachment').set({ projectId: '' }).execute()
  await admit()
  await catalog.rows.deleteFrom('user').where('id', '=', 'ada').execute()
  await assert.rejects(admit(), denied)
})
