import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { newId, spellId, type TaskId } from '../../image/ids.ts'
import type { Task } from '../../image/task.ts'
import type { Door } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { fakeImage, NOW_MS } from './fixture-nouns.ts'
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

async function refused(method: string, url: string, body: unknown, status: number, expected: object) {
  const callCount = fake.calls.length
  const answer = await ask(method, url, body)
  assert.equal(answer.status, status, JSON.stringify(answer.json))
  const { error } = answer.json
  assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, error[name]])), expected)
  return fake.calls.length - callCount
}

const imageId = newId('image')
const path = `/v1/images/${spellId('image', imageId, 'native')}/copy`
const taskPath = (id: TaskId) => `/v1/tasks/${spellId('task', id, 'native')}`
const idOf = (spelt: string) => spelt.slice('task-'.length) as TaskId

const WHOLE = {
  region: 'hk',
  project: 'org-a',
  targetRegions: ['cn-hangzhou'],
  targetProject: 'org-b',
  name: 'copied',
  description: 'a copy',
  tag: 'web',
  rekey: true,
  priority: 9,
  within: 90,
  bytesPerSecond: 1_000_000,
}

test('a copy and its plan take the same, and all of it arrives', async () => {
  for (const [url, useCase] of [
    [path, 'images.copy'],
    [`${path}/plan`, 'images.planCopy'],
  ] as const) {
    const answer = await ask('POST', url, WHOLE)
    assert.equal(answer.status, 202)
    assert.match(answer.json.taskId, /^task-[0-9a-z]{17}$/)
    const { copies } = answer.json
    assert.deepEqual(
      copies?.map((copy: Json) => copy.region),
      useCase === 'images.copy' ? ['cn-hangzhou'] : undefined,
    )
    assert.deepEqual(inputOf(useCase), {
      ...{ regionId: 'hk', projectId: 'org-a', imageId, peer: undefined },
      ...{ targetRegionIds: ['cn-hangzhou'], targetProjectId: 'org-b' },
      ...{ name: 'copied', description: 'a copy', tag: 'web', rekey: true, priority: 9 },
      ...{ withinMs: 90_000, bytesPerSecond: 1_000_000 },
    })
  }
})

test('where nothing is said: to the own region, or from a peer into the default one', async () => {
  await ask('POST', path, { targetProject: 'org-b', region: 'hk' })
  const { regionId, targetRegionIds, withinMs, rekey } = inputOf('images.copy')
  assert.deepEqual([regionId, targetRegionIds, withinMs, rekey], ['hk', ['hk'], undefined, undefined])
  await ask('POST', path, { peer: 'branch', region: 'Paris 2' })
  const { peer, ...fromPeer } = inputOf('images.copy')
  assert.deepEqual(
    [peer, fromPeer.regionId, fromPeer.targetRegionIds],
    ['branch', 'Paris 2', ['cn-hangzhou']],
  )
})

test('what no copy takes is refused at the door', async () => {
  const regions = Array.from({ length: 101 }, (_, i) => `r-${i}`)
  for (const [change, field] of [
    [{ targetRegions: [] }, 'targetRegions'],
    [{ targetRegions: ['hk', 'hk'] }, 'targetRegions'],
    [{ targetRegions: regions }, 'targetRegions'],
    [{ peer: 'branch', region: undefined }, 'region'],
    [{ peer: '' }, 'peer'],
    [{ rekey: 'yes' }, 'rekey'],
    [{ priority: 10 }, 'priority'],
    [{ priority: -1 }, 'priority'],
    [{ within: 0 }, 'within'],
    [{ within: 1e9 }, 'within'],
    [{ within: 1.5 }, 'within'],
    [{ bytesPerSecond: 65_535 }, 'bytesPerSecond'],
    [{ bytesPerSecond: 1e13 }, 'bytesPerSecond'],
    [{ deadline: 1 }, 'deadline'],
  ] as const) {
    for (const url of [path, `${path}/plan`])
      assert.equal(await refused('POST', url, { ...WHOLE, ...change }, 400, { kind: 'invalid', field }), 0)
  }
  for (const change of [{ region: 'mars' }, { targetRegions: ['mars'] }])
    await refused('POST', path, { ...WHOLE, ...change }, 404, { subject: 'region' })
  assert.deepEqual(fake.calls, [])
})

test('what the inside refuses a copy for', async () => {
  for (const [fault, status] of [
    [new Fault('conflict', 'It takes 2 h.', { subject: 'image', reason: 'deadline' }), 409],
    [new Fault('full', 'm', { subject: 'store', reason: 'room' }), 507],
    [new Fault('full', 'm', { subject: 'project', reason: 'quota' }), 507],
    [new Fault('invalid', 'm', { subject: 'image', reason: 'same-place' }), 400],
    [new Fault('absent', 'm', { subject: 'peer' }), 404],
    [new Fault('denied', 'm', { subject: 'peer' }), 403],
    [new Fault('unavailable', 'm', { subject: 'peer' }), 503],
  ] as const) {
    fake.failNext('images.copy', fault)
    const { kind, subject, message } = fault
    await refused('POST', path, WHOLE, status, { kind, subject, message })
  }
})

test('what a plan finds, as the output of its task', async () => {
  const { json } = await ask('POST', `${path}/plan`, WHOLE)
  const shown = (await ask('GET', `/v1/tasks/${json.taskId}`)).json
  assert.equal(shown.kind, 'plan-copy')
  assert.deepEqual(shown.output, fake.copies.planned)
  const kinds = await ask('GET', '/v1/tasks?kind=plan-copy')
  assert.equal(kinds.status, 200)
})

test('a task says how fast it goes, what it saved, and why it tries again', async () => {
  const { json } = await ask('POST', path, WHOLE)
  const id = idOf(json.copies[0].taskId)
  const fresh = (await ask('GET', taskPath(id))).json
  assert.deepEqual(
    [fresh.savedBytes, fresh.bytesPerSecond, fresh.etaMs, fresh.deadlineAtMs, fresh.lastReason],
    [0, null, null, null, null],
  )
  assert.equal(fresh.priority, 9)
  const moving = {
    ...{ savedBytes: 5, bytesPerSecond: 6, etaMs: 7, priority: 3, deadlineAtMs: NOW_MS + 8 },
    ...{ lastReason: 'The store does not answer.', attemptCount: 2 },
  }
  fake.tasks.set(id, { ...(fake.tasks.get(id) as Task), ...moving })
  const shown = (await ask('GET', taskPath(id))).json
  assert.deepEqual(Object.fromEntries(Object.keys(moving).map((name) => [name, shown[name]])), moving)
})

test('what became of the copies of a batch is named by ids that can be used', async () => {
  const { json } = await ask('POST', path, WHOLE)
  const [copy] = json.copies
  const id = idOf(json.taskId)
  const one = { regionId: 'hk', state: 'failed', reason: 'No room.' }
  const inside = { ...one, imageId: copy.imageId.slice('img-'.length), taskId: idOf(copy.taskId) }
  fake.tasks.set(id, { ...(fake.tasks.get(id) as Task), output: { copies: [inside], savedBytes: 1 } })
  const { output } = (await ask('GET', taskPath(id))).json
  assert.deepEqual(output, {
    copies: [{ ...one, imageId: copy.imageId, taskId: copy.taskId }],
    savedBytes: 1,
  })
})

test('pause, resume and priority', async () => {
  const { json } = await ask('POST', path, WHOLE)
  const id = idOf(json.copies[0].taskId)
  const held = await ask('PATCH', taskPath(id), { paused: true })
  assert.deepEqual([held.status, held.json], [200, { id: json.copies[0].taskId }])
  assert.deepEqual(inputOf('tasks.change'), { id, paused: true, priority: undefined })
  const shown = (await ask('GET', taskPath(id))).json
  assert.deepEqual([shown.state, shown.step, shown.endedAtMs], ['paused', null, null])
  await refused('PATCH', taskPath(id), { paused: true }, 409, { kind: 'conflict', subject: 'task' })
  await ask('PATCH', taskPath(id), { paused: false, priority: 0 })
  const after = (await ask('GET', taskPath(id))).json
  assert.deepEqual([after.state, after.priority], ['queued', 0])
  for (const body of [{}, { paused: 'maybe' }, { priority: 10 }, { priority: 'high' }, { state: 'paused' }])
    assert.equal(await refused('PATCH', taskPath(id), body, 400, { kind: 'invalid' }), 0)
  await refused('PATCH', taskPath(newId('task')), { paused: true }, 404, { subject: 'task' })
})

test('retry answers what does it now', async () => {
  const { json } = await ask('POST', path, { ...WHOLE, targetRegions: ['cn-hangzhou', 'hk'] })
  const batch = idOf(json.taskId)
  await refused('POST', `${taskPath(batch)}/retry`, undefined, 409, { kind: 'conflict', subject: 'task' })
  const [first, second] = json.copies
  const end = (id: TaskId, state: Task['state']) =>
    fake.tasks.set(id, { ...(fake.tasks.get(id) as Task), state, endedAtMs: NOW_MS })
  end(idOf(first.taskId), { at: 'done' })
  end(idOf(second.taskId), { at: 'failed', kind: 'full', reason: 'No room.' })
  end(batch, { at: 'failed', kind: 'full', reason: 'One failed.' })
  const again = await ask('POST', `${taskPath(batch)}/retry`)
  assert.equal(again.status, 202)
  assert.notEqual(again.json.taskId, json.taskId)
  const [copy] = again.json.copies
  assert.deepEqual(again.json.copies, [{ region: 'hk', imageId: second.imageId, taskId: copy.taskId }])
  assert.notEqual(copy.taskId, second.taskId)
})

test('peers: who they are, and why one cannot be asked', async () => {
  const { status, json } = await ask('GET', '/v1/peers')
  assert.equal(status, 200)
  assert.deepEqual(json.peers, [
    { name: 'branch', url: 'https://branch.example.com:8371', regions: ['paris'], reason: null },
    { name: 'attic', url: 'https://attic.example.com:8371', regions: [], reason: 'It does not answer.' },
  ])
})

test('an image that was copied is of origin copy', async () => {
  const copy = fakeImage({ origin: 'copy', sourceImageId: imageId })
  fake.images.set(copy.id, copy)
  const shown = (await ask('GET', `/v1/images/${spellId('image', copy.id, 'native')}`)).json
  assert.deepEqual([shown.origin, shown.sourceImageId], ['copy', spellId('image', imageId, 'native')])
})
