import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { ImageId, TaskId } from '../image/ids.ts'
import { HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'
import { chargedBytes, chargeProblems, reserve } from './quota.ts'

describe('what is charged while images are made', () => {
  let place: TaskPlace
  beforeEach(async () => {
    place = await newTaskPlace()
    place.stores.measuredBytes = 8000
    place.stores.dataBytes = 5000
  })
  afterEach(() => place.close())

  const quota = (quotaBytes: number) =>
    place.catalog.rows.updateTable('project').set({ quotaBytes }).execute()
  const charged = () => chargedBytes(place.catalog.rows, PROJECT)
  const capture = async (): Promise<{ imageId: ImageId; taskId: TaskId }> => {
    const machineId = await place.machine('m')
    const imageId = await place.image('captured', { state: 'creating' })
    const outputs = [{ is: 'image', id: imageId, diskIds: [`d${machineId.slice(1)}`] }]
    const input = { machineId, wanted: 'best', outputs }
    return { imageId, taskId: await place.begin({ kind: 'capture-image', imageId, machineId, input }) }
  }

  test('a capture reserves what it may hold before it writes, and is charged what it holds in the end', async () => {
    await quota(8000)
    const seen: number[] = []
    place.stores.gates.set('measure', async () => void seen.push(await charged()))
    place.stores.gates.set('write', async () => void seen.push(await charged()))
    const { taskId } = await capture()
    assert.equal((await place.ended(taskId)).state, 'done')
    assert.deepEqual([...seen, await charged()], [0, 8000, 5000])
  })

  test('of captures at once only those that fit write anything', async () => {
    await quota(20_000)
    let writeCount = 0
    let chargedMax = 0
    place.stores.gates.set('write', async () => {
      writeCount++
      chargedMax = Math.max(chargedMax, await charged())
    })
    // Each ends with 5 000 bytes, but has to reserve 8 000 first.
    const begun = await Promise.all(Array.from({ length: 6 }, capture))
    const ended = await Promise.all(begun.map(({ taskId }) => place.ended(taskId)))
    const done = ended.filter(({ state }) => state === 'done').length
    assert.ok(done >= 2 && done <= 3, `${done} are done`)
    assert.deepEqual([writeCount, await charged()], [done, done * 5000])
    assert.ok(chargedMax <= 20_000)
    assert.deepEqual(await chargeProblems(place.catalog.rows, HOME), [])
    for (const { state, reason } of ended) {
      if (state !== 'done') assert.match(reason ?? '', /8000 bytes more are wanted, and its quota is 20000/)
    }
  })

  test('one that fails or is cancelled gives back what it reserved', async () => {
    place.stores.gates.set('write', async () => {
      throw new Fault('full', 'No space is left.')
    })
    const failed = await capture()
    assert.equal((await place.ended(failed.taskId)).state, 'failed')
    const reached = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<void>()
    place.stores.gates.set('write', () => {
      reached.resolve()
      return opened.promise
    })
    const cancelled = await capture()
    await reached.promise
    assert.equal(await charged(), 8000)
    const ended = place.runner.cancel(cancelled.taskId)
    opened.resolve()
    await ended
    assert.equal(await charged(), 0)
    await assert.rejects(
      place.catalog.transaction((rows) => reserve(rows, { is: 'image', id: cancelled.imageId }, 1)),
      (error: Fault) => error.kind === 'conflict',
    )
  })

  test('a snapshot is charged as an image is, and each of one task for itself', async () => {
    const machineId = await place.machine('m')
    const imageId = await place.image('captured', { state: 'creating' })
    const snapshotId = await place.snapshot(machineId, 'linked', { state: 'creating', imageId })
    const diskIds = [`d${machineId.slice(1)}`]
    const outputs = [
      { is: 'image', id: imageId, diskIds },
      { is: 'snapshot', id: snapshotId, diskIds },
    ]
    const input = { machineId, wanted: 'best', outputs }
    const begin = () => place.begin({ kind: 'capture-image', imageId, machineId, input })
    await quota(15_999)
    const { state, reason } = await place.ended(await begin())
    assert.equal(state, 'failed')
    assert.match(reason ?? '', /is charged 8000 bytes, 8000 bytes more are wanted, and its quota is 15999/)
    assert.equal(await charged(), 0)
    for (const noun of ['image', 'snapshot'] as const) {
      const row = await place.catalog.rows.selectFrom(noun).select(['state', 'reason']).executeTakeFirst()
      assert.deepEqual([row?.state, row?.reason], ['failed', reason])
      await place.catalog.rows.updateTable(noun).set({ state: 'creating', reason: null }).execute()
    }
    await quota(16_000)
    const seen: number[] = []
    place.stores.gates.set('write', async () => void seen.push(await charged()))
    assert.equal((await place.ended(await begin())).state, 'done')
    assert.deepEqual([...seen, await charged()], [16_000, 10_000])
    assert.deepEqual(await chargeProblems(place.catalog.rows, HOME), [])
  })

  test('a reservation left behind is found by verify', async () => {
    const imageId = await place.image('i')
    await place.catalog.rows.updateTable('image').set({ reservedBytes: 1 }).execute()
    const problems = await chargeProblems(place.catalog.rows, HOME)
    assert.deepEqual(problems, [`I7: image ${imageId} is not being made and reserves bytes`])
  })
})
