import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import type { DiskBus } from '../contract.ts'
import { never } from '../suite.ts'
import { TrialMachine, talk } from './capture-fixture.ts'
import { Qmp } from './qmp.ts'

const PIECE_BYTES = 256 * 1024
const DISK_PIECES = 16

/**
 * Lets the service "die" at its nth word with QEMU: that one and all later ones fail, those of its own tidying up
 * included. `isAfter`: QEMU still hears the fatal word and does what it says. Answers whether it came to that.
 */
async function dyingAt(
  t: TestContext,
  count: number,
  isAfter: boolean,
  work: () => Promise<unknown>,
): Promise<boolean> {
  let left = count
  const { execute, executeAll } = Qmp.prototype
  const dead = new Fault('unavailable', 'The service is dead.')
  const fatal = async (say: () => Promise<unknown>): Promise<never> => {
    if (left === 0 && isAfter) await say().catch(() => {})
    left--
    throw dead
  }
  const mocks = [
    t.mock.method(Qmp.prototype, 'execute', async function (this: Qmp, ...args: Parameters<Qmp['execute']>) {
      if (left <= 0) return await fatal(() => execute.apply(this, args))
      left--
      return await execute.apply(this, args)
    }),
    t.mock.method(
      Qmp.prototype,
      'executeAll',
      async function (this: Qmp, ...args: Parameters<Qmp['executeAll']>) {
        if (left <= 0) return await fatal(() => executeAll.apply(this, args))
        left--
        return await executeAll.apply(this, args)
      },
    ),
  ]
  try {
    await work()
    return false
  } catch (error) {
    assert.equal(error, dead)
    return true
  } finally {
    for (const mock of mocks) mock.mock.restore()
  }
}

/** A running machine whose content at the moment of the capture 'K0' is known. */
async function capturedMachine(t: TestContext, buses: readonly DiskBus[]) {
  const machine = await TrialMachine.make(t, buses)
  await machine.start()
  await machine.host.openExports(machine.id, 'K0', machine.request(), never())
  await machine.host.closeExports(machine.id, 'K0', 'taken')
  const held = machine.content.map((bytes) => Buffer.from(bytes))
  let writes = 0
  /** Another piece each time, so that none is told of by mere luck. */
  const writeOn = async () => {
    const at = Math.floor(writes / (DISK_PIECES - 2)) % buses.length
    await machine.write(at, (1 + (writes % (DISK_PIECES - 2))) * PIECE_BYTES, 512, 1 + (writes % 200))
    writes++
  }
  const restart = async () => {
    await machine.host.close()
    await machine.reopen()
  }
  return { machine, held, writeOn, restart }
}

for (const isAfter of [false, true]) {
  test(`a service that dies ${isAfter ? 'after' : 'before'} any word of opening leaves nothing that the next cannot take away`, async (t) => {
    const { machine, held, writeOn, restart } = await capturedMachine(t, ['virtio-blk', 'virtio-scsi'])
    for (let count = 0; ; count++) {
      await writeOn()
      const isDead = await dyingAt(t, count, isAfter, () =>
        machine.host.openExports(machine.id, 'L', machine.request('K0'), never()),
      )
      await restart()
      await writeOn()
      // One finds it because it gives up, the other because it tries again.
      if (count % 2 === 0 || !isDead) await machine.host.closeExports(machine.id, 'L', 'given-up')
      else {
        await machine.host.openExports(machine.id, 'L', machine.request('K0'), never())
        await machine.host.closeExports(machine.id, 'L', 'given-up')
      }
      await machine.isClean(['K0'])
      if (!isDead) {
        t.diagnostic(`${count} words`)
        break
      }
    }
    const exports = await machine.host.openExports(machine.id, 'K1', machine.request('K0'), never())
    const [taken] = await machine.readChanges(exports, held)
    assert.ok(taken.every((bytes, at) => bytes.equals(machine.content[at] ?? Buffer.alloc(0))))
    await machine.host.closeExports(machine.id, 'K1', 'taken')
    await machine.isClean(['K1'])
  })

  test(`a service that dies ${isAfter ? 'after' : 'before'} any word of closing loses no change`, async (t) => {
    const { machine, held, writeOn, restart } = await capturedMachine(t, ['virtio-blk'])
    let since = 'K0'
    let known = held
    const ends = [
      ['given-up', 'given-up'],
      ['taken', 'taken'],
      ['taken', 'given-up'],
      ['given-up', 'taken'],
    ] as const
    for (const [first, second] of ends) {
      for (let count = 0; ; count++) {
        const key = `${first}${second}${count}`.replace(/\W/g, '')
        await writeOn()
        const exports = await machine.host.openExports(machine.id, key, machine.request(since), never())
        const taken = machine.content.map((bytes) => Buffer.from(bytes))
        // Whoever was closed half of one way and half of the other may know nothing, but nothing wrong.
        if (first === second || exports.disks.every((disk) => disk.changes))
          assert.ok(
            (await machine.readChanges(exports, known))[0].every((bytes, at) =>
              bytes.equals(taken[at] ?? Buffer.alloc(0)),
            ),
          )
        await writeOn()
        const isDead = await dyingAt(t, count, isAfter, () =>
          machine.host.closeExports(machine.id, key, first),
        )
        await restart()
        await machine.host.closeExports(machine.id, key, second)
        if (second === 'taken') {
          since = key
          known = taken
        }
        await talk(machine.place, machine.id, async (qmp) => {
          assert.deepEqual(await qmp.execute('query-block-exports'), [])
        })
        if (!isDead) break
      }
      // From here on everything is told again.
      await machine.host.openExports(
        machine.id,
        `base${first}${second}`.replace(/\W/g, ''),
        machine.request(),
        never(),
      )
      since = `base${first}${second}`.replace(/\W/g, '')
      known = machine.content.map((bytes) => Buffer.from(bytes))
      await machine.host.closeExports(machine.id, since, 'taken')
      await machine.isClean([since])
    }
  })
}
