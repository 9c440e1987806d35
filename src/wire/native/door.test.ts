import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { Fault, type FaultKind } from '../../image/fault.ts'
import { type MachineId, newId, spellId } from '../../image/ids.ts'
import type { Door, WireRequest } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { STATUS } from './errors.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { fakeImage, fakeMachine, NOW_MS } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'

const MINUTE_MS = 60_000
let fake: FakeApp
let door: Door
let bugs: unknown[]

beforeEach(() => {
  fake = createFakeApp()
  bugs = []
  door = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 15 * MINUTE_MS,
    onBug: (error) => bugs.push(error),
  })
})

type Json = ReturnType<typeof JSON.parse>

async function send(request: WireRequest): Promise<{ status: number; json: Json }> {
  const { status, body, headers } = await door.handle(request)
  assert.match(headers['content-type'] ?? '', /^application\/json/)
  return { status, json: JSON.parse(body.toString()) }
}
const ask = (method: string, url: string, body?: unknown) => send(signedRequest(method, url, body))
const lastInput = (): Json => fake.calls.at(-1)?.input

async function refused(
  request: WireRequest,
  status: number,
  expected: Record<string, string>,
): Promise<string> {
  const answer = await send(request)
  assert.equal(answer.status, status, JSON.stringify(answer.json))
  const { message, requestId, ...rest } = answer.json.error
  assert.equal(requestId, request.requestId)
  for (const [name, value] of Object.entries(expected)) assert.equal(rest[name], value, message)
  return message
}

test('a signed request is answered, with the caller of its key', async () => {
  const { status, json } = await ask('GET', '/v1/regions')
  assert.equal(status, 200)
  assert.deepEqual(json, {
    total: 2,
    regions: [
      {
        id: 'cn-hangzhou',
        localName: '杭州',
        englishName: 'Hangzhou',
        zones: ['cn-hangzhou-h'],
        isDefault: true,
      },
      { id: 'hk', localName: '香港', englishName: 'Hong Kong', zones: ['hk-01', 'hk-02'], isDefault: false },
    ],
  })
  assert.equal(fake.calls[0]?.caller?.door, 'native')
})

test('who is not who he says is refused, before anything is looked at', async () => {
  const path = '/v1/projects'
  const good = () => signedRequest('GET', path)
  const denied = (request: WireRequest, reason: string) =>
    refused(request, 403, {
      kind: 'denied',
      subject: reason === 'signature-mismatch' ? 'request' : 'user',
      reason,
    })
  await denied({ ...good(), headers: { host: 'x' } }, 'unsigned')
  await denied(signedRequest('GET', path, undefined, { secret: 'another' }), 'signature-mismatch')
  await denied(signedRequest('GET', path, undefined, { keyId: 'AKNOBODY' }), 'key-unknown')
  await denied(signedRequest('GET', path, undefined, { keyId: 'AKOFF' }), 'key-inactive')
  for (const minutes of [-20, 20]) {
    await denied(signedRequest('GET', path, undefined, { nowMs: NOW_MS + minutes * MINUTE_MS }), 'clock')
  }
  await denied({ ...good(), method: 'POST' }, 'signature-mismatch')
  await denied({ ...good(), url: '/v1/projects?offset=1' }, 'signature-mismatch')
  await denied({ ...good(), body: Buffer.from('{}') }, 'signature-mismatch')
  const request = good()
  await denied({ ...request, headers: { ...request.headers, 'x-acs-date': 'yesterday' } }, 'clock')
  const { 'x-acs-signature-nonce': _, ...headers } = request.headers
  await denied({ ...request, headers }, 'header-missing')
  await denied(
    { ...request, headers: { ...request.headers, 'x-acs-action': 'added on the way' } },
    'signature-mismatch',
  )
  assert.equal(fake.calls.length, 0)
})

test('a nonce is good once, and a bad signature does not use it up', async () => {
  const nonce = 'n-1'
  await refused(signedRequest('GET', '/v1/regions', undefined, { nonce, secret: 'x' }), 403, {
    reason: 'signature-mismatch',
  })
  assert.equal((await send(signedRequest('GET', '/v1/regions', undefined, { nonce }))).status, 200)
  await refused(signedRequest('GET', '/v1/regions', undefined, { nonce }), 403, { reason: 'nonce-used' })
})

test('each kind of fault has its status, and a bug says nothing of itself', async () => {
  for (const [kind, status] of Object.entries(STATUS)) {
    fake.failNext(
      'regions.list',
      new Fault(kind as FaultKind, 'Do this.', { subject: 'store', reason: 'why' }),
    )
    const message = await refused(signedRequest('GET', '/v1/regions'), status, {
      kind,
      subject: 'store',
      reason: 'why',
    })
    assert.equal(message, 'Do this.')
  }
  fake.failNext('regions.list', new TypeError('secret internals'))
  const message = await refused(signedRequest('GET', '/v1/regions'), 500, { kind: 'bug' })
  assert.doesNotMatch(message, /secret/)
  assert.equal(bugs.length, 1)
})

test('paths and methods that are none are refused as JSON', async () => {
  await refused(signedRequest('GET', '/v1/nothing'), 404, { kind: 'absent' })
  const message = await refused(signedRequest('PATCH', '/v1/projects'), 405, { reason: 'method-unsupported' })
  assert.match(message, /takes GET, POST, not PATCH/)
  await refused(signedRequest('GET', '/v1/images/%zz'), 400, { reason: 'malformed' })
  await refused(signedRequest('GET', '/v1/images/'), 404, { kind: 'absent' })
})

test('unknown, repeated, missing and ill-formed parameters each say what to do', async () => {
  const bad = async (method: string, url: string, body: unknown, field: string | undefined, says: RegExp) => {
    const expected: Record<string, string> = { kind: 'invalid', ...(field === undefined ? {} : { field }) }
    assert.match(await refused(signedRequest(method, url, body), 400, expected), says)
  }
  await bad('POST', '/v1/projects', { nmae: 'x' }, 'nmae', /Did you mean 'name'/)
  await bad('POST', '/v1/projects', { elephants: 1 }, 'elephants', /It takes name/)
  await bad('POST', '/v1/projects', { __proto__x: 1 }, '__proto__x', /no parameter/)
  await bad('POST', '/v1/projects', Buffer.from('{"__proto__": {"name": "x"}}'), '__proto__', /no parameter/)
  await bad('POST', '/v1/projects', {}, 'name', /'name' is missing/)
  await bad('POST', '/v1/projects', { name: '' }, 'name', /text of 1 to 128/)
  await bad('POST', '/v1/projects', { name: 7 }, 'name', /text of 1 to 128/)
  await bad('POST', '/v1/projects?name=a', { name: 'b' }, 'name', /given twice/)
  await bad('POST', '/v1/projects', Buffer.from('{"name":'), undefined, /not JSON/)
  await bad('POST', '/v1/projects', Buffer.from([0x22, 0xff, 0x22]), undefined, /not JSON in UTF-8/)
  await bad('POST', '/v1/projects', ['name'], undefined, /one JSON object/)
  await bad('GET', '/v1/images?offset=-1', undefined, 'offset', /whole number from 0/)
  await bad('GET', '/v1/images?limit=501', undefined, 'limit', /from 1 to 500/)
  await bad('GET', '/v1/images?limit=ten', undefined, 'limit', /whole number/)
  await bad('GET', '/v1/images?offset=1&offset=2', undefined, 'offset', /given twice/)
  await bad('GET', '/v1/images?kinds=old', undefined, 'kinds', /base, custom/)
  await bad('GET', '/v1/tasks?live=maybe', undefined, 'live', /true or false/)
  const machine = { imageId: spellId('image', newId('image'), 'native'), name: 'm' }
  await bad('POST', '/v1/machines', { ...machine, memoryBytes: 1.5 }, 'memoryBytes', /whole number/)
  await bad('POST', '/v1/machines', { ...machine, dataDisks: [{ size: 1 }] }, 'dataDisks', /no 'size'/)
  await bad('POST', '/v1/machines', { ...machine, dataDisks: [{}] }, 'dataDisks.sizeBytes', /missing/)
  await bad('POST', '/v1/machines', { ...machine, dataDisks: {} }, 'dataDisks', /a list/)
  await bad('PUT', '/v1/policies/p', { document: 'text' }, 'document', /an object/)
  await refused(signedRequest('GET', '/v1/images?region=mars'), 404, { subject: 'region' })
  await refused(signedRequest('GET', '/v1/images?project=mine'), 404, { subject: 'project' })
  await refused(signedRequest('GET', '/v1/images/img-none'), 404, { subject: 'image' })
  assert.equal(fake.calls.length, 0)
})

test('images: filters, pages, every spelling of an id', async () => {
  const one = fakeImage({ name: 'one' })
  const two = fakeImage({ name: 'two', state: { at: 'failed', reason: 'The disk is full.' } })
  for (const image of [one, two]) fake.images.set(image.id, image)
  const all = await ask('GET', '/v1/images?limit=1')
  assert.equal(all.json.total, 2)
  assert.equal(all.json.images.length, 1)
  const spelt = (['native', 'wuying', 'uhost'] as const).map((dialect) => spellId('image', one.id, dialect))
  for (const text of spelt) {
    assert.equal((await ask('GET', `/v1/images/${text}`)).json.id, spelt[0])
    assert.equal((await ask('GET', `/v1/images?ids=${text}&ids=img-unknown`)).json.total, 1)
  }
  assert.deepEqual((await ask('GET', '/v1/images?ids=img-unknown')).json, { total: 0, images: [] })
  const failed = (await ask('GET', `/v1/images/${spellId('image', two.id, 'native')}`)).json
  assert.deepEqual([failed.state, failed.reason, failed.digest], ['failed', 'The disk is full.', null])
  await ask(
    'GET',
    '/v1/images?region=hk&project=org-a&kinds=base&kinds=custom&states=failed&osType=Linux&tag=t',
  )
  assert.deepEqual(lastInput(), {
    regionId: 'hk',
    projectId: 'org-a',
    kinds: ['base', 'custom'],
    states: ['failed'],
    osType: 'Linux',
    tag: 't',
  })
})

test('images: capture, import, copy and remove say which task goes on', async () => {
  const machineId = spellId('machine', newId('machine'), 'wuying')
  const made = await ask('POST', '/v1/images/capture', {
    machineId,
    name: 'g',
    region: 'hk',
    disks: 'system',
  })
  assert.equal(made.status, 202)
  assert.match(made.json.imageId, /^img-/)
  assert.match(made.json.taskId, /^task-/)
  assert.deepEqual([lastInput().regionId, lastInput().disks, lastInput().name], ['hk', 'system', 'g'])
  const creating = (await ask('GET', `/v1/images/${made.json.imageId}?region=hk`)).json
  assert.deepEqual([creating.state, creating.taskId], ['creating', made.json.taskId])

  await ask('POST', '/v1/images/import?region=hk', { fileName: 'disk.raw', name: 'base', kind: 'base' })
  assert.deepEqual([lastInput().kind, lastInput().osType, lastInput().regionId], ['base', undefined, 'hk'])
  assert.deepEqual(lastInput().from, { is: 'file', fileName: 'disk.raw' })

  const copyPath = `/v1/images/${made.json.imageId}/copy`
  const copied = await ask('POST', copyPath, { targetRegions: ['cn-hangzhou', 'hk'], targetProject: 'org-b' })
  assert.deepEqual(
    copied.json.copies.map((copy: Json) => copy.region),
    ['cn-hangzhou', 'hk'],
  )
  assert.deepEqual([lastInput().targetProjectId, lastInput().regionId], ['org-b', 'cn-hangzhou'])
  await ask('POST', copyPath, { targetProject: 'org-b', region: 'hk' })
  assert.deepEqual(lastInput().targetRegionIds, ['hk'])
  await refused(signedRequest('POST', copyPath, { targetRegions: ['mars'] }), 404, { subject: 'region' })
  const callCount = fake.calls.length
  const twice = signedRequest('POST', copyPath, { targetRegions: ['hk', 'cn-hangzhou', 'hk'] })
  assert.match(
    await refused(twice, 400, { field: 'targetRegions' }),
    /'targetRegions' takes .*, none of them twice: 'hk' is\.$/,
  )
  await refused(signedRequest('POST', '/v1/verify', { regions: ['hk', 'hk'] }), 400, { field: 'regions' })
  assert.equal(fake.calls.length, callCount)

  assert.equal((await ask('DELETE', `/v1/images/${made.json.imageId}`)).status, 200)
  await refused(signedRequest('DELETE', `/v1/images/${made.json.imageId}`), 404, { subject: 'image' })
})

test('machines: create, look, stop, start, remove', async () => {
  const imageId = spellId('image', newId('image'), 'uhost')
  const made = await ask('POST', '/v1/machines', {
    imageId,
    name: 'desk',
    count: 2,
    memoryBytes: 1024 ** 3,
    dataDisks: [{ sizeBytes: 1024 ** 3 }],
    labels: [{ key: 'team', value: 'a' }],
  })
  assert.equal(made.status, 202)
  assert.equal(made.json.machineIds.length, 2)
  const [disk] = lastInput().dataDisks
  assert.deepEqual(disk, { sizeBytes: 1024 ** 3, category: '', bus: undefined, snapshotId: undefined })
  assert.deepEqual([lastInput().numberedNames, lastInput().cpuCount], [true, undefined])
  const [id] = made.json.machineIds
  assert.equal((await ask('GET', `/v1/machines/${id}`)).json.state, 'creating')
  assert.equal((await ask('POST', `/v1/machines/${id}/stop`, { how: 'power' })).status, 202)
  assert.equal(lastInput().how, 'power')
  assert.equal((await ask('GET', `/v1/machines/${id}`)).json.state, 'stopped')
  assert.equal((await ask('POST', `/v1/machines/${id}/start`)).status, 202)
  assert.equal((await ask('GET', '/v1/machines')).json.total, 2)
  assert.equal((await ask('DELETE', `/v1/machines/${id}?stoppedOnly=true`)).status, 202)
  assert.equal(lastInput().stoppedOnly, true)
  await refused(signedRequest('GET', `/v1/machines/${id}`), 404, { subject: 'machine' })
  await refused(signedRequest('POST', '/v1/machines', { imageId: 'img-x', name: 'm' }), 404, {
    subject: 'image',
  })
})

test('the console is bytes from an offset on, and takes bytes', async () => {
  const machine = fakeMachine()
  fake.machines.set(machine.id, machine)
  const path = `/v1/machines/${spellId('machine', machine.id as MachineId, 'native')}/console`
  const first = (await ask('GET', path)).json
  assert.equal(Buffer.from(first.bytes, 'base64').toString(), 'login: ')
  assert.deepEqual([first.from, first.next], [0, 7])
  assert.equal(
    (await ask('POST', path, { bytes: Buffer.from('root\n').toString('base64') })).json.writtenBytes,
    5,
  )
  const second = (await ask('GET', `${path}?from=${first.next}`)).json
  assert.deepEqual([Buffer.from(second.bytes, 'base64').toString(), second.next], ['root\n', 12])
  await refused(signedRequest('POST', path, { bytes: 'n o' }), 400, { field: 'bytes' })
  fake.console = Buffer.alloc(1024 ** 2, 'x')
  assert.equal((await ask('GET', path)).json.next, 256 * 1024)
})

test('tasks: list, look, wait, cancel; verify starts one for each region', async () => {
  const { json } = await ask('POST', '/v1/verify', { deep: true })
  assert.equal(json.taskIds.length, 2)
  assert.deepEqual(lastInput(), { regionIds: ['cn-hangzhou', 'hk'], deep: true })
  await ask('POST', '/v1/verify', { regions: ['hk'] })
  assert.deepEqual(lastInput(), { regionIds: ['hk'], deep: false })
  const path = `/v1/tasks/${json.taskIds[0]}`
  assert.equal((await ask('GET', path)).json.state, 'queued')
  const waited = (await ask('GET', `${path}?waitMs=1000`)).json
  assert.deepEqual([waited.state, waited.step, waited.doneBytes], ['running', 'read', 1024])
  assert.equal((await ask('DELETE', path)).status, 202)
  assert.equal((await ask('GET', path)).json.state, 'cancelled')
  assert.equal((await ask('GET', '/v1/tasks?kind=verify-region&live=true')).json.total, 3)
  assert.equal((await ask('GET', '/v1/tasks?state=queued&state=running')).json.total, 2)
  assert.deepEqual(lastInput(), { projectId: undefined, states: ['queued', 'running'] })
  await ask('GET', '/v1/tasks')
  assert.deepEqual(lastInput(), { projectId: undefined })
  await refused(signedRequest('GET', '/v1/tasks?state=asleep'), 400, { field: 'state' })
  await refused(signedRequest('GET', `${path}?waitMs=50001`), 400, { field: 'waitMs' })
  await refused(signedRequest('GET', '/v1/tasks/task-x'), 404, { subject: 'task' })
})

test('a wait ends when the caller leaves or the server closes', async () => {
  const { json } = await ask('POST', '/v1/verify', { regions: ['hk'] })
  fake.frozen = true
  const closing = new AbortController()
  const request = {
    ...signedRequest('GET', `/v1/tasks/${json.taskIds[0]}?waitMs=50000`),
    signal: closing.signal,
  }
  const answer = send(request)
  closing.abort()
  assert.equal((await answer).json.state, 'queued')
})

test('projects, users, policies, attachments', async () => {
  assert.equal((await ask('GET', '/v1/projects')).json.projects[0].id, 'org-main')
  assert.deepEqual(await ask('POST', '/v1/projects', { name: 'B' }), {
    status: 201,
    json: { project: 'org-second' },
  })
  const user = await ask('POST', '/v1/users', { name: 'ann' })
  assert.deepEqual(user.json, { name: 'ann', accessKeyId: 'AKNEW', accessKeySecret: 'shown once' })
  const document = { Version: '1', Statement: [] }
  assert.equal((await ask('PUT', '/v1/policies/only%20images', { document })).status, 200)
  assert.deepEqual(lastInput(), { name: 'only images', document })
  const attached = await ask('POST', '/v1/attachments', { user: 'ann', policy: 'p', project: 'org-a' })
  assert.deepEqual(attached.json, { user: 'ann', policy: 'p', project: 'org-a' })
})

test('what the gateway refuses has the shape of every other error', () => {
  const request = signedRequest('POST', '/v1/projects')
  const answer = door.refuse?.(new Fault('invalid', 'Too large.', { reason: 'too-large' }), request)
  assert.equal(answer?.status, 413)
  assert.equal(JSON.parse(answer?.body.toString() ?? '').error.requestId, request.requestId)
})
