import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { newId } from '../../image/ids.ts'
import { never, until } from '../suite.ts'
import { Agents } from './agents.ts'
import { FakeAgent, killGuards, untilUnguarded } from './fake-agent.ts'
import type { GuestPaths } from './paths.ts'

const ID = newId('machine')
const SYNC = 'guest-sync-delimited'
const MARK = 'mark'

async function around(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-agents-'))
  const agent = await FakeAgent.start(join(folder, 'a'))
  t.after(async () => {
    try {
      await untilUnguarded(agent)
      assert.equal(agent.isFrozen, false)
    } finally {
      await agent.close()
      await rm(folder, { recursive: true })
    }
  })
  const guests = {
    paths: () => ({ agent: agent.path, freezeMark: join(folder, MARK) }) as GuestPaths,
    talk: async (_id: unknown, work: (qmp: never) => Promise<unknown>) => await work(agent.qmp as never),
  } as ConstructorParameters<typeof Agents>[0]
  const agents = new Agents(guests, { releaseMs: 500 })
  const freeze = (signal = never()) =>
    agents.freeze(ID, { wanted: 'best', isTrimming: true, signal, cutOff: never() })
  const isMarked = async () => (await readdir(folder)).includes(MARK)
  return { agent, agents, freeze, isMarked }
}

test('a guest is marked for as long as it may be frozen', async (t) => {
  const { agent, freeze, isMarked } = await around(t)
  const marks: boolean[] = []
  agent.scripts.set('guest-fsfreeze-freeze', async (own) => {
    marks.push(await isMarked())
    return own()
  })
  const frozen = await freeze()
  assert.ok(agent.isFrozen && (await isMarked()))
  assert.equal((await frozen.thaw()).isThawed, true)
  assert.deepEqual([marks, await isMarked()], [[true], false])
  agent.fileSystemCount = 0
  await (await freeze()).thaw()
  assert.equal(await isMarked(), false)
})

test('a guest that nobody could thaw stays marked until somebody can', async (t) => {
  const { agent, agents, freeze, isMarked } = await around(t)
  const frozen = await freeze()
  agent.scripts.set(SYNC, async () => 'silence')
  await killGuards(agent)
  assert.equal((await frozen.thaw()).isThawed, false)
  assert.ok(await isMarked())
  agent.isOpen = false
  await agents.thawIfMarked(ID, never())
  await agents.thawIfMarked(ID, AbortSignal.abort())
  assert.ok((await isMarked()) && agent.isFrozen)
  // A next capture, which does not get as far as to freeze, does not know better.
  assert.equal(await (await freeze()).thaw().then((thaw) => thaw.heldAll), false)
  assert.ok((await isMarked()) && agent.isFrozen)
  agent.isOpen = true
  agent.scripts.clear()
  await agents.thawIfMarked(ID, never())
  assert.deepEqual([await isMarked(), agent.isFrozen], [false, false])
  const { length } = agent.heard
  await agents.thawIfMarked(ID, never())
  assert.equal(agent.heard.length, length)
})

test('the outlook of a guest that is being captured says so, at once and without asking', async (t) => {
  const { agent, agents, freeze } = await around(t)
  const gate = Promise.withResolvers<void>()
  agent.scripts.set('guest-fstrim', async (own) => {
    await gate.promise
    return own()
  })
  const freezing = freeze()
  await until('the trim', async () => agent.calls.includes('guest-fstrim'))
  const outlook = await agents.outlook(ID, never())
  assert.equal(outlook.consistency, 'crash')
  assert.match(outlook.why, /being captured now/)
  gate.resolve()
  const frozen = await freezing
  assert.match((await agents.outlook(ID, never())).why, /being captured now/)
  assert.equal((await frozen.thaw()).heldAll, true)
  assert.deepEqual(await agents.outlook(ID, never()), {
    consistency: 'filesystem',
    why: '',
    os: { type: 'Linux', name: 'Debian 12' },
  })
})

test('a capture waits for an outlook that was asked for before, unless it is aborted', async (t) => {
  const { agent, agents, freeze } = await around(t)
  const gate = Promise.withResolvers<void>()
  agent.scripts.set('guest-info', async (own) => {
    await gate.promise
    return own()
  })
  const outlooks = [agents.outlook(ID, never()), agents.outlook(ID, never())]
  await until('the question', async () => agent.calls.includes('guest-info'))
  const stop = new AbortController()
  const stopped = assert.rejects(freeze(stop.signal), /enough/)
  stop.abort(new Error('enough'))
  await stopped
  const freezing = freeze()
  gate.resolve()
  const answers = await Promise.all(outlooks)
  assert.ok(answers.every((one) => one.consistency === 'filesystem'))
  assert.equal(agent.calls.filter((call) => call === 'guest-info').length, 1)
  const frozen = await freezing
  assert.equal(frozen.isFrozen, true)
  assert.equal((await frozen.thaw()).heldAll, true)
})
