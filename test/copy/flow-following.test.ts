import assert from 'node:assert/strict'
import { createHmac, timingSafeEqual } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { signedHeaders } from '../../src/cli/client.ts'
import type { ShownImage } from '../../src/wire/native/show.ts'
import type { ShownEvent } from '../../src/wire/native/show-events.ts'
import { calotype, calotypeJson } from '../clean/command.ts'
import {
  api,
  beginCopy,
  bringIn,
  done,
  type FlowPlace,
  HOME,
  MIB,
  newDisk,
  newFlowPlace,
  taskOf,
  until,
} from './flow-place.ts'

const SECRET = 'a secret that both sides know'

interface Message {
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

/** Takes messages, and refuses those whose number is in `refused`, counted from 0. */
async function newReceiver(t: TestContext, refused: readonly number[]) {
  const messages: Message[] = []
  const server = createServer((request, response) => {
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece))
    request.on('end', () => {
      const number = messages.push({ headers: request.headers, body: Buffer.concat(pieces) }) - 1
      response.writeHead(refused.includes(number) ? 503 : 204).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return { origin: `127.0.0.1:${(server.address() as AddressInfo).port}`, messages }
}

/** As docs/copies.md has it. */
function isGood(secret: string, signature: string, body: Buffer): boolean {
  const [, seconds, hex] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(signature) ?? []
  if (hex === undefined || Math.abs(Date.now() / 1000 - Number(seconds)) > 300) return false
  const made = createHmac('sha256', secret).update(`${seconds}.`).update(body).digest()
  return timingSafeEqual(made, Buffer.from(hex, 'hex'))
}

/** Reads the stream until `isEnough`, then breaks it off, in the middle of whatever comes next. */
async function follow(
  place: FlowPlace,
  lastId: number,
  isEnough: (seen: readonly ShownEvent[]) => boolean,
): Promise<readonly ShownEvent[]> {
  const { endpoint, key } = place.server
  const url = new URL('/v1/events/stream', endpoint)
  const connection = { endpoint, keyId: key.accessKeyId, secret: key.accessKeySecret }
  const given = { 'last-event-id': String(lastId) }
  const headers = signedHeaders(connection, 'GET', url, Buffer.alloc(0), given)
  const answer = await fetch(url, { headers })
  assert.equal(answer.status, 200)
  const seen: ShownEvent[] = []
  let text = ''
  assert(answer.body !== null)
  for await (const piece of answer.body) {
    text += Buffer.from(piece as Uint8Array).toString()
    const frames = text.split('\n\n')
    text = frames.pop() ?? ''
    for (const frame of frames) {
      const [, id, data] = /^id: (\d+)\nevent: task\ndata: (.*)$/.exec(frame) ?? []
      if (data === undefined) continue
      const event = JSON.parse(data) as ShownEvent
      assert.equal(event.id, Number(id))
      seen.push(event)
      if (isEnough(seen)) return seen
    }
  }
  throw new Error('the stream ended by itself')
}

const isEnd = ({ state }: ShownEvent) => ['done', 'failed', 'cancelled'].includes(state)

test('a rule copies what is new and fits, and keeps the newest two; each step is told in order, with nothing missed', async (t: TestContext) => {
  const receiver = await newReceiver(t, [0, 3])
  const place = await newFlowPlace(t, { environment: { CALOTYPE_IMPORTS_ALLOW: receiver.origin } })
  await bringIn(place, 'gold-before', newDisk(MIB))
  const { lastId } = await api<{ lastId: number }>(place, 'GET', '/v1/events')
  const secretFile = join(place.folder, 'secret')
  await writeFile(secretFile, `${SECRET}\n`)
  const address = `http://${receiver.origin}/told?token=hidden`
  const words = ['webhook', 'add', address, '--name', 'told', '--kind', 'copy-image']
  const hook = await calotypeJson<{ id: string }>(place, ...words, '--secret-file', secretFile)
  const rule = ['replication', 'add', '--region', HOME, '--name', 'gold', '--match', 'gold-*', '--keep', '2']
  await calotypeJson(place, ...rule, '--to', 'hk', 'cn-bj2')

  for (const name of ['gold-1', 'silver', 'gold-2', 'gold-3']) {
    await bringIn(place, name, newDisk(MIB))
    if (name === 'silver') continue
    for (const region of ['hk', 'cn-bj2']) {
      await until(`${name} in ${region}`, async () => {
        const query = { region, name, states: ['available'] }
        return (await api<{ total: number }>(place, 'GET', '/v1/images', { query })).total === 1 || undefined
      })
    }
  }
  for (const region of ['hk', 'cn-bj2']) {
    const names = await until(`two in ${region}`, async () => {
      const { images } = await api<{ images: ShownImage[] }>(place, 'GET', '/v1/images', {
        query: { region },
      })
      return images.length === 2 ? images.map(({ name }) => name) : undefined
    })
    assert.deepEqual(names.toSorted(), ['gold-2', 'gold-3'])
  }

  // What was told at once, what is told by asking, and what a stream in two pieces tells, are the same.
  const { events } = await api<{ events: ShownEvent[] }>(place, 'GET', '/v1/events', {
    query: { afterId: lastId, limit: 500 },
  })
  const last = events.at(-1)?.id ?? 0
  const some = await follow(place, lastId, (seen) => seen.length === Math.floor(events.length / 2))
  const rest = await follow(place, some.at(-1)?.id ?? 0, (seen) => (seen.at(-1)?.id ?? 0) >= last)
  assert.deepEqual(
    [...some, ...rest].filter(({ id }) => id <= last),
    events,
  )
  const ids = events.map(({ id }) => id)
  assert.deepEqual(
    ids,
    [...new Set(ids)].toSorted((a, b) => a - b),
  )
  const copies = events.filter(({ kind }) => kind === 'copy-image')
  const byTask = Map.groupBy(copies, ({ taskId }) => taskId)
  assert.equal(byTask.size, 6)
  for (const [taskId, told] of byTask) {
    assert.deepEqual([told[0]?.state, told.at(-1)?.state], ['queued', 'done'], taskId)
    const steps = [...new Set(told.map(({ step }) => step).filter((step) => step !== null))]
    assert.deepEqual(
      steps.filter((step) => ['queue', 'plan', 'pull', 'commit'].includes(step)),
      [...['queue', 'plan', 'pull', 'commit']],
    )
    const bytes = told.map(({ doneBytes }) => doneBytes)
    assert.deepEqual(
      bytes,
      bytes.toSorted((a, b) => a - b),
    )
  }

  // Each in its order, the two that were refused once more, nothing younger before them.
  const wanted = copies.map(({ id }) => id)
  const { messages } = receiver
  await until('the last message', async () => messages.length >= wanted.length + 2 || undefined)
  const told = messages.map(({ headers }) => Number(headers['calotype-event']))
  assert.deepEqual(told, [wanted[0], wanted[0], wanted[1], wanted[2], wanted[2], ...wanted.slice(3)])
  for (const { headers, body } of messages) {
    assert.equal(headers['calotype-webhook'], hook.id)
    assert.ok(isGood(SECRET, String(headers['calotype-signature']), body))
    assert.ok(!isGood('another secret of some length', String(headers['calotype-signature']), body))
    const id = Number(headers['calotype-event'])
    assert.deepEqual(
      JSON.parse(body.toString()),
      copies.find((event) => event.id === id),
    )
  }
  const list = await calotype(place, 'webhook', 'list', '--json')
  assert.doesNotMatch(list.stdout + list.stderr, /hidden|a secret that/)

  // Enabled or not is up to its owner; what came meanwhile is not copied later.
  const { rules } = await api<{ rules: { id: string }[] }>(place, 'GET', '/v1/replication-rules', {
    query: { region: HOME },
  })
  const ruleId = rules[0]?.id ?? ''
  await calotypeJson(place, 'replication', 'disable', ruleId)
  await bringIn(place, 'gold-4', newDisk(MIB))
  await calotypeJson(place, 'replication', 'enable', ruleId)
  await bringIn(place, 'gold-5', newDisk(MIB))
  await until('gold-5', async () => {
    const query = { region: 'hk', name: 'gold-5', states: ['available'] }
    return (await api<{ total: number }>(place, 'GET', '/v1/images', { query })).total === 1 || undefined
  })
  const query = { region: 'hk', name: 'gold-4' }
  assert.equal((await api<{ total: number }>(place, 'GET', '/v1/images', { query })).total, 0)
})

test('the command follows one task to its end, and begins where it is told to', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const source = await bringIn(place, 'source', newDisk(2 * MIB))
  const { lastId } = await api<{ lastId: number }>(place, 'GET', '/v1/events')
  const asked = await beginCopy(place, source.id, {
    targetRegions: ['hk', 'cn-bj2'],
    bytesPerSecond: 2 * MIB,
  })
  const words = ['events', 'follow', '--task', asked.copies[0]?.taskId ?? '', '--after', String(lastId)]
  const { exitCode, stdout, stderr } = await calotype(place, ...words, '--json')
  assert.equal(exitCode, 0, stderr)
  const told = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as ShownEvent)
  assert.ok(told.every(({ taskId }) => taskId === asked.copies[0]?.taskId))
  assert.deepEqual([told[0]?.state, told.filter(isEnd).map(({ state }) => state)], ['queued', ['done']])
  await done(place, asked.taskId)
  const batch = await taskOf(place, asked.taskId)
  const copies = await Promise.all(asked.copies.map(({ taskId }) => taskOf(place, taskId)))
  assert.equal(
    batch.doneBytes,
    copies.reduce((sum, { doneBytes }) => sum + doneBytes, 0),
  )
})
