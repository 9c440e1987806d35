import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { ensureRoot } from './app/first-start.ts'
import { createGuard } from './app/guard.ts'
import { createKeyring } from './app/keyring.ts'
import { createWebhookAdmission } from './app/webhook-rights.ts'
import { createWebhooks } from './app/webhooks.ts'
import { openSqliteCatalog } from './catalog/sqlite.ts'
import { isFault } from './image/fault.ts'
import { startServer } from './intake/fetch.fixture.ts'
import type { Settings } from './settings.ts'
import { createEventLog } from './tasks/events.ts'
import { startReceiver, until } from './tasks/webhooks.fixture.ts'
import { transferKeys } from './transfers.ts'
import { createWebhookParts, webhooksKey } from './webhooks.ts'

const KEY = new Uint8Array(32).fill(3)

/** Use cases, log and sender joined as a server joins them, with `receiver` as the one address that is allowed. */
async function newPlace(t: TestContext, answer?: Parameters<typeof startReceiver>[0]) {
  const catalog = await openSqliteCatalog(':memory:')
  const receiver = await startReceiver(answer)
  const clock = () => Date.now()
  const events = createEventLog({ catalog, clock })
  const settings = { imports: { allow: [`127.0.0.1:${receiver.port}`] } } as unknown as Settings
  const logged: unknown[] = []
  const joined = createWebhookParts(settings, {
    ...{ catalog, events, key: KEY, clock },
    log: (record) => logged.push(record),
  })
  const parts = { catalog, clock, events, webhooks: joined.webhooks }
  const { keyId } = await ensureRoot(catalog, undefined, 0)
  const keyring = createKeyring(parts)
  const { userId = '' } = (await keyring.find(keyId)) ?? {}
  const request = { requestId: 'R', sourceIp: '127.0.0.1', secureTransport: false }
  const root = await keyring.caller(userId, 'native', request)
  const guard = createGuard(parts)
  const webhooks = createWebhooks(parts, guard)
  const admit = createWebhookAdmission(guard, keyring)
  t.after(async () => {
    await receiver.close()
    await catalog.close()
    assert.deepEqual(logged, [])
  })
  const { defaultProjectId: projectId } = root
  return {
    ...{ catalog, receiver, root, webhooks },
    async start() {
      const sender = await joined.start(admit)
      t.after(() => sender.close())
    },
    async note(state: string) {
      const body = JSON.stringify({ atMs: 1, projectId, taskId: 't'.repeat(17), kind: 'copy-image', state })
      const row = { atMs: 1, projectId, taskId: 't', kind: 'copy-image', isEnd: 0, body }
      await catalog.rows.insertInto('event').values(row).execute()
      events.noted()
    },
  }
}

const NEW = { name: 'ci', kinds: [], endsOnly: false }
const ALL = { offset: 0, limit: 9 }

test('webhooks joined: told in the words of our door, with the secret that was answered', async (t) => {
  const { receiver, root, webhooks, start, note } = await newPlace(t)
  const { id, secret } = await webhooks.create(root, { ...NEW, url: `${receiver.url}/a?key=1` })
  await note('running')
  await start()
  await until(() => receiver.got.length === 1)
  // Made while others are told.
  await webhooks.create(root, { ...NEW, url: `${receiver.url}/b` })
  await note('done')
  await until(() => receiver.got.length === 3)
  assert.deepEqual([receiver.idsOf('/a?key=1'), receiver.idsOf('/b')], [[1, 2], [2]])
  const { headers, body } = receiver.got[0] ?? assert.fail()
  const [, seconds, hex] = /^t=(\d+),v1=(.*)$/.exec(String(headers['calotype-signature'])) ?? []
  assert.equal(hex, createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex'))
  const told = JSON.parse(body.toString())
  assert.deepEqual(
    [told.taskId, told.project, told.imageId],
    [`task-${'t'.repeat(17)}`, root.defaultProjectId, null],
  )
  await webhooks.remove(root, { id })
  await note('failed')
  await until(() => receiver.idsOf('/b').length === 2)
  assert.equal(receiver.idsOf('/a?key=1').length, 2)
})

// Attack class 14 at this door; names that lead inside and change their minds are in intake/sender.test.ts.
test('webhooks joined: neither an address nor a redirect leads to what only the server can reach', async (t) => {
  const canary = await startServer((_, response) => response.end('secret'))
  t.after(() => canary.close())
  const inside = `http://127.0.0.1:${canary.port}/`
  const { receiver, root, webhooks, start, note } = await newPlace(t, ({ path }, response) => {
    response.writeHead(Number(path.slice(1)), { Location: inside }).end('words of the inside')
  })
  await start()
  for (const host of ['127.0.0.1', 'localhost', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '[::1]', '0']) {
    const url = `http://${host}:${canary.port}/`
    await assert.rejects(
      webhooks.create(root, { ...NEW, url }),
      (error) => isFault(error, 'invalid') && error.reason === 'address' && error.field === 'url',
    )
  }
  const statuses = [301, 302, 303, 307, 308]
  for (const status of statuses) await webhooks.create(root, { ...NEW, url: `${receiver.url}/${status}` })
  await note('done')
  const list = async () => (await webhooks.list(root, {}, ALL)).items
  await until(async () => (await list()).every(({ lastReason }) => lastReason !== undefined))
  for (const { lastReason } of await list()) {
    assert.match(String(lastReason), /^It answered with status 30\d and sends us on, which is not followed\./)
    assert.doesNotMatch(String(lastReason), /inside|127/)
  }
  assert.equal(canary.connectionCount(), 0)
})

test('webhooks joined: their key is no other', () => {
  const { sources, bundles } = transferKeys(KEY)
  const keys = [webhooksKey(KEY), sources, bundles, KEY].map((key) => Buffer.from(key).toString('hex'))
  assert.equal(new Set(keys).size, 4)
})
