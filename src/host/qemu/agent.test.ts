import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { until } from '../suite.ts'
import { type FreezeOptions, freezeGuest, outlookOf, thawIfFrozen } from './agent.ts'
import {
  type AgentAnswer,
  FakeAgent,
  guardPids,
  killGuards,
  type Script,
  untilUnguarded,
} from './fake-agent.ts'

const FREEZE = 'guest-fsfreeze-freeze'
const STATUS = 'guest-fsfreeze-status'
const THAW = 'guest-fsfreeze-thaw'

/** An agent in a folder of its own; when the test has ended, nothing is frozen and no guard lives. */
async function around(t: TestContext): Promise<FakeAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-agent-'))
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
  return agent
}

function optionsOf(agent: FakeAgent, more: Partial<FreezeOptions> = {}): FreezeOptions {
  const signal = new AbortController().signal
  const usual = { signal, cutOff: signal, wanted: 'best', isTrimming: true } as const
  return { qmp: agent.qmp, agentPath: agent.path, ...usual, ...more }
}

test('a guest is trimmed, frozen and thawed, and says what it is', async (t) => {
  const agent = await around(t)
  const freeze = await freezeGuest(optionsOf(agent))
  assert.equal(freeze.isFrozen && agent.isFrozen, true)
  assert.deepEqual([freeze.consistency, freeze.why], ['filesystem', ''])
  assert.deepEqual(freeze.os, { type: 'Linux', name: 'Debian 12' })
  const asked = ['guest-info', 'guest-get-osinfo', 'guest-fstrim', FREEZE]
  assert.deepEqual(agent.calls, [STATUS, ...asked])
  const thawed = await freeze.thaw()
  assert.deepEqual([thawed.heldAll, thawed.why], [true, ''])
  assert.ok(thawed.frozenMs >= 0)
  assert.equal(agent.isFrozen, false)
  assert.deepEqual(await freeze.thaw(), thawed)
  assert.deepEqual(await guardPids(agent), [])
})

test('Windows has its programs put their data in order, and nobody else can be asked to', async (t) => {
  const agent = await around(t)
  const none = await freezeGuest(optionsOf(agent, { wanted: 'application' }))
  assert.equal(none.isFrozen, false)
  assert.match(none.why, /only under Windows/)
  assert.ok(!agent.calls.includes(FREEZE))
  agent.os = { id: 'mswindows', name: 'Microsoft Windows', 'pretty-name': 'Windows 11' }
  const freeze = await freezeGuest(optionsOf(agent, { wanted: 'application' }))
  assert.equal(freeze.consistency, 'application')
  assert.deepEqual(freeze.os, { type: 'Windows', name: 'Windows 11' })
  assert.equal((await freeze.thaw()).heldAll, true)
})

test('a guest that need not, or cannot, answer is not waited for', async (t) => {
  const agent = await around(t)
  for (const [change, wanted, why] of [
    [{}, 'crash', /Nothing more was asked for/],
    [{ isRunning: false }, 'best', /stands still/],
    [{ isRunning: true, isOpen: false }, 'filesystem', /qemu-guest-agent/],
  ] as const) {
    Object.assign(agent, change)
    const freeze = await freezeGuest(optionsOf(agent, { wanted }))
    assert.deepEqual([freeze.isFrozen, freeze.consistency], [false, 'crash'])
    assert.match(freeze.why, why)
    assert.deepEqual(await freeze.thaw(), { heldAll: false, frozenMs: 0, why: freeze.why, isThawed: true })
  }
  assert.deepEqual(agent.calls, [])
})

test('what an earlier client left unread, and noise, are no answers', async (t) => {
  const agent = await around(t)
  const noise = Buffer.from([0x00, 0xc3, 0x28, 0x0a, 0x7b, 0x22, 0x0a])
  const earlier = Buffer.from('{"return": "frozen"}\n\xff{"return": 12345}\n{"return": {}}\n', 'latin1')
  agent.stale = Buffer.concat([noise, earlier, noise])
  const freeze = await freezeGuest(optionsOf(agent))
  assert.equal(freeze.isFrozen, true)
  assert.equal((await freeze.thaw()).heldAll, true)
})

test('an agent that is silent, floods or talks nonsense costs its consistency alone', async (t) => {
  const agent = await around(t)
  const times = { syncMs: 100 }
  agent.scripts.set('guest-sync-delimited', async () => 'silence')
  assert.match((await freezeGuest(optionsOf(agent, { times }))).why, /does not answer as it should/)
  const flood = Buffer.alloc(5 * 1024 * 1024, 'x')
  agent.scripts.set('guest-sync-delimited', async () => flood)
  assert.match((await freezeGuest(optionsOf(agent))).why, /does not answer as it should/)
  agent.scripts.clear()
  for (const nonsense of [null, 7, { supported_commands: 'all' }, { supported_commands: [null, 3] }]) {
    agent.scripts.set('guest-info', async () => ({ return: nonsense }))
    const { isFrozen, why } = await freezeGuest(optionsOf(agent))
    assert.deepEqual([isFrozen, why !== ''], [false, true])
  }
  agent.scripts.clear()
  agent.os = { id: 7, name: ['x'] }
  const freeze = await freezeGuest(optionsOf(agent))
  assert.deepEqual([freeze.isFrozen, freeze.os], [true, undefined])
  await freeze.thaw()
})

test('a guest that refuses is told of in its own words, made harmless', async (t) => {
  const agent = await around(t)
  const words = `failed to freeze /\u001b[31m:\n ${'no '.repeat(200)}`
  agent.scripts.set(FREEZE, async () => ({ error: { desc: words } }))
  const refused = await freezeGuest(optionsOf(agent))
  assert.match(refused.why, /^The guest agent refused: failed to freeze \/ \[31m: no no/)
  assert.ok(refused.why.length < 250)
  assert.equal(refused.os?.name, 'Debian 12')
  agent.scripts.clear()
  agent.fileSystemCount = 0
  assert.match((await freezeGuest(optionsOf(agent))).why, /no file system/)
  for (const command of [FREEZE, STATUS, THAW]) {
    agent.disabled.clear()
    agent.disabled.add(command)
    const { isFrozen, why } = await freezeGuest(optionsOf(agent))
    assert.equal(isFrozen, false)
    assert.match(why, new RegExp(`'${command}' switched off`))
  }
  agent.disabled.clear()
})

test('a trim that fails, takes long, or is not offered does not keep a guest from being frozen', async (t) => {
  const agent = await around(t)
  const trims: Script[] = [
    async () => ({ error: { desc: 'no' } }),
    async (own) => {
      await untilSynced(agent, 'guest-fstrim')
      return own()
    },
  ]
  for (const trim of trims) {
    agent.scripts.set('guest-fstrim', trim)
    const freeze = await freezeGuest(optionsOf(agent, { times: { trimMs: 1_000 } }))
    assert.equal((await freeze.thaw()).heldAll, true)
  }
  agent.disabled.add('guest-fstrim')
  const freeze = await freezeGuest(optionsOf(agent))
  assert.equal((await freeze.thaw()).heldAll, true)
  agent.disabled.clear()
  agent.calls.length = 0
  const untrimmed = await freezeGuest(optionsOf(agent, { isTrimming: false }))
  assert.equal((await untrimmed.thaw()).heldAll, true)
  assert.ok(!agent.calls.includes('guest-fstrim'))
})

test('a freeze that comes too late is undone when it has come', async (t) => {
  const agent = await around(t)
  agent.scripts.set(FREEZE, async (own) => {
    await untilSynced(agent, FREEZE)
    return own()
  })
  const freeze = await freezeGuest(optionsOf(agent, { times: { freezeMs: 50 } }))
  assert.equal(freeze.isFrozen, false)
  assert.match(freeze.why, /did not freeze the file systems in time/)
  await untilUnguarded(agent)
  assert.ok(agent.calls.includes(THAW))
})

test('file systems that did not stand frozen to the end are not said to have', async (t) => {
  const agent = await around(t)
  const thaws = (answer: AgentAnswer) => () =>
    agent.scripts.set(THAW, async (own) => {
      own()
      return answer
    })
  const failsOnce = (command: string, how: 'silence' | 'cut') => () =>
    agent.scripts.set(command, async () => {
      agent.scripts.clear()
      return how
    })
  const endings: (() => void)[] = [
    () => {
      agent.isFrozen = false
    },
    thaws({ return: 1 }),
    thaws({ error: { desc: "couldn't hold writes" } }),
    failsOnce(STATUS, 'cut'),
    failsOnce(STATUS, 'silence'),
    failsOnce(THAW, 'cut'),
    failsOnce(THAW, 'silence'),
  ]
  for (const ending of endings) {
    agent.scripts.clear()
    const freeze = await freezeGuest(optionsOf(agent, { times: { answerMs: 500 } }))
    assert.equal(freeze.isFrozen, true)
    ending()
    const thawed = await freeze.thaw()
    assert.equal(thawed.heldAll, false)
    assert.notEqual(thawed.why, '')
    assert.equal(agent.isFrozen, false)
  }
})

test('a freeze that nobody ends is ended by the guard', async (t) => {
  const agent = await around(t)
  const freeze = await freezeGuest(optionsOf(agent, { times: { holdMs: 100 } }))
  assert.equal(freeze.isFrozen, true)
  await untilUnguarded(agent)
  assert.equal(agent.isFrozen, false)
  const thawed = await freeze.thaw()
  assert.equal(thawed.heldAll, false)
  assert.match(thawed.why, /not over after 100 ms/)
})

test('the guest is thawed though the service, with its whole session, was killed', async (t) => {
  const agent = await around(t)
  const code = `
    const { freezeGuest } = await import(${JSON.stringify(import.meta.resolve('./agent.ts'))})
    const answers = { 'query-status': { running: true }, 'query-chardev': [{ label: 'agent', 'frontend-open': true }] }
    const qmp = { execute: async (command) => answers[command] }
    const signal = new AbortController().signal
    const times = { holdMs: 600_000 }
    const agentPath = ${JSON.stringify(agent.path)}
    const freeze = await freezeGuest({ qmp, agentPath, signal, cutOff: signal, wanted: 'best', isTrimming: true, times })
    console.log(freeze.isFrozen)
    setInterval(() => {}, 1000)`
  const service = spawn(process.execPath, ['--input-type=module', '-e', code], { detached: true })
  const [said] = await once(service.stdout, 'data')
  assert.equal(String(said), 'true\n')
  assert.equal(agent.isFrozen, true)
  assert.ok(service.pid)
  process.kill(-service.pid, 'SIGKILL')
  await until('the guest to be thawed', async () => !agent.isFrozen)
})

test('the guest is thawed though the guard was killed', async (t) => {
  const agent = await around(t)
  const freeze = await freezeGuest(optionsOf(agent))
  for (const pid of await guardPids(agent)) process.kill(pid, 'SIGKILL')
  const thawed = await freeze.thaw()
  assert.deepEqual([thawed.heldAll, thawed.isThawed, agent.isFrozen], [false, true, false])
  const other = await freezeGuest(optionsOf(agent))
  for (const pid of await guardPids(agent)) process.kill(pid, 'SIGTERM')
  await until('the guard to thaw', async () => !agent.isFrozen)
  assert.equal((await other.thaw()).heldAll, false)
})

test('the guest is thawed though the guard was killed before it could say that it freezes', async (t) => {
  const agent = await around(t)
  agent.scripts.set(FREEZE, async (own) => {
    await killGuards(agent)
    agent.scripts.clear()
    return own()
  })
  const freeze = await freezeGuest(optionsOf(agent))
  assert.equal(freeze.isFrozen, false)
  const thawed = await freeze.thaw()
  assert.deepEqual([thawed.heldAll, thawed.isThawed, agent.isFrozen], [false, true, false])
})

test('a guard goes on for as long as nobody confirms the thaw', async (t) => {
  const agent = await around(t)
  const times = { answerMs: 100, hurryMs: 0, releaseMs: 100 }
  const freeze = await freezeGuest(optionsOf(agent, { times }))
  for (const command of ['guest-sync-delimited', STATUS, THAW])
    agent.scripts.set(command, async () => 'silence')
  const thawed = await freeze.thaw()
  assert.deepEqual([thawed.heldAll, thawed.isThawed, agent.isFrozen], [false, false, true])
  const { length } = agent.heard
  await until('the guard to try again', async () => agent.heard.length > length)
  agent.scripts.clear()
  await until('the guest to be thawed', async () => !agent.isFrozen)
})

test('what nobody could thaw is said, however the guard ended', async (t) => {
  const agent = await around(t)
  for (const command of ['guest-sync-delimited', FREEZE]) {
    agent.scripts.set(command, async () => {
      await killGuards(agent)
      agent.scripts.set('guest-sync-delimited', async () => 'silence')
      return 'silence'
    })
    const freeze = await freezeGuest(optionsOf(agent, { times: { releaseMs: 300 } }))
    assert.deepEqual([freeze.isFrozen, (await freeze.thaw()).isThawed], [false, false])
    agent.scripts.clear()
  }
})

test('nobody waits for a guest that is about to be cut off', async (t) => {
  const agent = await around(t)
  for (const command of ['guest-sync-delimited', 'guest-fstrim', FREEZE, 'none']) {
    const cutOff = new AbortController()
    const gate = Promise.withResolvers<void>()
    const wait: Script = async (own) => {
      cutOff.abort(new Error('off'))
      await gate.promise
      return own()
    }
    agent.scripts.set(command, wait)
    const signal = cutOff.signal
    const freezing = freezeGuest(optionsOf(agent, { signal, cutOff: signal }))
    if (command === 'none') {
      agent.scripts.set(THAW, wait)
      const freeze = await freezing
      cutOff.abort()
      assert.equal((await freeze.thaw()).isThawed, false)
    } else await assert.rejects(freezing, /off/)
    agent.scripts.clear()
    gate.resolve()
    await untilUnguarded(agent)
  }
})

test('a guard whose guest has ended ends too', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-agent-'))
  t.after(() => rm(folder, { recursive: true }))
  const agent = await FakeAgent.start(join(folder, 'a'))
  const freeze = await freezeGuest(optionsOf(agent))
  await agent.close()
  assert.equal((await freeze.thaw()).heldAll, false)
  await untilUnguarded(agent)
})

test('an aborted freeze leaves nothing frozen, whenever it comes', async (t) => {
  const agent = await around(t)
  for (const command of ['guest-sync-delimited', 'guest-fstrim', FREEZE]) {
    const stop = new AbortController()
    const gate = Promise.withResolvers<void>()
    agent.scripts.set(command, async (own) => {
      agent.scripts.clear()
      stop.abort(new Error('enough'))
      await gate.promise
      return own()
    })
    const freezing = freezeGuest(optionsOf(agent, { signal: stop.signal }))
    freezing.catch(() => {})
    await until('the abort', async () => stop.signal.aborted)
    gate.resolve()
    await assert.rejects(freezing, /enough/)
    assert.equal(agent.isFrozen, false)
  }
})

test('what an earlier crash left frozen is thawed: before a freeze, and when asked for', async (t) => {
  const agent = await around(t)
  agent.isFrozen = true
  const freeze = await freezeGuest(optionsOf(agent))
  assert.deepEqual(await freeze.thaw().then(({ heldAll, isThawed }) => [heldAll, isThawed]), [true, true])
  assert.equal(await thawIfFrozen(optionsOf(agent)), 'was-thawed')
  agent.isFrozen = true
  assert.equal(await thawIfFrozen(optionsOf(agent)), 'thawed')
  // The guard of a service that died may hold the channel still.
  const held = await freezeGuest(optionsOf(agent, { times: { holdMs: 200 } }))
  assert.equal(held.isFrozen, true)
  assert.equal(await thawIfFrozen(optionsOf(agent)), 'was-thawed')
  agent.isOpen = false
  assert.equal(await thawIfFrozen(optionsOf(agent)), 'unknown')
  await held.thaw()
})

test('the outlook says what a freeze would give, and freezes nothing', async (t) => {
  const agent = await around(t)
  const os = { type: 'Linux', name: 'Debian 12' }
  assert.deepEqual(await outlookOf(optionsOf(agent)), { consistency: 'filesystem', why: '', os })
  agent.disabled.add(FREEZE)
  const blocked = await outlookOf(optionsOf(agent))
  assert.deepEqual([blocked.consistency, blocked.os], ['crash', os])
  assert.match(blocked.why, /switched off/)
  agent.scripts.set('guest-info', async () => 'cut')
  assert.match((await outlookOf(optionsOf(agent))).why, /does not answer/)
  agent.isOpen = false
  assert.match((await outlookOf(optionsOf(agent))).why, /No guest agent/)
  assert.ok(!agent.calls.some((call) => [FREEZE, THAW, 'guest-fstrim'].includes(call)))
})

/** Until somebody has given up waiting for the answer to `command`, and synchronises. */
function untilSynced(agent: FakeAgent, command: string): Promise<void> {
  return until('the next client to synchronise', async () =>
    agent.heard.includes('guest-sync-delimited', agent.heard.lastIndexOf(command)),
  )
}
