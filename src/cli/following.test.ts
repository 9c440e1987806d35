import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { newId, spellId } from '../image/ids.ts'
import { fakeImage, NOW_MS } from '../wire/native/fixture-nouns.ts'
import { parseMessages } from './event-stream.ts'
import { memoryIo, startServer, type TestServer } from './fixture.ts'
import { runCli } from './program.ts'

let server: TestServer
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.gateway.close())

type Json = ReturnType<typeof JSON.parse>

async function ok(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 0, `${stdout}${stderr}`)
  return stdout
}
const inputOf = (name: string): Json => server.fake.calls.findLast((call) => call.name === name)?.input

test('messages are read however they are cut', async () => {
  const text =
    'retry: 2000\nid: 4\n\nid: 5\nevent: task\ndata: {"a":\r\ndata:"ü"}\r\n\r\n: still here\nid: 7\n\nid: no\n\ndata'
  const expected = [
    { name: 'message', id: 4, data: '' },
    { name: 'task', id: 5, data: '{"a":\n"ü"}' },
    { name: 'message', id: 7, data: '' },
  ]
  const bytes = Buffer.from(text)
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const chunks = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
    }
    assert.deepEqual(await Array.fromAsync(parseMessages(chunks())), expected)
  }
  const endless = async function* () {
    for (;;) yield Buffer.alloc(64 * 1024, 'a')
  }
  await assert.rejects(Array.fromAsync(parseMessages(endless())), /no stream of events/)
})

/** Runs `events follow`; `said` waits until its output has so many lines. */
function follow(...argv: string[]) {
  const pressed = new AbortController()
  let told = Promise.withResolvers<void>()
  let out = ''
  const onOutput = (text: string) => {
    out += text
    told.resolve()
  }
  const ended = server.runWith({ onOutput, interrupt: pressed.signal }, 'events', 'follow', ...argv)
  const said = async (count: number) => {
    while (out.split('\n').length <= count) {
      told = Promise.withResolvers()
      await told.promise
    }
    return out.split('\n').slice(0, -1)
  }
  return { ended, said, press: () => pressed.abort() }
}

/** Until so many have asked for events. */
async function asked(count: number): Promise<void> {
  const seen = () => server.fake.calls.filter(({ name }) => name === 'events.list').length
  while (seen() < count) await new Promise((resolve) => setImmediate(resolve))
}

test('events are printed as they come, over a new connection too, each once', async () => {
  const { following } = server.fake
  following.add({ reason: 'before anybody listened' })
  const { ended, said, press } = follow()
  await asked(2)
  following.add()
  following.add({ state: 'failed', step: undefined, reason: 'The store is\naway.', totalBytes: 0 })
  const lines = await said(2)
  assert.match(
    lines[0] ?? '',
    /^2026-\S+ \S+ {2}task-\w+ {2}copy-image {2}cn-hangzhou {2}running: pull {2}1 KiB of 4 KiB {2}1 KiB moved$/,
  )
  assert.match(lines[1] ?? '', / {2}failed {2}1 KiB moved {2}The store is\?away\.$/)
  const { fake, port } = server
  await server.gateway.close()
  following.add({ state: 'done', step: undefined })
  server = await startServer(fake, port)
  following.add({ state: 'cancelled', step: undefined })
  const more = await said(4)
  assert.deepEqual(
    more.slice(2).map((line) => line.split('  ').at(-3)),
    ['done', 'cancelled'],
  )
  press()
  const { exitCode, stderr, stdout } = await ended
  assert.equal(exitCode, 130)
  assert.equal(stderr, 'calotype: Stopped. Go on where this was: calotype events follow --after 5\n')
  assert.equal(stdout.split('\n').length, 5)
})

test('of one task until it has ended, with an end as its own', async () => {
  const { following, tasks } = server.fake
  const image = fakeImage()
  server.fake.images.set(image.id, image)
  const { taskId } = JSON.parse(
    await ok('image', 'copy', spellId('image', image.id, 'native'), '--to', 'hk', '--json'),
  )
  const task = [...tasks.values()].find((one) => spellId('task', one.id, 'native') === taskId)
  assert.ok(task !== undefined)
  const { ended } = follow('--task', taskId, '--json')
  await asked(1)
  following.add({ taskId: newId('task'), state: 'done' })
  following.add({ taskId: task.id })
  following.add({ taskId: task.id, state: 'failed', reason: 'Away.' })
  const { exitCode, stdout, stderr } = await ended
  const events = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.deepEqual(
    events.map(({ taskId: of, state }: Json) => [of, state]),
    [
      [taskId, 'running'],
      [taskId, 'failed'],
    ],
  )
  assert.deepEqual([exitCode, stderr], [1, `calotype: Task ${taskId} failed: Away.\n`])

  // Nobody will say any more that it has ended.
  tasks.set(task.id, { ...task, state: { at: 'done' }, endedAtMs: NOW_MS })
  assert.equal(await ok('events', 'follow', '--task', taskId), '')
  // What was missed comes first.
  assert.equal((await server.run('events', 'follow', '--task', taskId, '--after', '0')).exitCode, 1)
})

test('what is no longer kept is told of, and what the server refuses ends it', async () => {
  const { following } = server.fake
  following.add()
  following.goneId = 1
  const { ended, said, press } = follow('--after', '0', '--kind', 'copy-image', '--project', 'org-b')
  await asked(3)
  following.add()
  await said(1)
  const { kinds, projectId } = inputOf('events.list')
  assert.deepEqual([kinds, projectId], [['copy-image'], 'org-b'])
  server.fake.failNext('events.list', new Fault('denied', 'You may not read this project.'))
  following.add()
  const { exitCode, stderr } = await ended
  press()
  assert.equal(exitCode, 1)
  assert.match(stderr, /^Events were missed: .*\ncalotype: You may not read this project\.\n$/)
  const nobody = await server.run('events', 'follow', '--endpoint', 'http://127.0.0.1:1')
  assert.equal(nobody.exitCode, 3)
})

test('webhooks are added, listed, switched and deleted; a secret is shown once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'calotype-webhook-'))
  try {
    const argv = ['webhook', 'add', 'https://example.com/hook', '--name', 'ci', '--ends-only']
    const made = await ok(...argv, '--kind', 'copy-image', 'copy-batch')
    assert.match(
      made,
      /^Webhook hook-1 is told from now on\.\nsecret {2}made-for-the-webhook\n.* not shown again\.\n$/,
    )
    const { url, kinds, endsOnly, secret } = inputOf('webhooks.create')
    assert.deepEqual([url, endsOnly, secret], ['https://example.com/hook', true, undefined])
    assert.deepEqual(kinds, ['copy-image', 'copy-batch'])
    const file = join(folder, 'secret')
    writeFileSync(file, 'sixteen characters\n')
    const given = await ok('webhook', 'add', 'https://example.com/', '--name', 'b', '--secret-file', file)
    assert.equal(given, 'Webhook hook-2 is told from now on.\n')
    assert.equal(inputOf('webhooks.create').secret, 'sixteen characters')
    const stdin = new PassThrough()
    stdin.end('another, of standard input')
    const piped = ['webhook', 'add', 'https://example.com/', '--name', 'c', '--secret-file', '-']
    assert.equal((await server.runWith({ stdin }, ...piped)).exitCode, 0)
    assert.equal(inputOf('webhooks.create').secret, 'another, of standard input')
    const absent = await server.run(...piped.slice(0, -1), join(folder, 'none'))
    assert.deepEqual([absent.exitCode, /Cannot read .* \(ENOENT\)/.test(absent.stderr)], [2, true])
    assert.equal(await ok('webhook', 'disable', 'hook-1'), 'Webhook hook-1 is disabled.\n')
    const { webhooks } = server.fake.following
    const second = webhooks.get('hook-2')
    assert.ok(second !== undefined)
    webhooks.set('hook-2', { ...second, failingSinceMs: NOW_MS, lastReason: 'It answers 500.' })
    const listed = await ok('webhook', 'list')
    assert.match(listed, /^hook-1 +ci +https:\/\/example\.com\/hook +disabled +copy-image,copy-batch +ends$/m)
    assert.match(listed, /^hook-2 +b .* failing +all +everything +2026-.* It answers 500\.$/m)
    assert.equal(await ok('webhook', 'enable', 'hook-1'), 'Webhook hook-1 is enabled.\n')
    assert.equal(inputOf('webhooks.change').isEnabled, true)
    assert.equal(await ok('webhook', 'delete', 'hook-1'), 'Webhook hook-1 is deleted.\n')
    assert.equal((await server.run('webhook', 'delete', 'hook-1')).exitCode, 1)
    assert.equal((await server.run('webhook', 'add', 'https://example.com/')).exitCode, 2)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('rules of replication are added, listed, switched and deleted', async () => {
  const familyId = newId('image')
  const family = spellId('image', familyId, 'native')
  const to = ['--to', 'hk', '--to-project', 'org-b']
  const filter = ['--match', 'web-*', '--tag', 'web', '--family', family]
  const made = await ok('replication', 'add', '--name', 'r', ...to, ...filter, '--keep', '3')
  assert.equal(made, 'Rule rule-1 copies what becomes available from now on.\n')
  const given = inputOf('replication.create')
  assert.deepEqual(given.filter, { namePattern: 'web-*', tag: 'web', familyOf: familyId })
  assert.deepEqual([given.targetRegionIds, given.targetProjectId, given.keepCount], [['hk'], 'org-b', 3])
  await ok('replication', 'add', '--name', 'all', '--to', 'hk')
  const { filter: none, keepCount } = inputOf('replication.create')
  assert.deepEqual([Object.values(none).filter(Boolean), keepCount], [[], undefined])
  const { rules } = server.fake.following
  const first = rules.get('rule-1')
  assert.ok(first !== undefined)
  rules.set('rule-1', { ...first, lastDoneAtMs: NOW_MS, lastFailedAtMs: NOW_MS + 1, lastReason: 'No room.' })
  const listed = await ok('replication', 'list')
  assert.match(
    listed,
    new RegExp(`^rule-1 +r +web-\\*, tag web, of ${family} +hk +org-b +3 +yes .* No room\\.$`, 'm'),
  )
  assert.match(listed, /^rule-2 +all +every image +hk +org-\w+ +all +yes$/m)
  const shown = await ok('replication', 'show', 'rule-1', '--project', 'org-a')
  assert.equal(inputOf('replication.get').projectId, 'org-a')
  for (const line of [
    /^rule +rule-1$/m,
    new RegExp(`^copies +web-\\*, tag web, of ${family}$`, 'm'),
    /^keeps +3$/m,
    /^failure +No room\.$/m,
  ]) {
    assert.match(shown, line)
  }
  assert.equal((await server.run('replication', 'show', 'rule-9')).exitCode, 1)
  assert.equal(await ok('replication', 'disable', 'rule-1'), 'Rule rule-1 is disabled.\n')
  assert.equal(rules.get('rule-1')?.isEnabled, false)
  assert.equal(await ok('replication', 'enable', 'rule-1'), 'Rule rule-1 is enabled.\n')
  assert.equal(await ok('replication', 'delete', 'rule-1'), 'Rule rule-1 is deleted; its copies stay.\n')
  assert.equal((await server.run('replication', 'delete', 'rule-1')).exitCode, 1)
  assert.equal(
    (await server.run('replication', 'add', '--name', 'r', '--to', 'hk', '--keep', '0')).exitCode,
    2,
  )
})

test('peers are listed, and the own fingerprint is printed without a server', async () => {
  const listed = await ok('peer', 'list')
  assert.match(listed, /^branch +https:\/\/branch\.example\.com:8371 +ok +paris$/m)
  assert.match(listed, /^attic .* away +It does not answer\.$/m)
  const identity = { fingerprint: 'ab'.repeat(32), certificate: '-----BEGIN CERTIFICATE-----\n' }
  const given: object[] = []
  const run = async (...argv: string[]) => {
    const { io, text } = memoryIo()
    const nobody = async () => assert.fail('it asks for nothing else')
    const exitCode = await runCli(['peer', 'identity', ...argv], {
      ...{ serve: nobody, offline: nobody, doctor: nobody, io },
      async peerIdentity(flags) {
        given.push(flags)
        if (flags.data === undefined) throw new Fault('invalid', 'Name the data directory: --data.')
        return identity
      },
    })
    return [exitCode, text('stdout'), text('stderr')]
  }
  assert.deepEqual(await run('--data', '/d', '--config', 'c.yaml'), [0, `${identity.fingerprint}\n`, ''])
  assert.deepEqual(given, [{ data: '/d', config: 'c.yaml' }])
  assert.deepEqual(JSON.parse(String((await run('--data', '/d', '--json'))[1])), identity)
  assert.deepEqual(await run(), [2, '', 'calotype: Name the data directory: --data.\n'])
})
