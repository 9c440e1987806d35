import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { ImageId, RegionId, TaskId } from '../image/ids.ts'
import type { CopyInput } from './copy-words.ts'
import { ensureRefs } from './ensure-refs.ts'
import { AWAY, digestOf, HOME, newTaskPlace, type TaskPlace } from './fixture.ts'
import { chargedBytes } from './quota.ts'
import { hasRoom } from './room.ts'

describe('one copy', () => {
  let place: TaskPlace
  let sourceId: ImageId
  beforeEach(async () => {
    place = await newTaskPlace()
    sourceId = await place.image('source')
  })
  afterEach(() => place.close())

  const begin = async (input: Partial<CopyInput> = {}, name = 'copy') => {
    const targetRegionId = input.targetRegionId ?? AWAY
    const imageId = await place.image(name, { state: 'creating', regionId: targetRegionId })
    const source = { is: 'region', regionId: HOME } as const
    const plain = { way: 'pull', digest: digestOf('source'), dataBytes: 4096, isShared: false } as const
    const whole: CopyInput = { ...plain, source, ...input, imageId, targetRegionId }
    const task = { kind: 'copy-image', imageId, regionId: targetRegionId, input: whole } as const
    const taskId = await place.begin(task)
    await place.catalog.rows.updateTable('image').set({ taskId }).where('id', '=', imageId).execute()
    return { imageId, taskId }
  }
  const image = (id: ImageId) =>
    place.catalog.rows.selectFrom('image').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const row = (id: TaskId) =>
    place.catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const until = async (id: TaskId, isSo: (task: Awaited<ReturnType<typeof row>>) => boolean) => {
    while (!isSo(await row(id))) await place.runner.changed(id, 20, new AbortController().signal)
  }
  const gate = (name: string) => {
    const opened = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    place.stores.gates.set(name, () => {
      reached.resolve()
      return opened.promise
    })
    return { reached: reached.promise, open: () => opened.resolve() }
  }
  const pulls = (missingBytes: number, savedBytes = 0, regionId: RegionId = AWAY) =>
    place.stores.estimates.set(regionId, { missingBytes, savedBytes, resumedBytes: 0 })

  test('a pull tells what it moved and what it did not have to move', async () => {
    pulls(700, 300)
    const { imageId, taskId } = await begin({ bytesPerSecond: 5, isShared: true })
    const { state, output } = await place.ended(taskId)
    assert.equal(state, 'done')
    const { pullMs: _, ...told } = output
    assert.deepEqual(told, {
      ...{ by: 'pull', digest: digestOf('source'), dataBytes: 4096 },
      ...{ storedBytes: 700, movedBytes: 700, savedBytes: 300 },
    })
    const made = await image(imageId)
    assert.deepEqual(
      [made.state, made.digest, made.dataBytes, made.movedBytes, made.progressPermille],
      ['available', digestOf('source'), 4096, 700, 1000],
    )
    const [job] = place.stores.pulled
    assert.deepEqual([job?.bytesPerSecond, job?.isShared, job?.sessionId], [5, true, taskId])
    const { doneBytes, savedBytes } = await row(taskId)
    assert.deepEqual([doneBytes, savedBytes], [700, 300])
  })

  test('a reference moves nothing and waits for nobody, even where all places are taken', async () => {
    const held = gate('pull')
    const pulled = []
    for (let i = 0; i < 5; i++) pulled.push(await begin({}, `copy ${i}`))
    await held.reached
    const { taskId } = await begin({ way: 'reference', targetRegionId: HOME })
    const { state, output } = await place.ended(taskId)
    assert.deepEqual([state, output.by, output.movedBytes], ['done', 'reference', 0])
    assert.equal(place.stores.pulled.length, 0)
    held.open()
    for (const one of pulled) assert.equal((await place.ended(one.taskId)).state, 'done')
  })

  test('a rekeyed copy is in the domain of its own project and has a digest of its own', async () => {
    place.stores.freeBytes.set(HOME, 1000)
    pulls(0, 900, HOME)
    const { imageId, taskId } = await begin({ way: 'rekey', targetRegionId: HOME, dataBytes: 1 })
    const { state, output } = await place.ended(taskId)
    assert.deepEqual([state, output.by], ['done', 'rekey'])
    assert.notEqual(output.digest, digestOf('source'))
    assert.equal((await image(imageId)).digest, output.digest)
    assert.equal(place.stores.rekeyed[0]?.domain, 'org-main')
    // It brings all of the image into the region, though the region has it with other keys.
    place.stores.freeBytes.set(HOME, 899)
    const next = await begin({ way: 'rekey', targetRegionId: HOME }, 'next')
    assert.equal((await place.ended(next.taskId)).state, 'failed')
  })

  test('an image of a peer is pulled from there', async () => {
    const source = { is: 'peer', peer: 'other', regionId: 'theirs' } as const
    const { taskId } = await begin({ source, digest: digestOf('elsewhere') })
    assert.equal((await place.ended(taskId)).state, 'done')
    assert.deepEqual(place.stores.pulled[0]?.source, source)
  })

  const theirs = { is: 'peer', peer: 'other', regionId: 'theirs' } as const
  const setQuota = (quotaBytes: number) =>
    place.catalog.rows.updateTable('project').set({ quotaBytes, chargedAtQuotaBytes: 0 }).execute()
  const found = (dataBytes: number) =>
    place.stores.estimates.set(AWAY, { missingBytes: 10, savedBytes: 0, resumedBytes: 0, dataBytes })

  test('a peer is asked for the disks of the row, and believed by what its maps say', async () => {
    found(5000)
    const { imageId, taskId } = await begin({ source: theirs, dataBytes: 0 })
    const { state, output } = await place.ended(taskId)
    assert.deepEqual([state, output.dataBytes], ['done', 5000])
    const { dataBytes, disks } = await image(imageId)
    assert.equal(dataBytes, 5000)
    const sizesBytes = (JSON.parse(disks) as { sizeBytes: number }[]).map(({ sizeBytes }) => sizeBytes)
    assert.deepEqual(place.stores.pulled[0]?.diskSizesBytes, sizesBytes)
    // One of our own needs no such word.
    const own = await begin({}, 'own')
    assert.equal((await place.ended(own.taskId)).state, 'done')
    assert.equal(place.stores.pulled[1]?.diskSizesBytes, undefined)
  })

  for (const isBooked of [true, false]) {
    test(`a quota holds whatever a peer says${isBooked ? ', before the first byte' : ''}`, async () => {
      if (isBooked) place.stores.freeBytes.set(AWAY, 1_000_000)
      const charged = await chargedBytes(place.catalog.rows, 'org-main')
      await setQuota(charged + 4999)
      found(5000)
      const { imageId, taskId } = await begin({ source: theirs, dataBytes: 0 })
      const { state, reason } = await place.ended(taskId)
      assert.equal(state, 'failed')
      assert.match(reason ?? '', /quota/)
      assert.equal(place.stores.pulled.length, isBooked ? 0 : 1)
      assert.equal((await image(imageId)).state, 'failed')
      assert.deepEqual(place.stores.aborted, [taskId])
      assert.equal(await chargedBytes(place.catalog.rows, 'org-main'), charged)
      await setQuota(charged + 5000)
      const fits = await begin({ source: theirs, dataBytes: 0 }, 'fits')
      assert.equal((await place.ended(fits.taskId)).state, 'done')
      assert.equal(await chargedBytes(place.catalog.rows, 'org-main'), charged + 5000)
    })
  }

  test('what copies have still to bring is booked, and who finds no room is refused before his first byte', async () => {
    place.stores.freeBytes.set(AWAY, 1000)
    pulls(600)
    const held = gate('pull')
    const first = await begin({}, 'first')
    await held.reached
    assert.equal(await hasRoom(place.parts, AWAY, 400), true)
    assert.equal(await hasRoom(place.parts, AWAY, 401), false)
    const second = await begin({}, 'second')
    const refused = await place.ended(second.taskId)
    assert.equal(refused.state, 'failed')
    assert.match(refused.reason ?? '', /^Region hk has no room for 600 bytes more\./)
    assert.equal((await image(second.imageId)).state, 'failed')
    // Half of it is there already, so the disk shows it.
    await place.catalog.rows
      .updateTable('task')
      .set({ doneBytes: 300, totalBytes: 600 })
      .where('id', '=', first.taskId)
      .execute()
    assert.equal(await hasRoom(place.parts, AWAY, 700), true)
    assert.equal(await hasRoom(place.parts, AWAY, 701), false)
    // One that is held keeps what it booked.
    await place.runner.pause(first.taskId)
    assert.equal(await hasRoom(place.parts, AWAY, 701), false)
    await place.runner.cancel(first.taskId)
    held.open()
    assert.equal((await place.ended(first.taskId)).state, 'cancelled')
    assert.equal(await hasRoom(place.parts, AWAY, 1000), true)
  })

  test('of two that plan at the same time only as many go on as there is room for', async () => {
    place.stores.freeBytes.set(AWAY, 1000)
    pulls(600)
    const held = gate('pull')
    const copies = await Promise.all([begin({}, 'a'), begin({}, 'b'), begin({}, 'c')])
    const refused = () =>
      Promise.all(copies.map(async ({ taskId }) => (await row(taskId)).state === 'failed'))
    while ((await refused()).filter(Boolean).length < 2) await new Promise(setImmediate)
    held.open()
    const ends = await Promise.all(copies.map(({ taskId }) => place.ended(taskId)))
    assert.deepEqual(ends.map(({ state }) => state).sort(), ['done', 'failed', 'failed'])
  })

  test('what does not answer is tried again in the same session, with the room it had', async () => {
    const many = await newTaskPlace({ attempts: 3 })
    try {
      await many.image('source')
      many.stores.freeBytes.set(AWAY, 1000)
      many.stores.estimates.set(AWAY, { missingBytes: 600, savedBytes: 0, resumedBytes: 0 })
      let planCount = 0
      let pullCount = 0
      many.stores.gates.set('planPull', async () => void planCount++)
      many.stores.gates.set('pull', async () => {
        if (pullCount++ === 0) throw new Fault('unavailable', 'The link is down.', { subject: 'store' })
      })
      const imageId = await many.image('copy', { state: 'creating', regionId: AWAY })
      const input: CopyInput = {
        ...{ imageId, targetRegionId: AWAY, way: 'pull', digest: digestOf('source'), dataBytes: 1 },
        ...{ source: { is: 'region', regionId: HOME }, isShared: false },
      }
      const taskId = await many.begin({ kind: 'copy-image', imageId, regionId: AWAY, input })
      assert.equal((await many.ended(taskId)).state, 'done')
      const { attemptCount, lastReason } = await many.catalog.rows
        .selectFrom('task')
        .selectAll()
        .where('id', '=', taskId)
        .executeTakeFirstOrThrow()
      assert.deepEqual([planCount, pullCount, attemptCount], [1, 2, 2])
      assert.equal(lastReason, 'The link is down.')
      assert.deepEqual(many.stores.aborted, [])
    } finally {
      await many.close()
    }
  })

  test('a copy that is held keeps its session and a source that was deleted, until it has ended', async () => {
    const held = gate('pull')
    const { taskId } = await begin()
    await held.reached
    await place.runner.pause(taskId)
    assert.equal((await row(taskId)).state, 'paused')
    assert.deepEqual(place.stores.aborted, [])
    await ensureRefs(place.parts, HOME, () => {})
    await place.catalog.rows.deleteFrom('image').where('id', '=', sourceId).execute()
    const release = { holder: sourceId, regionId: HOME, digest: digestOf('source') }
    const released = await place.begin({ kind: 'release-image', imageId: sourceId, input: release })
    await until(released, ({ step }) => step === 'wait')
    // Another content goes at once, so that the one above had its turns.
    const other = { holder: 'other', regionId: HOME, digest: digestOf('other') }
    assert.equal(
      (await place.ended(await place.begin({ kind: 'release-image', input: other }))).state,
      'done',
    )
    assert.deepEqual(place.stores.holders(HOME), [sourceId])
    held.open()
    place.stores.gates.clear()
    await place.restart()
    assert.equal((await row(taskId)).state, 'paused')
    await place.runner.proceed(taskId)
    assert.equal((await place.ended(taskId)).state, 'done')
    assert.equal(place.stores.pulled.at(-1)?.sessionId, taskId)
    assert.equal((await place.ended(released)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [])
  })

  for (const way of ['reference', 'pull', 'rekey'] as const) {
    test(`a ${way} that is cancelled leaves a failed image and nothing in the store`, async () => {
      const targetRegionId = way === 'pull' ? AWAY : HOME
      const held = gate(way === 'reference' ? 'refer' : way)
      const { imageId, taskId } = await begin({ way, targetRegionId })
      await held.reached
      const cancelled = place.runner.cancel(taskId)
      held.open()
      await cancelled
      assert.equal((await place.ended(taskId)).state, 'cancelled')
      assert.deepEqual(place.stores.aborted, [taskId])
      assert.deepEqual(place.stores.holders(targetRegionId), [])
      const { state, reservedBytes } = await image(imageId)
      assert.deepEqual([state, reservedBytes], ['failed', 0])
    })
  }

  test('a task of before there were peers goes on', async () => {
    for (const targetRegionId of [HOME, AWAY]) {
      const imageId = await place.image('copy', { state: 'creating', regionId: targetRegionId })
      const input = {
        imageId,
        digest: digestOf('source'),
        sourceRegionId: HOME,
        targetRegionId,
        dataBytes: 1,
      }
      const taskId = await place.begin({ kind: 'copy-image', imageId, regionId: targetRegionId, input })
      const { state, output } = await place.ended(taskId)
      assert.deepEqual([state, output.by], ['done', targetRegionId === HOME ? 'reference' : 'pull'])
    }
  })
})
