import assert from 'node:assert/strict'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { WantedConsistency } from '../contract.ts'
import { never, until } from '../suite.ts'
import { TrialMachine, talk } from './capture-fixture.ts'
import { FakeAgent } from './fake-agent.ts'
import { Qmp } from './qmp.ts'

const isTooLittle = (error: unknown) => isFault(error, 'conflict') && error.reason === 'consistency'

/** A real guest, on whose channel the fake agent answers in place of QEMU's own socket. */
async function machineWithAgent(t: TestContext) {
  const machine = await TrialMachine.make(t, ['virtio-blk', 'virtio-scsi'])
  await machine.start()
  const path = join(machine.place.run, `${machine.id}.a`)
  await rm(path)
  const agent = await FakeAgent.start(path)
  t.after(() => agent.close())
  const { execute } = Qmp.prototype
  t.mock.method(Qmp.prototype, 'execute', function (this: Qmp, ...args: Parameters<Qmp['execute']>) {
    return args[0] === 'query-chardev' ? agent.qmp.execute(args[0]) : execute.apply(this, args)
  })
  const open = (key: string, wanted: WantedConsistency) =>
    machine.host.openExports(machine.id, key, machine.request(undefined, wanted), never())
  return { machine, agent, open }
}

/** `work` is done while QEMU is told what makes the moment. */
function atTheMoment(t: TestContext, work: () => void): void {
  const { executeAll } = Qmp.prototype
  t.mock.method(
    Qmp.prototype,
    'executeAll',
    function (this: Qmp, ...args: Parameters<Qmp['executeAll']>) {
      work()
      return executeAll.apply(this, args)
    },
    { times: 1 },
  )
}

test('the moment lies inside the freeze, and the guest is thawed before anything is served', async (t) => {
  const { machine, agent, open } = await machineWithAgent(t)
  let wasFrozen = false
  atTheMoment(t, () => {
    wasFrozen = agent.isFrozen
  })
  const exports = await open('K', 'filesystem')
  assert.ok(wasFrozen && !agent.isFrozen)
  assert.deepEqual([exports.consistency, exports.consistencyWhy], ['filesystem', ''])
  assert.ok(exports.frozenMs > 0 && exports.pausedMs > 0)
  assert.equal(exports.os?.type, 'Linux')
  const again = await open('K', 'filesystem')
  assert.deepEqual([again.moment, again.os, again.frozenMs], ['same', exports.os, exports.frozenMs])
  await machine.host.closeExports(machine.id, 'K', 'given-up')
  const { length } = agent.calls
  assert.equal((await open('L', 'crash')).consistency, 'crash')
  assert.equal(agent.calls.length, length)
  await machine.host.closeExports(machine.id, 'L', 'given-up')
  const outlook = await machine.host.outlook(machine.id, never())
  assert.deepEqual(outlook, { power: 'running', consistency: 'filesystem', consistencyWhy: '' })
  await machine.isClean([])
})

test('a freeze that did not last over the moment is worth nothing, and is refused where it was demanded', async (t) => {
  const { machine, agent, open } = await machineWithAgent(t)
  const early = () => {
    agent.isFrozen = false
  }
  atTheMoment(t, early)
  await assert.rejects(open('K', 'filesystem'), isTooLittle)
  await machine.isClean([])
  atTheMoment(t, early)
  const exports = await open('K', 'best')
  assert.equal(exports.consistency, 'crash')
  assert.notEqual(exports.consistencyWhy, '')
  await machine.host.closeExports(machine.id, 'K', 'given-up')

  atTheMoment(t, () => {
    throw new Error('no moment')
  })
  await assert.rejects(open('K', 'best'), /no moment/)
  assert.ok(!agent.isFrozen)
  await machine.isClean([])
  await assert.rejects(open('K', 'application'), isTooLittle)
  await machine.isClean([])
})

test('a guest that a crash of ours left frozen and standing goes on, as soon as we are back', async (t) => {
  const { machine, agent, open } = await machineWithAgent(t)
  const record = join(machine.place.machines, machine.id, 'exports', 'K.json')
  const crashed = async () => {
    await open('K', 'best')
    await writeFile(record, (await readFile(record, 'utf8')).replace('"open"', '"opening"'))
    await writeFile(join(machine.place.machines, machine.id, 'qemu.freeze'), '')
    await machine.host.close()
    agent.isFrozen = true
  }
  await crashed()
  await talk(machine.place, machine.id, (qmp) => qmp.execute('stop'))
  await machine.reopen()
  await until('the guest to be thawed', async () => !agent.isFrozen)
  await machine.host.closeExports(machine.id, 'K', 'given-up')
  await machine.isClean([])
  await crashed()
  await machine.reopen()
  await machine.host.closeExports(machine.id, 'K', 'given-up')
  assert.ok(!agent.isFrozen)
  await machine.isClean([])
})

test('a guest is trimmed only where more than its changes is read', async (t) => {
  const { machine, agent, open } = await machineWithAgent(t)
  const trims = () => agent.calls.filter((call) => call === 'guest-fstrim').length
  await open('K0', 'best')
  await machine.host.closeExports(machine.id, 'K0', 'taken')
  assert.equal(trims(), 1)
  const { since } = machine.request('K0')
  const [first] = machine.spec.disks
  assert.ok(first)
  for (const [key, known, count] of [
    ['K1', since, 1],
    ['K2', { [first.id]: 'K0' }, 2],
    ['K3', Object.fromEntries(machine.spec.disks.map(({ id }) => [id, 'another'])), 3],
  ] as const) {
    await machine.host.openExports(machine.id, key, { ...machine.request(), since: known }, never())
    assert.equal(trims(), count)
    await machine.host.closeExports(machine.id, key, 'given-up')
  }
})

test('who stops or removes a machine does not wait for a capture to trim or freeze it', async (t) => {
  for (const [command, how] of [
    ['guest-fstrim', 'stopped'],
    ['guest-fsfreeze-freeze', 'stopped'],
    ['guest-fsfreeze-freeze', 'removed'],
  ] as const) {
    const { machine, agent, open } = await machineWithAgent(t)
    const reached = Promise.withResolvers<void>()
    agent.scripts.set(command, async () => {
      reached.resolve()
      return 'silence'
    })
    const opening = open('K', 'best')
    const refused = assert.rejects(opening, (error) => {
      assert.ok(isFault(error, 'conflict') && error.subject === 'machine')
      assert.match(error.message, new RegExp(how))
      return true
    })
    // Waits for its turn behind the other.
    const next = assert.rejects(open('K', 'crash'), new RegExp(how))
    await reached.promise
    const { host, id } = machine
    if (how === 'removed') await host.ensureGone(id, never())
    else await host.ensureStopped(id, 'power', never())
    await refused
    await next
    assert.equal(await host.power(id), how === 'removed' ? 'absent' : 'stopped')
    if (how === 'stopped') await machine.isClean([])
    await agent.close()
    t.mock.restoreAll()
  }
})
