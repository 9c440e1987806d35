import assert from 'node:assert/strict'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { createEvents } from '../../app/events.ts'
import type { Guard } from '../../app/guard.ts'
import { Fault } from '../../image/fault.ts'
import type { ProjectId } from '../../image/ids.ts'
import { newEvents } from '../../tasks/webhooks.fixture.ts'
import { createGateway } from '../gateway.ts'
import type { GatewayRecord } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp } from './fixture.ts'
import { NOW_MS, PROJECT } from './fixture-nouns.ts'
import { KEY, signedRequest } from './fixture-request.ts'
import { createFollowers, type FollowOptions, isFollowed } from './followers.ts'

const PATH = '/v1/events/stream'

interface Frame {
  readonly id: number | undefined
  readonly event: string | undefined
  /** Undefined where there is none. */
  readonly data: ReturnType<typeof JSON.parse>
}

/** A reader as the standard has it: a frame counts once its empty line came. */
function readFrames(answer: IncomingMessage, onFrame: (frame: Frame) => void): void {
  let text = ''
  answer.setEncoding('utf8')
  answer.on('data', (piece: string) => {
    text += piece
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const lines = text.slice(0, end).split('\n')
      text = text.slice(end + 2)
      const fieldOf = (name: string) =>
        lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
      const id = fieldOf('id')
      const data = fieldOf('data')
      onFrame({
        id: id === undefined ? undefined : Number(id),
        event: fieldOf('event'),
        data: data === undefined ? undefined : JSON.parse(data),
      })
    }
  })
  answer.on('error', () => {})
}

async function newPlace(t: TestContext, follow: FollowOptions = {}) {
  const made = newEvents()
  const events: typeof made = { ...made, add: (event) => made.add({ projectId: PROJECT, ...event }) }
  const fake = createFakeApp()
  let isDenied = false
  // Rights are tried with the use case itself; here they are given or taken.
  const guard = {
    async admit(_caller: unknown, _useCase: unknown, target: { projectId?: ProjectId }) {
      if (isDenied) throw new Fault('denied', 'No right any more.', { subject: 'policy' })
      return target.projectId ?? PROJECT
    },
  } as unknown as Guard
  const log = { ...events, note: async () => {}, noted() {}, sweep: async () => {} }
  Object.assign(fake.app, { events: createEvents({ events: log }, guard) })
  let isActive = true
  const keyring: typeof fake.keyring = {
    ...fake.keyring,
    async find(keyId) {
      const key = await fake.keyring.find(keyId)
      return key === undefined ? undefined : { ...key, isActive: key.isActive && isActive }
    },
  }
  const bugs: unknown[] = []
  const records: GatewayRecord[] = []
  const native = createNativeDoor({
    ...{ app: fake.app, keyring, clock: () => NOW_MS, clockWindowMs: 60_000, follow },
    onBug: (error) => bugs.push(error),
  })
  const gateway = createGateway({
    doors: { native },
    log: (record) => void records.push(record),
    closeGraceMs: 5000,
  })
  const { port } = await gateway.listen('127.0.0.1', 0)
  const host = `127.0.0.1:${port}`
  const open: { destroy(): void }[] = []
  t.after(async () => {
    for (const one of open) one.destroy()
    await gateway.close()
    assert.deepEqual(bugs, [])
  })

  const ask = async (path: string, headers: Record<string, string> = {}, isSigned = true) => {
    const signed = isSigned ? signedRequest('GET', path, undefined, { host }).headers : { host }
    const request = httpRequest({
      ...{ host: '127.0.0.1', port, path, agent: false },
      headers: { ...(signed as Record<string, string>), ...headers },
    })
    open.push(request)
    request.end()
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve)
      request.once('error', reject)
    })
    return { request, answer }
  }
  return {
    ...{ events, gateway, records, ask },
    deny(is: boolean) {
      isDenied = is
    },
    switchOff() {
      isActive = false
    },
    async json(path: string) {
      const { answer } = await ask(path)
      const body = Buffer.concat(await Array.fromAsync(answer)).toString()
      return { status: answer.statusCode, body: JSON.parse(body) }
    },
    async follow(path = PATH, headers: Record<string, string> = {}) {
      const { request, answer } = await ask(path, headers)
      assert.equal(answer.statusCode, 200)
      const frames: Frame[] = []
      const ended = new Promise<void>((resolve) => answer.once('close', resolve))
      readFrames(answer, (frame) => frames.push(frame))
      return {
        ...{ frames, answer, ended },
        tasks: () => frames.filter(({ event }) => event === 'task').map(({ data }) => data.id as number),
        leave: () => request.destroy(),
      }
    },
  }
}

const until = async (isSo: () => boolean) => {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve))
}

test('events: listed behind an id, of a task, of a kind', async (t) => {
  const { events, json } = await newPlace(t)
  const event = events.add()
  events.add({
    kind: 'import-image',
    state: 'failed',
    step: undefined,
    faultKind: 'full',
    reason: 'No room.',
  })
  const { status, body } = await json('/v1/events?afterId=0')
  assert.deepEqual([status, body.lastId, body.events.length], [200, 2, 2])
  assert.deepEqual(body.events[0], {
    ...{ id: 1, atMs: 1000, project: PROJECT, region: 'hk', taskId: `task-${event.taskId}`, parentId: null },
    ...{ kind: 'copy-image', imageId: null, state: 'running', step: 'pull', faultKind: null, reason: null },
    ...{ doneBytes: 1, totalBytes: 2, movedBytes: 1, savedBytes: 0 },
  })
  assert.deepEqual([body.events[1].faultKind, body.events[1].reason], ['full', 'No room.'])
  assert.deepEqual((await json('/v1/events')).body, { lastId: 2, events: [] })
  const some = await json('/v1/events?afterId=0&kinds=import-image&limit=1')
  assert.deepEqual(
    some.body.events.map(({ id }: { id: number }) => id),
    [2],
  )
  const waiting = json('/v1/events?afterId=2&waitMs=50000')
  events.add()
  assert.deepEqual((await waiting).body.lastId, 3)
  events.forget(2)
  const gone = await json('/v1/events?afterId=1')
  assert.deepEqual([gone.status, gone.body.error.subject, gone.body.error.reason], [409, 'event', 'gone'])
  for (const path of ['?afterId=-1', '?waitMs=50001', '?kinds=x', '?limit=501', '/stream?afterId=x'])
    assert.equal((await json(`/v1/events${path}`)).status, 400, path)
})

test('stream: what happens arrives as it happens, of what was asked for', async (t) => {
  const { events, follow } = await newPlace(t)
  events.add()
  const all = await follow()
  assert.match(String(all.answer.headers['content-type']), /^text\/event-stream/)
  assert.equal(all.answer.headers['cache-control'], 'no-store')
  const some = await follow(`${PATH}?afterId=0&kinds=import-image`)
  await until(() => all.frames.length === 1)
  // Nothing yet, and already an id to come back with.
  assert.deepEqual([all.frames[0]?.id, all.frames[0]?.event], [1, undefined])
  events.add({ kind: 'import-image' })
  events.add({ projectId: 'org-other' as ProjectId, kind: 'import-image' })
  events.add({ reason: 'two\n\nlines\nid: 99' })
  await until(() => all.tasks().length === 2 && some.tasks().length === 1)
  assert.deepEqual([all.tasks(), some.tasks()], [[2, 4], [2]])
  const { id, data } = all.frames.at(-1) ?? assert.fail()
  assert.deepEqual([id, data?.id, data?.reason, data?.state], [4, 4, 'two\n\nlines\nid: 99', 'running'])
})

test('stream: whoever loses the connection and comes back gets each event once', async (t) => {
  const seed = Date.now() % 100_000
  t.diagnostic(`seed ${seed}`)
  let state = seed
  const chance = () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
  const { events, follow } = await newPlace(t, { heartbeatMs: 3 })
  const COUNT = 300
  const got: number[] = []
  let lastId: number | undefined
  let isOver = false
  const making = (async () => {
    for (let count = 0; count < COUNT; count++) {
      events.add({ projectId: chance() < 0.3 ? ('org-other' as ProjectId) : PROJECT })
      if (chance() < 0.3) await new Promise((resolve) => setTimeout(resolve, chance() * 3))
    }
    isOver = true
  })()
  const wanted = async () => (await events.list({ projectId: PROJECT }, 0, COUNT)).map(({ id }) => id)
  while (!isOver || got.at(-1) !== (await wanted()).at(-1)) {
    const headers: Record<string, string> = lastId === undefined ? {} : { 'last-event-id': String(lastId) }
    // The address says what it said the first time; the header counts.
    const reader = await follow(`${PATH}?afterId=0`, headers)
    let left = Math.ceil(chance() * 12)
    await new Promise<void>((resolve) => {
      const look = () => {
        for (const frame of reader.frames.splice(0)) {
          if (left-- <= 0) break
          lastId = frame.id ?? lastId
          if (frame.event === 'task') got.push(frame.data.id)
        }
        if (left > 0) setImmediate(look)
        else resolve()
      }
      look()
    })
    reader.leave()
  }
  await making
  assert.deepEqual(got, await wanted())
})

test('stream: what is no longer kept is told, and it goes on from now', async (t) => {
  const { events, follow } = await newPlace(t)
  for (let count = 0; count < 5; count++) events.add()
  events.forget(3)
  const reader = await follow(PATH, { 'last-event-id': '1' })
  await until(() => reader.frames.some(({ event }) => event === 'gone'))
  events.add()
  await until(() => reader.tasks().length === 1)
  assert.deepEqual(reader.tasks(), [6])
  assert.equal(reader.frames.find(({ event }) => event === 'gone')?.id, 5)
  // An id of another installation, or from before a catalog was lost.
  const strange = await follow(PATH, { 'last-event-id': '999' })
  await until(() => strange.frames.some(({ event, id }) => event === 'gone' && id === 6))
})

test('stream: a heartbeat when nothing happens, with the id to go on behind', async (t) => {
  const { events, follow } = await newPlace(t, { heartbeatMs: 5 })
  const reader = await follow()
  let raw = ''
  reader.answer.on('data', (piece) => {
    raw += piece
  })
  events.add({ projectId: 'org-other' as ProjectId })
  await until(() => /^: /m.test(raw) && reader.frames.at(-1)?.id === 1)
  assert.deepEqual(reader.tasks(), [])
})

test('stream: ends when the rights are taken, the key is switched off, or the server closes', async (t) => {
  const { deny, switchOff, follow, events, gateway } = await newPlace(t, { heartbeatMs: 5, againMs: 20 })
  const reader = await follow()
  deny(true)
  await reader.ended
  assert.deepEqual(reader.frames.at(-1), {
    ...{ id: undefined, event: 'end', data: { kind: 'denied', message: 'No right any more.' } },
  })
  deny(false)
  const other = await newPlace(t, { heartbeatMs: 5, againMs: 5 })
  const second = await other.follow()
  other.switchOff()
  await second.ended
  assert.match(second.frames.at(-1)?.data.message, /switched off/)
  const third = await follow()
  switchOff()
  await third.ended
  assert.equal(third.frames.at(-1)?.event, 'end')
  events.add()
  const last = await newPlace(t)
  const fourth = await last.follow()
  await until(() => fourth.frames.length === 1)
  const closed = last.gateway.close()
  await fourth.ended
  await closed
  assert.equal(fourth.answer.complete, true)
  assert.notEqual(gateway, last.gateway)
})

test('stream: signed like any request, and refused as such', async (t) => {
  const { ask, deny } = await newPlace(t)
  for (const [path, headers, isSigned, status] of [
    [PATH, {}, false, 403],
    [`${PATH}?x=1`, {}, true, 400],
    [PATH, { 'last-event-id': 'x' }, true, 400],
    [PATH, { 'last-event-id': '9'.repeat(40) }, true, 400],
    [`${PATH}?taskId=x`, {}, true, 404],
  ] as const) {
    const { answer } = await ask(path, headers, isSigned)
    assert.equal(answer.statusCode, status, path)
    assert.equal(answer.headers['content-type']?.split(';')[0], 'application/json')
    answer.resume()
  }
  deny(true)
  const { answer } = await ask(PATH)
  assert.equal(answer.statusCode, 403)
  answer.resume()
  assert.ok(KEY.accessKeyId.length > 0)
})

test('stream: so many at once and no more, of a project and in all; whoever leaves makes room', async (t) => {
  const { ask, follow } = await newPlace(t, { countMax: 3, perProjectMax: 2 })
  const first = await follow()
  await follow()
  const { answer } = await ask(PATH)
  assert.equal(answer.statusCode, 503)
  const { error } = JSON.parse(Buffer.concat(await Array.fromAsync(answer)).toString())
  assert.deepEqual([error.kind, error.reason], ['unavailable', 'busy'])
  const elsewhere = await follow(`${PATH}?project=org-other`)
  const full = await ask(`${PATH}?project=org-third`)
  assert.equal(full.answer.statusCode, 503)
  full.answer.resume()
  elsewhere.leave()
  first.leave()
  for (let isIn = false; !isIn; ) {
    const again = await ask(PATH)
    isIn = again.answer.statusCode === 200
    if (!isIn) again.answer.resume()
  }
})

test('events: whoever waits for the next one counts as one that follows, whoever asks does not', async (t) => {
  const { events, follow, json, deny } = await newPlace(t, { countMax: 3, perProjectMax: 2 })
  events.add()
  await follow()
  const elsewhere = await follow(`${PATH}?project=org-other`)
  const statusOf = async (query: string) => (await json(`/v1/events${query}`)).status
  /** Those who ask below to see whether it has its place may be in its way. */
  const wait = async () => {
    for (;;) {
      const answer = await json('/v1/events?waitMs=50000')
      if (answer.status !== 503) return answer
    }
  }
  const waiting = wait()
  let busy = await json('/v1/events?waitMs=1')
  while (busy.status !== 503) busy = await json('/v1/events?waitMs=1')
  assert.deepEqual([busy.status, busy.body.error.kind, busy.body.error.reason], [503, 'unavailable', 'busy'])
  assert.match(busy.body.error.message, /without waitMs/)
  assert.equal(await statusOf('?project=org-third&waitMs=1'), 503)
  // Nobody waits for what is there already.
  assert.equal(await statusOf('?afterId=0&waitMs=50000'), 200)
  assert.equal(await statusOf('?afterId=1'), 200)
  deny(true)
  assert.equal(await statusOf('?waitMs=1'), 403)
  deny(false)
  elsewhere.leave()
  events.add()
  assert.equal((await waiting).body.events.length, 1)
  while ((await statusOf('?waitMs=1')) !== 200);
})

test('followers: a place is given back once, however often it is said', () => {
  const followers = createFollowers({ countMax: 2, perProjectMax: 2 })
  const leave = followers.enter('a')
  followers.enter('a')
  leave()
  leave()
  followers.enter('b')
  assert.throws(() => followers.enter('b'), /Too many/)
  assert.equal(isFollowed({ method: 'GET', url: `${PATH}?afterId=1` }), true)
  assert.equal(isFollowed({ method: 'POST', url: PATH }), false)
  assert.equal(isFollowed({ method: 'GET', url: '/v1/events' }), false)
})
