import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import type { App } from '../../app/contract.ts'
import type { Webhook } from '../../image/event.ts'
import { PROJECT } from './fixture-nouns.ts'
import { type NativeServer, startNative } from './fixture-server.ts'

const HOOK: Webhook = {
  ...{
    id: 'h'.repeat(17),
    projectId: PROJECT,
    name: 'ci',
    url: 'https://ci.example/x?…',
    kinds: ['copy-image'],
  },
  ...{ endsOnly: true, isEnabled: true, createdAtMs: 5, deliveredId: 7, deliveredAtMs: undefined },
  ...{ failingSinceMs: 6, lastReason: 'It answered with status 500.' },
}

let server: NativeServer
let calls: unknown[]

beforeEach(async () => {
  server = await startNative()
  calls = []
  const webhooks: App['webhooks'] = {
    async create(_caller, input) {
      calls.push(input)
      return { id: HOOK.id, secret: input.secret ?? 'made' }
    },
    async list(_caller, filter, paging) {
      calls.push({ ...filter, ...paging })
      return { total: 1, items: [HOOK] }
    },
    async change(_caller, input) {
      calls.push(input)
    },
    async remove(_caller, input) {
      calls.push(input)
    },
  }
  Object.assign(server.fake.app, { webhooks })
})
afterEach(async () => {
  await server.gateway.close()
  assert.deepEqual(server.bugs, [])
})

test('webhooks: made, listed, disabled, removed', async () => {
  const url = 'https://ci.example/x?token=1'
  const made = await server.askSigned('POST', '/v1/webhooks', { name: 'ci', url })
  assert.deepEqual([made.status, made.json()], [201, { id: HOOK.id, secret: 'made' }])
  const secret = 'sixteen of them!'
  const whole = { name: 'ci', url, secret, kinds: ['copy-image'], endsOnly: true, project: 'org-other' }
  assert.equal((await server.askSigned('POST', '/v1/webhooks', whole)).json().secret, secret)
  const listed = await server.askSigned('GET', '/v1/webhooks?limit=5')
  assert.deepEqual(listed.json(), {
    total: 1,
    webhooks: [
      {
        ...{
          id: HOOK.id,
          project: PROJECT,
          name: 'ci',
          url: HOOK.url,
          kinds: ['copy-image'],
          endsOnly: true,
        },
        ...{ isEnabled: true, createdAtMs: 5, deliveredId: 7, deliveredAtMs: null, failingSinceMs: 6 },
        lastReason: 'It answered with status 500.',
      },
    ],
  })
  const path = `/v1/webhooks/${HOOK.id}`
  assert.equal((await server.askSigned('PATCH', path, { isEnabled: false })).status, 200)
  assert.equal((await server.askSigned('DELETE', `${path}?project=org-other`)).status, 200)
  const ours = { projectId: undefined, name: 'ci', url }
  assert.deepEqual(calls, [
    { ...ours, secret: undefined, kinds: [], endsOnly: false },
    { ...ours, secret, kinds: ['copy-image'], endsOnly: true, projectId: 'org-other' },
    { projectId: undefined, offset: 0, limit: 5 },
    { projectId: undefined, id: HOOK.id, isEnabled: false },
    { projectId: 'org-other', id: HOOK.id },
  ])
})

test('webhooks: ill-formed ones are refused at the door', async () => {
  const url = 'https://ci.example/'
  for (const [body, field] of [
    [{ url }, 'name'],
    [{ name: 'x' }, 'url'],
    [{ name: 'x'.repeat(65), url }, 'name'],
    [{ name: 'x', url: `${url}${'x'.repeat(8192)}` }, 'url'],
    [{ name: 'x', url, secret: 'short' }, 'secret'],
    [{ name: 'x', url, kinds: ['x'] }, 'kinds'],
    [{ name: 'x', url, endsOnly: 1 }, 'endsOnly'],
  ] as const) {
    const said = await server.askSigned('POST', '/v1/webhooks', body)
    assert.deepEqual([said.status, said.json().error.field], [400, field])
  }
  assert.equal((await server.askSigned('PATCH', '/v1/webhooks/x', {})).status, 400)
  assert.equal((await server.ask('GET', '/v1/webhooks')).status, 403)
  assert.deepEqual(calls, [])
})
