import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { DiskId, MachineId, SnapshotId, TaskId } from '../image/ids.ts'
import type { MachineDiskRecord } from '../image/machine.ts'
import { digestOf, HOME, newTaskPlace, type TaskPlace } from './fixture.ts'
import { exportNameOf } from './parts.ts'
import type { ResetInput } from './reset-disk.ts'

const BEFORE = digestOf('base')
const AFTER = digestOf('snapshot')

/** The calls in which a reset can be met, in the order it makes them. */
const CALLS = [
  { at: 'ensureStopped', of: 'host', isSwitched: false },
  { at: 'refer', of: 'store', isSwitched: false },
  { at: 'replaceDisk', of: 'host', isSwitched: false },
  { at: 'replacedDisk', of: 'host', isSwitched: true },
  // The second time: what is needed no more is let go of.
  { at: 'refer', of: 'store', isSwitched: true },
] as const

describe('the reset of a disk', () => {
  let place: TaskPlace
  let machineId: MachineId
  let diskId: DiskId
  let snapshotId: SnapshotId
  beforeEach(async () => {
    place = await newTaskPlace()
    await place.image('base')
    machineId = await place.machine('m', { digest: BEFORE, state: 'stopping' })
    place.power.set(machineId, 'running')
    diskId = `d${machineId.slice(1)}` as DiskId
    snapshotId = await place.snapshot(machineId, 'snapshot')
    await place.catalog.rows
      .insertInto('baseline')
      .values({
        ...{ diskId, machineId, regionId: HOME, captureKey: 'key', digest: BEFORE },
        ...{ diskIndex: 0, sizeBytes: 4096, atMs: 1 },
      })
      .execute()
    await place.parts.jobs.refer(HOME, { holder: machineId, label: {}, digests: [BEFORE] })
  })
  afterEach(() => place.close())

  const reset = (): Promise<TaskId> => {
    const input: ResetInput = { snapshotId, machineId, diskId, digest: AFTER, stops: true }
    return place.begin({ kind: 'reset-disk', snapshotId, machineId, input })
  }
  const held = () => place.stores.refs.get(`${HOME} ${machineId}`)?.digests
  const machine = () =>
    place.catalog.rows
      .selectFrom('machine')
      .select(['disks', 'state'])
      .where('id', '=', machineId)
      .executeTakeFirst()

  const cancelCount = async (id: TaskId) =>
    (await place.catalog.rows.selectFrom('task').select('cancelRequested').where('id', '=', id).execute())[0]
      ?.cancelRequested

  /** Host, catalog and store say the same, whichever it is. */
  async function assertTogether(isSwitched: boolean, state: string): Promise<void> {
    const row = await machine()
    const [disk] = JSON.parse(row?.disks ?? '[]') as MachineDiskRecord[]
    assert.deepEqual(
      [...place.replaced],
      isSwitched ? [[diskId, exportNameOf(HOME, AFTER, 0)]] : [],
      'what the host was told',
    )
    assert.deepEqual(disk?.base, { digest: isSwitched ? AFTER : BEFORE, index: 0 })
    assert.deepEqual(held(), [isSwitched ? AFTER : BEFORE])
    const baselines = await place.catalog.rows.selectFrom('baseline').select('diskId').execute()
    assert.equal(baselines.length, isSwitched ? 0 : 1)
    assert.equal(row?.state, state)
  }

  /** Puts `meet` into one call of the reset, which it waits for; the others go through. */
  function meetAt(number: number, meet: () => Promise<void>): Promise<void> {
    const reached = Promise.withResolvers<void>()
    const call = CALLS[number]
    assert.ok(call !== undefined)
    const isSecond = CALLS.slice(0, number).some(({ at }) => at === call.at)
    const gates = call.of === 'host' ? place.gates : place.stores.gates
    let count = 0
    gates.set(call.at, async () => {
      if (count++ !== (isSecond ? 1 : 0)) return
      reached.resolve()
      await meet()
    })
    return reached.promise
  }

  test('stops the guest, switches the disk, and lets go of what it stood on', async () => {
    const seen: unknown[] = []
    place.gates.set('ensureStopped', async () => void seen.push(place.power.get(machineId)))
    place.gates.set('replaceDisk', async () => {
      seen.push(place.power.get(machineId), (await machine())?.state, held())
    })
    const { state, output } = await place.ended(await reset())
    assert.deepEqual([state, output], ['done', { snapshotId, diskId }])
    // Both are kept while it is switched.
    assert.deepEqual(seen, ['running', 'stopped', 'stopped', [BEFORE, AFTER]])
    await assertTogether(true, 'stopped')
  })

  for (const [number, { at, isSwitched }] of CALLS.entries()) {
    test(`goes on to its end when the process ends in call ${number}, ${at}`, async () => {
      const opened = Promise.withResolvers<void>()
      const reached = meetAt(number, () => opened.promise)
      const id = await reset()
      await reached
      const restarted = place.restart()
      opened.reject(new Error('the process ended here'))
      await restarted
      assert.equal((await place.ended(id)).state, 'done')
      await assertTogether(true, 'stopped')
    })

    test(`leaves all or nothing when it is cancelled in call ${number}, ${at}`, async () => {
      const opened = Promise.withResolvers<void>()
      const reached = meetAt(number, () => opened.promise)
      const id = await reset()
      await reached
      const cancelled = place.runner.cancel(id)
      // Behind the cancel's own write, so that the task is told before its call fails.
      while ((await cancelCount(id)) === 0) await place.runner.changed(id, 5, new AbortController().signal)
      await cancelCount(id)
      opened.reject(new Fault('unavailable', 'The call was given up.'))
      await cancelled
      const { state } = await place.ended(id)
      // Once the host has switched it is done to its end.
      assert.equal(state, isSwitched ? 'done' : 'cancelled')
      await assertTogether(isSwitched, number === 0 ? 'running' : 'stopped')
    })

    test(`leaves all or nothing when call ${number}, ${at}, fails`, async () => {
      await meetAtFailing(number, isSwitched)
      const id = await reset()
      const { state, reason } = await place.ended(id)
      assert.deepEqual([state, reason], isSwitched ? ['done', null] : ['failed', 'No space is left.'])
      await assertTogether(isSwitched, number === 0 ? 'running' : 'stopped')
    })
  }

  /** A host that has switched and then fails does so by a bug: by its contract a fault says that it has not. */
  async function meetAtFailing(number: number, isSwitched: boolean): Promise<void> {
    void meetAt(number, async () => {
      if (isSwitched) throw new Error('a bug')
      throw new Fault('full', 'No space is left.')
    })
  }

  test('a host that is away for a moment is asked again', async () => {
    void meetAt(2, async () => {
      throw new Fault('unavailable', 'The host does not answer.')
    })
    assert.equal((await place.ended(await reset())).state, 'done')
    await assertTogether(true, 'stopped')
  })

  test('an undo that fails is tried again, with the row still to be written', async () => {
    let failures = 2
    void meetAt(3, async () => {
      place.gates.set('layers', async () => {
        if (failures-- > 0) throw new Fault('unavailable', 'The host does not answer.')
      })
      throw new Error('a bug')
    })
    assert.equal((await place.ended(await reset())).state, 'done')
    await assertTogether(true, 'stopped')
  })

  test('what lasts ends it, also in a second process, and with nothing switched', async () => {
    for (const kind of ['corrupt', 'full', 'conflict'] as const) {
      const opened = Promise.withResolvers<void>()
      const reached = meetAt(2, () => opened.promise)
      const id = await reset()
      await reached
      place.gates.set('replaceDisk', async () => {
        throw new Fault(kind, 'It lasts.')
      })
      const restarted = place.restart()
      opened.reject(new Fault('unavailable', 'The host does not answer.'))
      await restarted
      assert.deepEqual(await place.ended(id).then(({ state, reason }) => [state, reason]), [
        'failed',
        'It lasts.',
      ])
      await assertTogether(false, 'stopped')
    }
  })

  test('refers to what the host says the disks stand on, though the row does not know of it', async () => {
    await place.image('unknown')
    const { layers } = place.parts.host
    const host = place.parts.host as { layers: typeof layers }
    host.layers = async (id) => ({
      ...(await layers(id)),
      other: { baseName: exportNameOf(HOME, digestOf('unknown'), 0), replacedCount: 3 },
      lost: { baseName: exportNameOf(HOME, digestOf('lost'), 0), replacedCount: 0 },
    })
    assert.equal((await place.ended(await reset())).state, 'done')
    assert.deepEqual(new Set(held()), new Set([AFTER, digestOf('unknown')]))
  })

  test('to the snapshot that the disk stands on already, it is emptied again', async () => {
    await place.ended(await reset())
    let count = 0
    place.gates.set('replaceDisk', async () => void count++)
    assert.equal((await place.ended(await reset())).state, 'done')
    assert.equal(count, 1)
  })

  test('a machine that is deleted under it leaves nothing that is kept for it', async () => {
    const opened = Promise.withResolvers<void>()
    const reached = meetAt(2, () => opened.promise)
    const id = await reset()
    await reached
    await place.catalog.rows
      .updateTable('machine')
      .set({ state: 'deleting' })
      .where('id', '=', machineId)
      .execute()
    const gone = Promise.withResolvers<void>()
    place.gates.set('ensureGone', async () => gone.resolve())
    const deleted = await place.begin({ kind: 'delete-machine', machineId, input: { machineId } })
    await gone.promise
    opened.resolve()
    assert.equal((await place.ended(id)).state, 'failed')
    assert.equal((await place.ended(deleted)).state, 'done')
    assert.deepEqual([held(), await machine()], [undefined, undefined])
    assert.equal((await place.catalog.rows.selectFrom('baseline').select('diskId').execute()).length, 0)
  })
})
