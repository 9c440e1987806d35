import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import { Fault } from '../image/fault.ts'
import type { ProjectId } from '../image/ids.ts'
import type { EventLog } from './event-log.ts'
import { createEventLog } from './events.ts'
import { createSeal } from './seal.ts'
import { createWebhookSeal } from './webhook-row.ts'
import {
  insertWebhook,
  newEvents,
  PROJECT,
  rowOf,
  SECRET,
  startReceiver,
  startSender,
  until,
} from './webhooks.fixture.ts'

const HOUR_MS = 3_600_000

async function newPlace(t: TestContext, answer?: Parameters<typeof startReceiver>[0]) {
  const catalog = await openSqliteCatalog(':memory:')
  const events = newEvents()
  const receiver = await startReceiver(answer)
  const senders: ReturnType<typeof startSender>[] = []
  t.after(async () => {
    for (const sender of senders) await sender.close()
    await receiver.close()
    await catalog.close()
  })
  const start = (...more: [options?: Parameters<typeof startSender>[2]]) => {
    const sender = startSender(catalog, events, ...more)
    senders.push(sender)
    return sender
  }
  return { catalog, events, receiver, start }
}

test('webhooks: a message is the event, signed so that anybody with the secret can check it', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  await insertWebhook(catalog, 'hook', `${receiver.url}/in?key=1`)
  const sender = start()
  const event = events.add({ state: 'done' })
  await until(() => receiver.got.length > 0)
  const { path, headers, body } = receiver.got[0] ?? assert.fail()
  assert.equal(path, '/in?key=1')
  assert.deepEqual(JSON.parse(body.toString()), { id: event.id, kind: 'copy-image', state: 'done' })
  assert.equal(headers['content-type'], 'application/json')
  assert.equal(headers['content-length'], String(body.length))
  assert.deepEqual([headers['calotype-event'], headers['calotype-webhook']], [String(event.id), 'hook'])
  const [, seconds, hex] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['calotype-signature'])) ?? []
  assert.equal(seconds, String(sender.nowMs / 1000))
  assert.equal(hex, createHmac('sha256', SECRET).update(`${seconds}.${body}`).digest('hex'))
  await until(async () => (await rowOf(catalog, 'hook')).deliveredId === event.id)
  assert.equal((await rowOf(catalog, 'hook')).deliveredAtMs, sender.nowMs)
})

test('webhooks: each is told of its own events alone, in their order', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  const other = 'org-other' as ProjectId
  await insertWebhook(catalog, 'all', `${receiver.url}/all`)
  await insertWebhook(catalog, 'ends', `${receiver.url}/ends`, { endsOnly: 1 })
  await insertWebhook(catalog, 'imports', `${receiver.url}/imports`, { kinds: '["import-image"]' })
  await insertWebhook(catalog, 'other', `${receiver.url}/other`, { projectId: other })
  await insertWebhook(catalog, 'scrubs', `${receiver.url}/scrubs`, { kinds: '["scrub-region"]' })
  events.add()
  const sender = start()
  events.add({ kind: 'import-image' })
  events.add({ projectId: other, state: 'failed' })
  events.add({ state: 'cancelled' })
  events.add({ kind: 'scrub-region' })
  for (let count = 0; count < 30; count++) events.add()
  events.add({ kind: 'import-image', state: 'done' })
  const last = await events.last()
  await until(() => ['/all', '/ends', '/imports'].every((path) => receiver.idsOf(path).at(-1) === last))
  await until(() => receiver.idsOf('/scrubs').length > 0 && receiver.idsOf('/other').length > 0)
  const rest = Array.from({ length: 30 }, (_, index) => 6 + index)
  assert.deepEqual(receiver.idsOf('/all'), [1, 2, 4, ...rest, last])
  assert.deepEqual(receiver.idsOf('/ends'), [4, last])
  assert.deepEqual(receiver.idsOf('/imports'), [2, last])
  assert.deepEqual(receiver.idsOf('/other'), [3])
  assert.deepEqual(receiver.idsOf('/scrubs'), [5])
  assert.deepEqual(sender.logged, [])
})

test('webhooks: what is not taken comes again, later and later, before anything else', async (t) => {
  let refused = 0
  const { catalog, events, receiver, start } = await newPlace(t, (_, response) => {
    response.writeHead(refused-- > 0 ? 500 : 200).end('words that are nobody’s business')
  })
  await insertWebhook(catalog, 'hook', receiver.url)
  const sender = start()
  refused = 10
  events.add()
  events.add()
  const waits: number[] = []
  for (let attempt = 1; attempt <= 10; attempt++) {
    await until(async () => (await rowOf(catalog, 'hook')).attemptCount === attempt)
    const row = await rowOf(catalog, 'hook')
    assert.equal(row.lastReason, 'It answered with status 500.')
    assert.equal(row.failingSinceMs, 1_700_000_000_000)
    assert.equal(row.deliveredId, 0)
    waits.push((row.nextAtMs - sender.nowMs) / 1000)
    // Asked in between it waits all the same.
    await sender.look()
    sender.nowMs = row.nextAtMs
    await sender.look()
  }
  assert.deepEqual(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300])
  await until(async () => (await rowOf(catalog, 'hook')).deliveredId === 2)
  assert.deepEqual(
    receiver.got.map(({ event }) => event.id),
    [...Array(11).fill(1), 2],
  )
  const { failingSinceMs, lastReason, attemptCount, nextAtMs } = await rowOf(catalog, 'hook')
  assert.deepEqual([failingSinceMs, lastReason, attemptCount, nextAtMs], [null, null, 0, 0])
  // Each attempt has a signature of its own time.
  assert.equal(new Set(receiver.got.map(({ headers }) => headers['calotype-signature'])).size, 12)
})

test('webhooks: it waits by itself, with nobody looking', async (t) => {
  let isFirst = true
  const { catalog, events, receiver, start } = await newPlace(t, (_, response) => {
    response.writeHead(isFirst ? 503 : 200).end()
    isFirst = false
  })
  await insertWebhook(catalog, 'hook', receiver.url)
  const sender = start()
  const startedMs = Date.now()
  const clock = setInterval(() => (sender.nowMs = 1_700_000_000_000 + Date.now() - startedMs), 10)
  t.after(() => clearInterval(clock))
  events.add()
  await until(async () => (await rowOf(catalog, 'hook')).deliveredId === 1)
  assert.equal(receiver.got.length, 2)
})

test('webhooks: in any order of failures nothing comes before what is older, and nothing is left out', async (t) => {
  const seed = Date.now() % 100_000
  t.diagnostic(`seed ${seed}`)
  let state = seed
  const chance = () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
  const { catalog, events, receiver, start } = await newPlace(t, (_, response) => {
    const status = [200, 500, 302, 404, 204][Math.floor(chance() * 5)] ?? 200
    if (chance() < 0.2) response.destroy()
    else setTimeout(() => response.writeHead(status).end(), chance() * 3)
  })
  const names = ['/a', '/b', '/c']
  for (const name of names) await insertWebhook(catalog, name, `${receiver.url}${name}`)
  let sender = start()
  for (let count = 0; count < 40; count++) {
    events.add()
    // And over restarts.
    if (count % 10 === 9) {
      await sender.close()
      const { nowMs } = sender
      sender = start()
      sender.nowMs = nowMs
    }
  }
  await until(async () => {
    const rows = await catalog.rows.selectFrom('webhook').select(['deliveredId', 'nextAtMs']).execute()
    sender.nowMs = Math.max(sender.nowMs, ...rows.map(({ nextAtMs }) => nextAtMs))
    await sender.look()
    return rows.every(({ deliveredId }) => deliveredId === 40)
  })
  for (const name of names) {
    const ids = receiver.idsOf(name)
    assert.deepEqual(
      [...new Set(ids)],
      Array.from({ length: 40 }, (_, index) => index + 1),
    )
    for (const [index, id] of ids.entries()) assert.ok(id >= (ids[index - 1] ?? 0), `${name}: ${ids}`)
  }
})

test('webhooks: a restart goes on behind what was taken', async (t) => {
  let isHeld = false
  const { catalog, events, receiver, start } = await newPlace(t, (_, response) => {
    if (!isHeld) response.writeHead(200).end()
  })
  await insertWebhook(catalog, 'hook', receiver.url)
  const before = start()
  events.add()
  await until(async () => (await rowOf(catalog, 'hook')).deliveredId === 1)
  isHeld = true
  events.add()
  events.add()
  await until(() => receiver.got.length === 2)
  // In the middle of a message: closing waits for no answer.
  await before.close()
  assert.equal((await rowOf(catalog, 'hook')).attemptCount, 0)
  isHeld = false
  start()
  await until(async () => (await rowOf(catalog, 'hook')).deliveredId === 3)
  assert.deepEqual(
    receiver.got.map(({ event }) => event.id),
    [1, 2, 2, 3],
  )
})

test('webhooks: after three days without success it is disabled, and says why', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t, (_, response) =>
    response.writeHead(410).end(),
  )
  await insertWebhook(catalog, 'hook', receiver.url)
  const sender = start()
  events.add()
  await until(async () => (await rowOf(catalog, 'hook')).attemptCount === 1)
  const tryAgain = async (attemptCount: number) => {
    await catalog.rows.updateTable('webhook').set({ attemptCount, nextAtMs: 0 }).execute()
    await sender.look()
    await until(async () => (await rowOf(catalog, 'hook')).attemptCount === attemptCount + 1)
    return (await rowOf(catalog, 'hook')).isEnabled
  }
  sender.nowMs += 72 * HOUR_MS - 1
  assert.equal(await tryAgain(800), 1)
  sender.nowMs += 1
  // The server was off for most of them.
  assert.equal(await tryAgain(10), 1)
  assert.equal(await tryAgain(11), 0)
  await until(async () => (await rowOf(catalog, 'hook')).isEnabled === 0)
  const { lastReason } = await rowOf(catalog, 'hook')
  assert.equal(lastReason, 'Disabled after 3 days without success. It answered with status 410.')
  const count = receiver.got.length
  sender.nowMs += 300_000
  events.add()
  await sender.look()
  await sender.close()
  assert.equal(receiver.got.length, count)
})

test('webhooks: disabled or removed, a message on its way is broken off and none follows', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t, () => undefined)
  await insertWebhook(catalog, 'off', `${receiver.url}/off`)
  await insertWebhook(catalog, 'gone', `${receiver.url}/gone`)
  const sender = start()
  events.add()
  await until(() => receiver.got.length === 2)
  await catalog.rows.updateTable('webhook').set({ isEnabled: 0 }).where('id', '=', 'off').execute()
  await catalog.rows.deleteFrom('webhook').where('id', '=', 'gone').execute()
  events.add()
  await sender.look()
  // Enabled while the old message is broken off: one at a time, the next from now on.
  const set = { isEnabled: 1, deliveredId: 2 }
  await catalog.rows.updateTable('webhook').set(set).where('id', '=', 'off').execute()
  events.add()
  await sender.look()
  await until(() => receiver.idsOf('/off').length === 2)
  assert.deepEqual([receiver.idsOf('/off'), receiver.idsOf('/gone')], [[1, 3], [1]])
  const { attemptCount, lastReason } = await rowOf(catalog, 'off')
  assert.deepEqual([attemptCount, lastReason], [0, null])
})

test('webhooks: who never answers holds a place of sixteen, and nobody else up', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t, ({ path }, response) => {
    if (!path.startsWith('/dead')) response.writeHead(200).end()
  })
  for (let index = 0; index < 24; index++)
    await insertWebhook(catalog, `dead-${index}`, `${receiver.url}/dead/${index}`)
  const sender = start({ allow: ['127.0.0.1'], totalMs: 1000 })
  events.add()
  const reasons = async () =>
    (await catalog.rows.selectFrom('webhook').select('lastReason').execute()).map((row) => row.lastReason)
  await until(async () => (await reasons()).every((reason) => reason !== null))
  // A busy host may be late with a connection as well.
  assert.ok((await reasons()).includes('It did not answer within 1 s.'))
  assert.equal(sender.sendingMost, 16)
  // All of them are due again; what answers keeps half of the places.
  await insertWebhook(catalog, 'alive', `${receiver.url}/alive`)
  sender.sendingMost = 0
  sender.nowMs += 10_000
  for (let count = 0; count < 50; count++) events.add()
  await sender.look()
  await until(async () => (await rowOf(catalog, 'alive')).deliveredId === 51)
  assert.ok(sender.sendingMost <= 9, String(sender.sendingMost))
  assert.ok(receiver.idsOf('/dead/0').length <= 2)
})

test('webhooks: one with a key that was changed is disabled, not tried for ever', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  await insertWebhook(catalog, 'hook', receiver.url)
  const secret = createWebhookSeal(new Uint8Array(32).fill(8)).seal({ url: receiver.url, secret: SECRET })
  await catalog.rows.updateTable('webhook').set({ secret }).execute()
  start()
  events.add()
  await until(async () => (await rowOf(catalog, 'hook')).isEnabled === 0)
  assert.match(String((await rowOf(catalog, 'hook')).lastReason), /key was changed\. Make the webhook anew/)
  assert.deepEqual(receiver.got, [])
})

test('webhooks: what only the server can reach is not reached, and the row says so', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  await insertWebhook(catalog, 'hook', `${receiver.url}/x?key=hidden`)
  start({ allow: [] })
  events.add()
  await until(async () => (await rowOf(catalog, 'hook')).attemptCount === 1)
  const { lastReason } = await rowOf(catalog, 'hook')
  assert.match(String(lastReason), /^Nothing may be sent to this address/)
  assert.doesNotMatch(String(lastReason), /hidden|127/)
  assert.deepEqual(receiver.got, [])
})

test('webhooks: what is not for one is looked through once', async (t) => {
  const { catalog, events, receiver } = await newPlace(t)
  for (let i = 0; i < 50; i++) events.add()
  await insertWebhook(catalog, 'ends', `${receiver.url}/ends`, { endsOnly: 1 })
  const fromIds: number[] = []
  const list: EventLog['list'] = (filter, afterId, limit) => {
    if (filter.endsOnly === true) fromIds.push(afterId)
    return events.list(filter, afterId, limit)
  }
  const sender = startSender(catalog, { ...events, list })
  try {
    await until(() => fromIds.length > 0)
    // As when any project makes, changes or removes a webhook.
    for (let i = 1; i < 5; i++) {
      const count = fromIds.length
      await sender.look()
      await until(() => fromIds.length > count)
    }
    assert.deepEqual([fromIds[0], fromIds.at(-1)], [0, 50])
    const end = events.add({ state: 'done' })
    await until(() => receiver.got.length > 0)
    assert.deepEqual(receiver.idsOf('/ends'), [end.id])
  } finally {
    await sender.close()
  }
})

test('webhooks: a catalog that fails for a moment is asked again', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  await insertWebhook(catalog, 'hook', receiver.url)
  const { list } = events
  let failures = 3
  events.list = async (...asked) => {
    if (failures-- > 0) throw new Error('the catalog is away')
    return list(...asked)
  }
  const sender = start()
  const clock = setInterval(() => (sender.nowMs += 100), 10)
  t.after(() => clearInterval(clock))
  events.add()
  await until(() => receiver.got.length === 1)
  assert.equal(sender.logged.length, 3)
})

test('webhooks: over the log of the catalog', async (t) => {
  const { catalog, receiver } = await newPlace(t)
  const events = createEventLog({ catalog, clock: () => 0 })
  await insertWebhook(catalog, 'hook', receiver.url, { endsOnly: 1 })
  const sender = startSender(catalog, events)
  t.after(() => sender.close())
  for (const [index, state] of ['queued', 'running', 'done', 'running', 'failed'].entries()) {
    const isEnd = state === 'done' || state === 'failed' ? 1 : 0
    const body = JSON.stringify({ projectId: PROJECT, kind: 'copy-image', state })
    const row = { atMs: 0, projectId: PROJECT, taskId: 't', kind: 'copy-image', isEnd, body }
    await catalog.rows.insertInto('event').values(row).execute()
    events.noted()
    if (index === 2) await until(async () => (await rowOf(catalog, 'hook')).deliveredId === 3)
  }
  await until(async () => (await rowOf(catalog, 'hook')).deliveredId === 5)
  assert.deepEqual(
    receiver.got.map(({ event }) => event.id),
    [3, 5],
  )
})

test('a seal opens what it sealed, and nothing that was changed', () => {
  const lost = () => new Error('lost') as never
  const ours = createSeal<{ a: number }>(new Uint8Array(32).fill(1), lost)
  const sealed = ours.seal({ a: 1 })
  assert.deepEqual(ours.open(sealed), { a: 1 })
  assert.notEqual(sealed, ours.seal({ a: 1 }))
  const bytes = Buffer.from(sealed, 'base64')
  bytes[20] = (bytes[20] ?? 0) ^ 1
  for (const wrong of [bytes.toString('base64'), '', 'AAAA', sealed.slice(8)])
    assert.throws(() => ours.open(wrong), /lost/)
  assert.throws(() => createSeal(new Uint8Array(32), lost).open(sealed), /lost/)
})

test('webhooks: whoever made it is asked for the right once a minute while there is something to send, and a refusal disables it', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  await insertWebhook(catalog, 'hook', `${receiver.url}/hook`)
  await insertWebhook(catalog, 'other', `${receiver.url}/other`)
  const sender = start()
  const asked: string[] = []
  let isRefused = false
  sender.admit = async (id) => {
    if (id !== 'hook') return
    asked.push(id)
    if (isRefused) throw new Fault('denied', 'User ada may not do that.', { subject: 'policy' })
  }
  const told = async (path = '/hook') => {
    const { id } = events.add()
    await until(() => receiver.idsOf(path).at(-1) === id)
  }
  // With nothing to send nobody is asked.
  await sender.look()
  assert.deepEqual(asked, [])
  await told()
  isRefused = true
  sender.nowMs += 59_999
  await told()
  assert.equal(asked.length, 1)
  sender.nowMs += 1
  const { id: last } = events.add()
  await until(async () => (await rowOf(catalog, 'hook')).isEnabled === 0)
  const { lastReason, deliveredId } = await rowOf(catalog, 'hook')
  assert.match(
    lastReason ?? '',
    /^Disabled: whoever made it may no longer .* User ada may not do that\. Give the right back/,
  )
  assert.equal(deliveredId, last - 1)
  await told('/other')
  assert.equal(receiver.idsOf('/hook').at(-1), last - 1)
  assert.equal(asked.length, 2)
  // Enabled anew it is asked for at once.
  await catalog.rows
    .updateTable('webhook')
    .set({ isEnabled: 1, nextAtMs: 0 })
    .where('id', '=', 'hook')
    .execute()
  await sender.look()
  await until(async () => (await rowOf(catalog, 'hook')).isEnabled === 0)
  assert.equal(asked.length, 3)
  isRefused = false
  await catalog.rows.updateTable('webhook').set({ isEnabled: 1, nextAtMs: 0 }).execute()
  sender.nowMs += 1000
  await sender.look()
  await until(() => receiver.idsOf('/hook').at(-1) === last + 1)
})

test('webhooks: a right that cannot be looked up now is asked for again, and nothing is sent before', async (t) => {
  const { catalog, events, receiver, start } = await newPlace(t)
  await insertWebhook(catalog, 'hook', receiver.url)
  const sender = start()
  let failures = 3
  sender.admit = async () => {
    assert.equal(receiver.got.length, 0)
    if (failures-- > 0) throw new Error('the catalog is away')
  }
  const clock = setInterval(() => (sender.nowMs += 100), 10)
  t.after(() => clearInterval(clock))
  events.add()
  await until(() => receiver.got.length === 1)
  assert.equal(sender.logged.length, 3)
  assert.equal((await rowOf(catalog, 'hook')).isEnabled, 1)
})
