import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { spellId } from '../image/ids.ts'
import { fakeImage, fakeMachine } from '../wire/native/fixture-nouns.ts'
import type { Client, Query } from './client.ts'
import { printConsole } from './console.ts'
import { memoryIo, startServer, type TestServer } from './fixture.ts'
import { runCli, type ServeFlags } from './program.ts'

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
const json = async (...argv: string[]): Promise<Json> => JSON.parse(await ok(...argv, '--json'))
const lastInput = (): Json => server.fake.calls.at(-1)?.input

test('regions as a table whose columns stand, and as JSON', async () => {
  assert.equal(
    await ok('region', 'list'),
    'REGION       NAME             ZONES          DEFAULT\n' +
      'cn-hangzhou  杭州  Hangzhou   cn-hangzhou-h  yes\n' +
      'hk           香港  Hong Kong  hk-01, hk-02\n',
  )
  assert.equal((await json('region', 'list')).regions.length, 2)
})

test('images: create and wait shows how it goes on, and ends when it is available', async () => {
  const { exitCode, stdout, stderr } = await server.run(
    'image',
    'create',
    '--machine',
    `ecd-${'a'.repeat(17)}`,
    '--name',
    'g',
    '--wait',
  )
  assert.equal(exitCode, 0, stderr)
  assert.match(stdout, /^Image img-[0-9a-z]{17} is available\.\n$/)
  assert.match(stderr, /^Image img-\w+ is being made by task-\w+\.\ncapture-image cn-hangzhou: queued {2}0 %/)
  assert.match(stderr, /read {2}50 % {2}2 KiB of 4 KiB/)
  assert.match(stderr, /capture-image cn-hangzhou: done in 1 s, 4 KiB\n$/)
  assert.ok(!stderr.includes('\x1b'))
  const { images } = await json('image', 'list')
  assert.deepEqual([images[0].name, images[0].state], ['g', 'available'])
  const input = server.fake.calls.find((call) => call.name === 'images.capture')?.input as Json
  assert.deepEqual([input.disks, input.name, input.machineId], ['all', 'g', 'a'.repeat(17)])
})

test('without --wait it says what to do next; wait then follows it', async () => {
  const said = await ok('image', 'create', '--machine', `vm-${'a'.repeat(17)}`, '--disks', 'system')
  const [, imageId, taskId] =
    /Image (img-\w+) is being made\. Follow it: calotype task wait (task-\w+)/.exec(said) ?? []
  assert.ok(imageId !== undefined && taskId !== undefined)
  assert.match(await ok('image', 'list'), /creating 0 %/)
  assert.match(await ok('image', 'wait', imageId), /is available/)
  assert.match(await ok('task', 'wait', taskId), /Task task-\w+ \(capture-image\) is done/)
  assert.match(await ok('task', 'show', taskId), /^kind {6}capture-image$/m)
  assert.match(await ok('task', 'list'), /capture-image {2}cn-hangzhou {2}done/)
  assert.match(await ok('image', 'show', imageId), /^digest +cdcd/m)
  assert.match(await ok('image', 'delete', imageId), /is deleted/)
  assert.equal(await ok('image', 'list'), 'No images.\n')
})

test('a bar is drawn on a terminal alone', async () => {
  const argv = ['image', 'create', '--machine', `vm-${'a'.repeat(17)}`, '--wait', '--json']
  const { exitCode, stdout, stderr } = await server.runWith({ isTerminal: true }, ...argv)
  assert.equal(exitCode, 0)
  const drawn = stderr.replaceAll('\x1b', 'ESC')
  assert.match(drawn, /ESC\[2K\[█{12}░{12}\] capture-image cn-hangzhou: read {2}50 %/)
  assert.match(drawn, /ESC\[1AESC\[2K\[█{24}\]/)
  assert.equal(JSON.parse(stdout).tasks[0].state, 'done')
})

test('colours only on a terminal, and not with NO_COLOR', async () => {
  const image = fakeImage()
  server.fake.images.set(image.id, image)
  const listed = async (options: Parameters<TestServer['runWith']>[0]) =>
    (await server.runWith(options, 'image', 'list')).stdout
  assert.ok((await listed({ isTerminal: true })).includes('\x1b[32mavailable\x1b[0m'))
  assert.ok(!(await listed({ isTerminal: true, environment: { NO_COLOR: '1' } })).includes('\x1b'))
  assert.ok(!(await listed({})).includes('\x1b'))
})

test('without any region an image is copied into another project of its own', async () => {
  const image = fakeImage()
  server.fake.images.set(image.id, image)
  const id = spellId('image', image.id, 'native')
  assert.match(await ok('image', 'copy', id, '--to-project', 'org-b'), /in cn-hangzhou is being made/)
  const input = server.fake.calls.find((call) => call.name === 'images.copy')?.input as Json
  assert.deepEqual([input.targetRegionIds, input.targetProjectId], [['cn-hangzhou'], 'org-b'])
  assert.match(
    await ok('image', 'import', 'd.raw', '--name', 'base', '--kind', 'base', '--wait'),
    /is available/,
  )
})

test('machines: launch, look, stop, start, delete, each until it is so', async () => {
  const imageId = `img-${'b'.repeat(17)}`
  const said = await ok(
    ...['machine', 'launch', '--image', imageId, '--name', 'm', '--cpu', '2', '--memory', '1GiB', '--wait'],
    ...['--disk-size', '8GiB', '--data-disk', '1G', '--data-disk', '2G', '--label', 'team=a=b'],
  )
  const id = /^Machine (vm-\w+) is running\.\n$/.exec(said)?.[1] ?? ''
  const input = server.fake.calls.find((call) => call.name === 'machines.create')?.input as Json
  const gib = 1024 ** 3
  assert.deepEqual([input.cpuCount, input.memoryBytes, input.systemDiskBytes], [2, gib, 8 * gib])
  assert.deepEqual(
    input.dataDisks.map((disk: Json) => disk.sizeBytes),
    [gib, 2 * gib],
  )
  assert.deepEqual(input.labels, [{ key: 'team', value: 'a=b' }])
  assert.match(await ok('machine', 'list'), /running {4}1 {2}512 MiB/)
  assert.match(await ok('machine', 'show', id), /^state {4}running$/m)
  assert.match(await ok('machine', 'stop', id, '--power', '--timeout', '5'), /is stopped/)
  assert.match(await ok('machine', 'wait', id, '--for', 'stopped'), /is stopped/)
  const stuck = await server.run('machine', 'wait', id)
  assert.deepEqual([stuck.exitCode, stuck.stderr], [1, `calotype: Machine ${id} is stopped, not running.\n`])
  assert.match(await ok('machine', 'start', id, '--wait'), /is running/)
  assert.match(await ok('machine', 'delete', id, '--wait'), /is gone/)
  assert.equal(await ok('machine', 'list'), 'No machines.\n')
})

test('the console: print, send, and a keyboard until Ctrl-]', async () => {
  const machine = fakeMachine()
  server.fake.machines.set(machine.id, machine)
  const id = spellId('machine', machine.id, 'native')
  assert.equal(await ok('machine', 'console', id), 'login: ')
  assert.equal(await ok('machine', 'console', id, '--from', '7', '--send', 'root'), 'root\n')
  assert.equal((await json('machine', 'console', id)).next, 12)
  const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => undefined })
  stdin.write('ls\r')
  stdin.write('\x1d')
  const { exitCode, stderr } = await server.runWith({ stdin }, 'machine', 'console', id, '--interactive')
  assert.deepEqual([exitCode, stderr], [0, '[Ctrl-] leaves]\r\n\r\n'])
  assert.equal(server.fake.console.toString(), 'login: root\nls\r')
  const piped = new PassThrough()
  piped.end('echo hi\n')
  assert.equal(
    (await server.runWith({ stdin: piped }, 'machine', 'console', id, '--interactive')).exitCode,
    0,
  )
  assert.match(server.fake.console.toString(), /echo hi\n$/)
})

test('a console whose start is no longer kept is printed from where it begins, and says so', async () => {
  const kept = { from: 100, text: 'newer' }
  const client: Client = {
    async call<Answer>(_method: string, _path: string, { query }: { query?: Query } = {}) {
      const from = Math.max(Number(query?.from), kept.from)
      const bytes = Buffer.from(kept.text.slice(from - kept.from, from - kept.from + 2))
      return { from, next: from + bytes.length, bytes: bytes.toString('base64') } as Answer
    },
  }
  const print = async (fromByte: number) => {
    const { io, text } = memoryIo()
    const options = { path: '/', query: { region: undefined, project: undefined }, fromByte }
    const next = await printConsole(io, client, options)
    return [next, text('stdout'), text('stderr')]
  }
  assert.deepEqual(await print(0), [105, 'newer', ''])
  assert.deepEqual(await print(40), [105, 'newer', '[60 bytes before this are no longer kept]\r\n'])
  assert.deepEqual(await print(103), [105, 'er', ''])
})

test('projects, users and policies', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'calotype-cli-'))
  try {
    const file = join(folder, 'policy.json')
    writeFileSync(file, '{"Version":"1","Statement":[]}')
    assert.match(await ok('project', 'list'), /^org-main {2}Default {2}yes/m)
    assert.equal(await ok('project', 'create', 'B'), 'org-second\n')
    assert.match(await ok('user', 'create', 'ann'), /access key secret {2}shown once/)
    assert.equal(await ok('policy', 'put', 'p', file), 'Policy p is stored.\n')
    assert.deepEqual(lastInput(), { name: 'p', document: { Version: '1', Statement: [] } })
    assert.equal(await ok('policy', 'attach', 'p', 'ann', '--project', 'org-b'), 'User ann has p in org-b.\n')
    const stdin = new PassThrough()
    stdin.end('{"Version":')
    const bad = await server.runWith({ stdin }, 'policy', 'put', 'p', '-')
    assert.equal(bad.exitCode, 2)
    assert.match(bad.stderr, /^calotype: - is not JSON/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('verify prints a table, and fails if anything is wrong', async () => {
  const well = await server.run('verify', '--region', 'hk', '--deep')
  assert.equal(well.exitCode, 0, well.stderr)
  assert.match(well.stdout, /^hk {6}ok /m)
  const { tasks } = server.fake
  const original = server.fake.app.tasks.verify
  server.fake.app.tasks.verify = async (...given) => {
    const made = await original(...given)
    const id = made.taskIds.at(-1)
    const task = id === undefined ? undefined : tasks.get(id)
    const output = { imageCount: 3, storedBytes: 4096, problems: ['I1: a pack is gone'], problemCount: 1 }
    if (id !== undefined && task !== undefined) tasks.set(id, { ...task, output })
    return made
  }
  const wrong = await server.run('verify')
  assert.equal(wrong.exitCode, 1)
  assert.match(wrong.stdout, /^cn-hangzhou {2}ok /m)
  assert.match(wrong.stdout, /^hk {11}wrong {7}3 .*4 KiB {9}1$/m)
  assert.match(wrong.stdout, /^hk: I1: a pack is gone$/m)
  const asJson = await server.run('verify', '--json')
  assert.deepEqual([asJson.exitCode, JSON.parse(asJson.stdout).isWell], [1, false])
})

test('a task that fails, is cancelled, or takes too long is exit code 1 with its reason', async () => {
  server.fake.taskFailure = 'The store is full. Make room.'
  const argv = ['image', 'create', '--machine', `vm-${'a'.repeat(17)}`]
  const failed = await server.run(...argv, '--wait')
  assert.equal(failed.exitCode, 1)
  assert.match(
    failed.stderr,
    /calotype: Task task-\w+ \(capture-image in cn-hangzhou\) failed: The store is full\. Make room\.\n$/,
  )
  const lost = await server.run('image', 'wait', (await json('image', 'list')).images[0].id)
  assert.deepEqual([lost.exitCode, /is failed: The store is full/.test(lost.stderr)], [1, true])
  const { taskId } = await json(...argv)
  assert.match(await ok('task', 'cancel', taskId), /told to stop/)
  const cancelled = await server.run('task', 'wait', taskId)
  assert.deepEqual([cancelled.exitCode, /was cancelled/.test(cancelled.stderr)], [1, true])
  const late = await server.run(...argv, '--timeout', '0')
  assert.deepEqual([late.exitCode, /Gave up waiting for task/.test(late.stderr)], [1, true])
})

test('a wait outlives its server', async () => {
  const { taskId } = await json('image', 'create', '--machine', `vm-${'a'.repeat(17)}`)
  server.fake.frozen = true
  const waited = server.run('task', 'wait', taskId)
  while (!server.fake.calls.some((call) => call.name === 'tasks.wait')) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { fake, port } = server
  await server.gateway.close()
  fake.frozen = false
  server = await startServer(fake, port)
  assert.equal((await waited).exitCode, 0)
})

test('exit codes: a fault 1, bad usage 2, no server 3, a stranger’s server 3', async () => {
  const absent = await server.run('image', 'show', 'img-none')
  assert.equal(absent.exitCode, 1)
  assert.match(
    absent.stderr,
    /^calotype: There is no image 'img-none'\. List them .* \(request [0-9A-F-]{36}\)\n$/,
  )
  server.fake.failNext('regions.list', new Fault('full', 'No room.\nMake some.'))
  assert.equal((await server.run('region', 'list')).exitCode, 1)
  const wrongKey = { environment: { CALOTYPE_ACCESS_KEY_SECRET: 'wrong' } }
  assert.equal((await server.runWith(wrongKey, 'region', 'list')).exitCode, 1)
  for (const argv of [
    ['image', 'lst'],
    ['imgae'],
    ['image', 'create'],
    ['image', 'list', '--colour'],
    ['image', 'list', '--kind', 'old'],
    ['image', 'list', 'extra'],
    ['machine', 'create', '--image', 'i', '--name', 'n', '--memory', 'much'],
    ['machine', 'console', 'vm-1', '--json', '--follow'],
    ['region', 'list', '--endpoint', 'nowhere'],
  ]) {
    const { exitCode, stderr, stdout } = await server.run(...argv)
    assert.equal(exitCode, 2, argv.join(' '))
    assert.equal(stdout, '')
    assert.notEqual(stderr, '')
  }
  assert.match((await server.run('image', 'lst')).stderr, /Did you mean list\?/)
  const nobody = await server.run('region', 'list', '--endpoint', 'http://127.0.0.1:1')
  assert.equal(nobody.exitCode, 3)
  assert.match(
    nobody.stderr,
    /^calotype: Cannot reach the server at http:\/\/127\.0\.0\.1:1 \(ECONNREFUSED\)\. Is it running\?/,
  )
})

test('lists are read page after page', async () => {
  for (let count = 0; count < 501; count++) {
    const image = fakeImage()
    server.fake.images.set(image.id, image)
  }
  assert.equal((await json('image', 'list')).images.length, 501)
  assert.equal((await json('image', 'list', '--limit', '3')).images.length, 3)
})

test('serve is handed its flags, and its faults are one line', async () => {
  const given: ServeFlags[] = []
  const { io, text } = memoryIo()
  const serve = async (flags: ServeFlags) => {
    given.push(flags)
    if (given.length === 2) throw new Fault('invalid', '--listen takes HOST:PORT.')
    if (given.length === 3) throw new Fault('unavailable', 'The port is taken.')
  }
  const offline = async () => assert.fail('serve asks for nothing of it')
  const argv = [
    'serve',
    '--data',
    '/d',
    '--listen',
    '[::1]:0',
    '--config',
    'c.yaml',
    '--host-driver',
    'files',
  ]
  assert.equal(await runCli(argv, { serve, offline, doctor: offline, peerIdentity: offline, io }), 0)
  assert.deepEqual(given, [{ data: '/d', listen: '[::1]:0', config: 'c.yaml', hostDriver: 'files' }])
  assert.equal(await runCli(['serve'], { serve, offline, doctor: offline, peerIdentity: offline, io }), 2)
  assert.equal(await runCli(['serve'], { serve, offline, doctor: offline, peerIdentity: offline, io }), 1)
  assert.equal(text('stderr'), 'calotype: --listen takes HOST:PORT.\ncalotype: The port is taken.\n')
})

test('help names every command, on standard output', async () => {
  const { exitCode, stdout } = await server.run('--help')
  assert.equal(exitCode, 0)
  for (const name of [
    'serve',
    'image',
    'machine',
    'task',
    'events',
    'webhook',
    'replication',
    'peer',
    'project',
    'user',
    'policy',
    'region',
    'store',
    'verify',
  ]) {
    assert.match(stdout, new RegExp(`^ {2}${name}\\b`, 'm'))
  }
  const none = await server.run()
  assert.equal(none.exitCode, 2)
})
