import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import type { CopyTargetPlan } from '../image/copy.ts'
import { newId, type RegionId, spellId } from '../image/ids.ts'
import { fakeImage } from '../wire/native/fixture-nouns.ts'
import { findDuration } from './duration.ts'
import { startServer, type TestServer } from './fixture.ts'
import { DONE, failed, running, scriptCopies } from './fixture-copies.ts'
import { cellWidth } from './format.ts'

let server: TestServer
let id: string
beforeEach(async () => {
  server = await startServer()
  const image = fakeImage()
  server.fake.images.set(image.id, image)
  id = spellId('image', image.id, 'native')
})
afterEach(() => server.gateway.close())

type Json = ReturnType<typeof JSON.parse>

const inputOf = (name: string): Json => server.fake.calls.findLast((call) => call.name === name)?.input
const MIB = 1024 ** 2
const PLAIN = { NO_COLOR: '1' }

test('times are read with the units people write, and never without', () => {
  const read = ['90s', '30m', '2h', '1h30m', '1.5h', ' 1d 2H ', '5min'].map(findDuration)
  assert.deepEqual(read, [90_000, 1_800_000, 7_200_000, 5_400_000, 5_400_000, 93_600_000, 300_000])
  for (const text of ['', '30', '0s', '-1s', 'm', '1x', '1h30', '1e3s', '1,5h', 's1'])
    assert.equal(findDuration(text), undefined, text)
})

test('what a copy is to be reaches the server', async () => {
  const argv = ['image', 'copy', id, '--region', 'cn-hangzhou', '--to', 'hk', '--to-project', 'org-b']
  const more = ['--name', 'c', '--rekey', '--priority', '9', '--within', '30m', '--limit', '20MB/s']
  const { exitCode, stdout, stderr } = await server.run(...argv, ...more)
  assert.equal(exitCode, 0, stderr)
  assert.match(stdout, /^Image img-\w+ in hk is being made\.\nFollow them: calotype task wait task-\w+\n$/)
  const { targetRegionIds, targetProjectId, name, rekey, priority, withinMs, bytesPerSecond } =
    inputOf('images.copy')
  assert.deepEqual([targetRegionIds, targetProjectId, name], [['hk'], 'org-b', 'c'])
  assert.deepEqual([rekey, priority, withinMs, bytesPerSecond], [true, 9, 1_800_000, 20_000_000])
  assert.equal((await server.run('image', 'copy', id, '--to', 'hk', '--no-rekey')).exitCode, 0)
  assert.equal(inputOf('images.copy').rekey, false)
  const fromPeer = ['image', 'copy', id, '--from-peer', 'branch', '--region', 'paris', '--to', 'hk']
  assert.equal((await server.run(...fromPeer)).exitCode, 0)
  const given = inputOf('images.copy')
  assert.deepEqual([given.peer, given.regionId, given.rekey], ['branch', 'paris', undefined])
})

test('a copy from a peer that goes to no named region says first which one it is', async () => {
  const argv = ['image', 'copy', id, '--from-peer', 'branch', '--region', 'paris']
  const lead = /^Without --to it is copied to the default region here, [\w-]+\.\n/
  const begun = await server.run(...argv)
  assert.match(begun.stdout, lead)
  assert.match(begun.stdout, /here, cn-hangzhou\.\nImage img-\w+ in cn-hangzhou is being made\.\n/)
  scriptCopies(server.fake, { 'cn-hangzhou': [DONE] })
  assert.match((await server.run(...argv, '--wait')).stdout, lead)
  assert.match((await server.run(...argv, '--dry-run')).stdout, lead)
  for (const more of [['--to', 'hk'], ['--json']]) {
    const { exitCode, stdout } = await server.run(...argv, ...more)
    assert.deepEqual([exitCode, stdout.includes('Without')], [0, false])
  }
})

test('what makes no sense is bad usage, and nothing is asked', async () => {
  for (const [argv, why] of [
    [['--within', '30'], /It takes a time such as 90s, 30m, 2h or 1h30m/],
    [['--within', '100ms'], /It takes a time/],
    [['--limit', 'fast'], /It takes so much a second/],
    [['--limit', '1KiB'], /64KiB a second at least/],
    [['--priority', '10'], /0 to 9/],
    [['--from-peer', 'branch'], /Name the region of the other installation with --region/],
  ] as const) {
    const { exitCode, stderr } = await server.run('image', 'copy', id, '--to', 'hk', ...argv)
    assert.equal(exitCode, 2, stderr)
    assert.match(stderr, why)
  }
  assert.equal(inputOf('images.copy'), undefined)
})

const target = (parts: Partial<CopyTargetPlan>): CopyTargetPlan => ({
  ...{ regionId: 'hk' as RegionId, way: 'pull', moveBytes: 64 * MIB, savedBytes: 2048 * MIB },
  ...{ chargedBytes: 3072 * MIB, freeBytes: null, estimateMs: null, blockers: [] },
  ...parts,
})

test('a dry run says what would be moved for each target, and fails where it would not go', async () => {
  const well = await server.run('image', 'copy', id, '--to', 'hk', '--dry-run')
  assert.equal(well.exitCode, 0, well.stderr)
  assert.equal(
    well.stdout,
    'REGION  WAY   TO MOVE  SAVED  CHARGED    FREE  ESTIMATE  BLOCKERS\n' +
      'hk      pull   64 MiB  2 GiB    3 GiB  50 GiB       3 s  none\n' +
      'In all: 64 MiB to move, for about 3 s.\nNothing was made: this was a dry run.\n',
  )
  const blocked = target({ moveBytes: null, savedBytes: null, blockers: ['The store is full. Make room.'] })
  server.fake.copies.planned = {
    ...{ targets: [target({}), { ...blocked, regionId: 'cn-hangzhou' as RegionId }] },
    ...{ moveBytes: 64 * MIB, estimateMs: null, isPossible: false },
  }
  const argv = ['image', 'copy', id, '--to', 'hk', 'cn-hangzhou', '--within', '1h', '--dry-run']
  const not = await server.run(...argv)
  assert.equal(not.exitCode, 1)
  assert.match(not.stdout, /^hk +pull +64 MiB +2 GiB +3 GiB +unknown +unknown +none$/m)
  assert.match(not.stdout, /^cn-hangzhou +pull +unknown .*The store is full\. Make room\.$/m)
  assert.match(not.stdout, /how long is not known, if it went\./)
  assert.match(
    not.stderr,
    /The copy could not be made as things are\. See what is in its way in cn-hangzhou\./,
  )
  assert.equal(inputOf('images.planCopy').withinMs, 3_600_000)
  const asJson = await server.run(...argv, '--json')
  assert.deepEqual([asJson.exitCode, JSON.parse(asJson.stdout).isPossible], [1, false])
  assert.equal(inputOf('images.copy'), undefined)
})

const PULLING = running('pull', {
  ...{ doneBytes: 2 * MIB, totalBytes: 4 * MIB, movedBytes: MIB, savedBytes: 512 * MIB },
  ...{ bytesPerSecond: 10 * MIB, etaMs: 3000 },
})
const MOVED = {
  ...DONE,
  doneBytes: 4 * MIB,
  movedBytes: 3 * MIB,
  bytesPerSecond: undefined,
  etaMs: undefined,
}
const TRYING = running('wait', { attemptCount: 1, lastReason: 'The store does not answer.' })

test('waiting says how each goes on, and what became of it', async () => {
  scriptCopies(server.fake, { hk: [PULLING, MOVED], 'cn-hangzhou': [TRYING, PULLING, DONE] })
  const argv = ['image', 'copy', id, '--to', 'hk', 'cn-hangzhou', '--wait']
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 0, stderr)
  const lines = stderr.split('\n')
  assert.match(lines[0] ?? '', /^2 copies are being made by task-\w+\.$/)
  assert.ok(lines.includes('hk: queued  0 %  0 B of 4 KiB'))
  assert.ok(lines.includes('hk: pull  50 %  2 MiB of 4 MiB  10 MiB/s  3 s left  512 MiB saved'))
  assert.ok(lines.includes('cn-hangzhou: tries again  0 %  0 B of 4 KiB  The store does not answer.'))
  assert.ok(
    lines.some((line) => /^hk: done in 8 s {2}4 MiB of 4 MiB {2}512 MiB saved$/.test(line)),
    stderr,
  )
  assert.match(stdout, /^Image img-\w+ in hk is available; 3 MiB moved, 512 MiB saved\.\n/)
  assert.match(stdout, /\nImage img-\w+ in cn-hangzhou is available; 1 MiB moved, 512 MiB saved\.\n$/)
})

test('of one that is done in the end it is not said what went wrong before', async () => {
  const { lastReason } = TRYING
  scriptCopies(server.fake, {
    hk: [TRYING, { ...PULLING, lastReason }, { ...MOVED, attemptCount: 2, lastReason }],
  })
  const { exitCode, stderr } = await server.run('image', 'copy', id, '--to', 'hk', '--wait')
  assert.equal(exitCode, 0, stderr)
  assert.match(stderr, /^hk: tries again .* The store does not answer\.$/m)
  assert.match(stderr, /^hk: done in 8 s {2}4 MiB of 4 MiB {2}512 MiB saved {2}try 2$/m)
})

test('of several one may fail: it is said which and why, and what to do', async () => {
  scriptCopies(server.fake, { hk: [failed('The store is\naway.')], 'cn-hangzhou': [PULLING, MOVED] })
  const argv = ['image', 'copy', id, '--to', 'hk', 'cn-hangzhou', '--wait']
  const { exitCode, stdout, stderr } = await server.run(...argv)
  assert.equal(exitCode, 1)
  assert.match(stdout, /^Image img-\w+ in hk is not made: The store is\?away\.\n/)
  assert.match(stdout, /\nImage img-\w+ in cn-hangzhou is available; /)
  assert.match(
    stderr,
    /\ncalotype: 1 of 2 copies failed \(hk\)\. The store is away\. Begin anew what failed: calotype task retry task-\w+ --wait\n$/,
  )
  const asJson = await server.run(...argv, '--json')
  const { batch, tasks, copies } = JSON.parse(asJson.stdout)
  assert.deepEqual([asJson.exitCode, batch.state, copies.length], [1, 'failed', 2])
  assert.deepEqual(
    tasks.map(({ region, state }: Json) => [region, state]),
    [
      ['hk', 'failed'],
      ['cn-hangzhou', 'done'],
    ],
  )
})

test('on a terminal it is a table that redraws and never outgrows it', async () => {
  scriptCopies(server.fake, { hk: [PULLING, TRYING, failed('Gone.')], 'cn-hangzhou': [MOVED] })
  const argv = ['image', 'copy', id, '--to', 'hk', 'cn-hangzhou', '--wait']
  const { stderr } = await server.runWith({ isTerminal: true, columns: 160 }, ...argv)
  const drawn = stderr.replaceAll('\x1b', 'ESC')
  assert.match(drawn, /REGION +STATE +DONE +BYTES +RATE +LEFT +SAVED +TRIES +LAST ERROR\n/)
  assert.match(drawn, /\nhk +pull +\[█{12}░{12}\] {2}50 % +2 MiB of 4 MiB +10 MiB\/s +3 s +512 MiB +1\n/)
  assert.match(drawn, /ESC\[3AESC\[JREGION/)
  assert.match(drawn, /\nhk +tries again .* The store does not answer\.\n/)
  assert.match(drawn, /\nhk +failed .* Gone\.\ncn-hangzhou +done +\[█{24}\] 100 % /)

  server.fake.tasks.clear()
  scriptCopies(server.fake, { hk: [PULLING, DONE], 'cn-hangzhou': [{}, DONE] })
  const low = await server.runWith({ isTerminal: true, rows: 5, columns: 40 }, ...argv)
  assert.match(low.stderr, /\nhk +pull.*\nand 1 more: 1 queued\n/)
  const cells = low.stderr.replaceAll('\x1b', '').replaceAll(/\[\d*[AJ]/g, '')
  for (const line of cells.split('\n').slice(1)) assert.ok(line.length < 40, line)
})

test('the time that counts is that in which nothing goes on', async () => {
  // Each look takes a quarter of a second here: all of it is far longer than the time given.
  const steps = Array.from({ length: 20 }, (_, i) => running('pull', { doneBytes: i + 1 }))
  scriptCopies(server.fake, { hk: [...steps, DONE] })
  const argv = ['image', 'copy', id, '--to', 'hk', '--timeout', '1']
  const moving = await server.run(...argv)
  assert.equal(moving.exitCode, 0, moving.stderr)
  scriptCopies(server.fake, { hk: [running('pull')] })
  const still = await server.run(...argv)
  assert.equal(still.exitCode, 1)
  assert.match(still.stderr, /Gave up waiting: for 1 s nothing went on\. .* calotype task show task-\w+\n$/)
})

test('a wait for copies outlives its server, and says that it is away', async () => {
  const begun = Promise.withResolvers<void>()
  const missed = Promise.withResolvers<void>()
  scriptCopies(server.fake, { hk: [PULLING, DONE] }, (count) => {
    if (count > 1) return
    // Nobody is answered any more: the server goes.
    begun.resolve()
    return new Promise<void>(() => {})
  })
  const onError = (text: string) => {
    if (text.endsWith('Trying again.\n')) missed.resolve()
  }
  const waited = server.runWith({ onError }, 'image', 'copy', id, '--to', 'hk', '--wait')
  await begun.promise
  const { fake, port } = server
  await server.gateway.close()
  await missed.promise
  server = await startServer(fake, port)
  const { exitCode, stdout, stderr } = await waited
  assert.equal(exitCode, 0, stderr)
  assert.match(stdout, /in hk is available/)
  // However often it was tried, it is said once.
  assert.equal(stderr.split('Cannot reach the server').length, 2, stderr)
})

test('a task is held, let go on, put elsewhere in the line, and begun anew', async () => {
  const { fake } = server
  const json = async (...argv: string[]): Promise<Json> =>
    JSON.parse((await server.run(...argv, '--json')).stdout)
  const { taskId } = await json('image', 'copy', id, '--to', 'hk', 'cn-hangzhou')
  const said = async (...argv: string[]) => {
    const { exitCode, stdout, stderr } = await server.run('task', ...argv)
    assert.equal(exitCode, 0, stderr)
    return stdout
  }
  assert.equal(await said('pause', taskId), `Task ${taskId} is paused.\n`)
  scriptCopies(fake, {
    hk: [{ ...PULLING, deadlineAtMs: Date.UTC(2026, 0, 1), priority: 8 }, failed('Away.'), DONE],
    'cn-hangzhou': [MOVED],
  })
  assert.match(
    await said('show', taskId),
    /\nTASK +REGION +STATE .*\ntask-\w+ +cn-hangzhou +paused .*\ntask-\w+ +hk +paused /,
  )
  const { children } = await json('task', 'show', taskId)
  for (const { id: child } of children) assert.equal(await said('resume', child), `Task ${child} goes on.\n`)
  assert.equal(await said('set', taskId, '--priority', '8'), `Task ${taskId} has priority 8.\n`)
  assert.deepEqual(inputOf('tasks.change').priority, 8)
  assert.equal((await server.run('task', 'set', taskId)).exitCode, 2)
  const again = await server.run('task', 'resume', children[0].id)
  assert.deepEqual([again.exitCode, /not paused/.test(again.stderr)], [1, true])

  const lost = await server.run('task', 'wait', taskId)
  assert.equal(lost.exitCode, 1)
  const shown = await json('task', 'show', taskId)
  assert.deepEqual(
    shown.children.map(({ region, state }: Json) => [region, state]),
    [
      ['cn-hangzhou', 'done'],
      ['hk', 'failed'],
    ],
  )
  scriptCopies(fake, { hk: [PULLING, DONE] })
  const retried = await server.run('task', 'retry', taskId, '--wait')
  assert.equal(retried.exitCode, 0, retried.stderr)
  assert.match(retried.stdout, /^Image img-\w+ in hk is available; 1 MiB moved, 512 MiB saved\.\n$/)
})

test('one copy by itself is begun anew without a batch', async () => {
  const taskId = newId('task')
  const { taskId: batchId } = JSON.parse(
    (await server.run('image', 'copy', id, '--to', 'hk', '--json')).stdout,
  )
  const some = [...server.fake.tasks.values()].find(({ kind }) => kind === 'copy-image')
  assert.ok(some !== undefined && batchId !== undefined)
  server.fake.tasks.set(taskId, { ...some, ...failed('Away.'), id: taskId, parentId: undefined })
  scriptCopies(server.fake, { hk: [PULLING, failed('Away again.')] })
  const { exitCode, stdout, stderr } = await server.run('task', 'retry', `task-${taskId}`, '--wait', '--json')
  assert.equal(exitCode, 1)
  assert.deepEqual([JSON.parse(stdout).batch, JSON.parse(stdout).tasks.length], [null, 1])
  assert.match(
    stderr,
    /The copy failed \(hk\)\. Away again\. Begin anew what failed: calotype task retry task-/,
  )
})

test('a task shows its rate, what is left and saved, its deadline and its last error', async () => {
  await server.run('image', 'copy', id, '--to', 'hk')
  const some = [...server.fake.tasks.values()].find(({ kind }) => kind === 'copy-image')
  assert.ok(some !== undefined)
  const more = { lastReason: 'The store does not answer.', attemptCount: 3, priority: 7 }
  server.fake.tasks.set(some.id, { ...some, ...PULLING, ...more, deadlineAtMs: 90_000 })
  const spelt = spellId('task', some.id, 'native')
  // The clock of these commands stands at 1970.
  const { stdout } = await server.run('task', 'show', spelt)
  for (const line of [
    /^saved +512 MiB$/m,
    /^rate +10 MiB\/s$/m,
    /^left +3 s$/m,
    /^priority +7$/m,
    /^deadline +1970-01-01 00:01:30, in 1 min 30 s$/m,
    /^attempts +3$/m,
    /^last error +The store does not answer\.$/m,
  ])
    assert.match(stdout, line)
  for (const [end, word] of [
    [failed('Away.'), 'missed'],
    [{ ...DONE, endedAtMs: 90_000 }, 'met'],
    [{ ...DONE, endedAtMs: 90_001 }, 'missed'],
  ] as const) {
    const ended = spellId('task', newId('task'), 'native')
    const taskId = ended.slice('task-'.length) as typeof some.id
    server.fake.tasks.set(taskId, { ...some, ...end, id: taskId, deadlineAtMs: 90_000 })
    assert.match(
      (await server.run('task', 'show', ended)).stdout,
      new RegExp(`^deadline .* 00:01:30, ${word}$`, 'm'),
    )
  }
  const listed = await server.run('task', 'list')
  assert.match(listed.stdout, /^TASK .* RATE +LEFT +SAVED +TRIES +ABOUT +CREATED \(UTC\) +REASON$/m)
  assert.match(listed.stdout, /10 MiB\/s +3 s +512 MiB +3 +img-.* The store does not answer\.$/m)
  // On a terminal it fits: ids stay whole, what says least of a task goes first.
  const { tasks } = server.fake
  const long = newId('task')
  const reason = `镜像 ${'a reason that is longer than any line '.repeat(4)}`
  const ended = { endedAtMs: 1, state: { at: 'failed', kind: 'corrupt', reason } } as const
  tasks.set(long, { ...some, ...ended, id: long, kind: 'collect-garbage' })
  for (const columns of [80, 100, 140]) {
    const { stdout } = await server.runWith({ isTerminal: true, columns, environment: PLAIN }, 'task', 'list')
    const [head = '', ...lines] = stdout.trimEnd().split('\n')
    for (const line of [head, ...lines]) assert.ok(cellWidth(line) <= columns, `${columns}: ${line}`)
    assert.match(head, /^TASK +KIND +REGION +STATE/)
    for (const one of tasks.keys()) assert.ok(stdout.includes(`${spellId('task', one, 'native')} `))
    if (columns === 140) assert.match(stdout, /collect-garbage.* 镜像 a reason .*…$/m)
  }
  const narrow = await server.runWith({ isTerminal: true, columns: 10, environment: PLAIN }, 'task', 'list')
  assert.match(narrow.stdout, /^TASK +KIND +STATE$/m)
})

test('tasks are listed by their states', async () => {
  assert.equal((await server.run('image', 'copy', id, '--to', 'hk')).exitCode, 0)
  const statesOf = async (...argv: string[]) => {
    const { exitCode, stdout } = await server.run('task', 'list', '--json', ...argv)
    assert.equal(exitCode, 0)
    return JSON.parse(stdout).tasks.map(({ state }: Json) => state)
  }
  const [first] = server.fake.tasks.values()
  assert.ok(first !== undefined)
  server.fake.tasks.clear()
  for (const at of ['queued', 'running', 'paused', 'done', 'cancelled'] as const) {
    const taskId = newId('task')
    const state = at === 'running' ? { at, step: 'pull' } : { at }
    server.fake.tasks.set(taskId, { ...first, id: taskId, state })
  }
  assert.deepEqual(await statesOf('--state', 'paused,done'), ['paused', 'done'])
  assert.deepEqual(await statesOf('--state', 'paused', '--state', 'running, paused'), ['running', 'paused'])
  assert.equal((await statesOf()).length, 5)
  const bad = await server.run('task', 'list', '--state', 'paused,asleep')
  assert.deepEqual([bad.exitCode, /one of queued, running, paused/.test(bad.stderr)], [2, true])
})
