import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { newId, spellId } from '../../image/ids.ts'
import type { Door } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { NOW_MS, PROJECT } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'

let fake: FakeApp
let door: Door

beforeEach(() => {
  fake = createFakeApp()
  door = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 60_000,
    onBug: (error) => {
      throw error
    },
  })
})

type Json = ReturnType<typeof JSON.parse>

async function ask(method: string, url: string, body?: unknown): Promise<{ status: number; json: Json }> {
  const { status, body: answer } = await door.handle(signedRequest(method, url, body))
  return { status, json: JSON.parse(answer.toString()) }
}
const inputOf = (name: string): Json => fake.calls.findLast((call) => call.name === name)?.input

const RULES = '/v1/replication-rules'
const familyOf = newId('image')
const WHOLE = {
  ...{ region: 'hk', project: 'org-a', name: 'web', targetRegions: ['cn-hangzhou'], targetProject: 'org-b' },
  filter: { namePattern: 'web-*', tag: 'prod', familyOf: spellId('image', familyOf, 'uhost') },
  keepCount: 3,
}

test('a rule is made of all that is said, and of no more than has to be', async () => {
  assert.deepEqual(await ask('POST', RULES, WHOLE), { status: 201, json: { id: 'rule-1' } })
  assert.deepEqual(inputOf('replication.create'), {
    ...{ regionId: 'hk', projectId: 'org-a', name: 'web' },
    filter: { namePattern: 'web-*', tag: 'prod', familyOf },
    ...{ targetProjectId: 'org-b', targetRegionIds: ['cn-hangzhou'], keepCount: 3 },
  })
  assert.equal((await ask('POST', RULES, { name: 'all', targetRegions: ['hk'] })).status, 201)
  assert.deepEqual(inputOf('replication.create'), {
    ...{ regionId: 'cn-hangzhou', projectId: undefined, name: 'all', filter: {} },
    ...{ targetProjectId: undefined, targetRegionIds: ['hk'], keepCount: undefined },
  })
})

test('rules are listed by region, changed and removed', async () => {
  await ask('POST', RULES, WHOLE)
  await ask('POST', RULES, { name: 'all', targetRegions: ['hk'] })
  const rule = {
    ...{ id: 'rule-1', project: PROJECT, region: 'hk', name: 'web' },
    filter: { ...WHOLE.filter, familyOf: spellId('image', familyOf, 'native') },
    ...{ targetProject: 'org-b', targetRegions: ['cn-hangzhou'], keepCount: 3, isEnabled: true },
    ...{ creator: 'root', createdAtMs: NOW_MS, lastDoneAtMs: null, lastFailedAtMs: null, lastReason: null },
  }
  const first = await ask('GET', `${RULES}?region=hk`)
  assert.deepEqual(first, {
    status: 200,
    json: { total: 1, rules: [{ ...rule, creator: first.json.rules[0].creator }] },
  })
  const one = await ask('GET', `${RULES}/rule-1?project=org-a`)
  assert.deepEqual(one, { status: 200, json: first.json.rules[0] })
  assert.deepEqual(inputOf('replication.get'), { projectId: 'org-a', id: 'rule-1' })
  assert.equal((await ask('GET', `${RULES}/rule-9`)).json.error.subject, 'replication-rule')
  const { json } = await ask('GET', RULES)
  assert.deepEqual(json.rules[0].filter, { namePattern: null, tag: null, familyOf: null })
  assert.equal(json.rules[0].keepCount, null)
  const changed = await ask('PATCH', `${RULES}/rule-1`, { isEnabled: false })
  assert.deepEqual(changed, { status: 200, json: { id: 'rule-1' } })
  assert.equal((await ask('GET', `${RULES}?region=hk`)).json.rules[0].isEnabled, false)
  assert.deepEqual(await ask('DELETE', `${RULES}/rule-1?project=org-a`), {
    status: 200,
    json: { id: 'rule-1' },
  })
  assert.deepEqual(inputOf('replication.remove'), { projectId: 'org-a', id: 'rule-1' })
  const gone = await ask('DELETE', `${RULES}/rule-1`)
  assert.deepEqual([gone.status, gone.json.error.subject], [404, 'replication-rule'])
})

test('what makes no sense is refused before anything is asked', async () => {
  const wrong = async (change: object, field: string) => {
    const { status, json } = await ask('POST', RULES, { ...WHOLE, ...change })
    assert.equal(status >= 400 && status < 500, true, JSON.stringify(json))
    if (field !== '') assert.equal(json.error.field, field)
  }
  await wrong({ name: '' }, 'name')
  await wrong({ targetRegions: undefined }, 'targetRegions')
  await wrong({ targetRegions: ['hk', 'hk'] }, 'targetRegions')
  await wrong({ targetRegions: ['mars'] }, '')
  await wrong({ filter: { nam: 'x' } }, 'filter')
  await wrong({ filter: { namePattern: '' } }, 'filter.namePattern')
  await wrong({ filter: { familyOf: 'img-x' } }, '')
  for (const keepCount of [0, 1001, 1.5]) await wrong({ keepCount }, 'keepCount')
  assert.equal((await ask('PATCH', `${RULES}/rule-1`, {})).json.error.field, 'isEnabled')
  assert.deepEqual(fake.calls, [])
})
