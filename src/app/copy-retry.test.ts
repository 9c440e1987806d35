import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import { chargedBytes, chargeProblems } from '../tasks/quota.ts'
import { copiesOf, fault, firstOf } from './copies.fixture.ts'
import type { CopyOf } from './copy-contract.ts'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace } from './fixture.ts'

describe('copies that are begun anew, or ended', () => {
  let place: AppPlace
  let imageId: ImageId
  let at: ReturnType<typeof copiesOf>
  beforeEach(async () => {
    place = await newAppPlace({ imagesPerRegionMax: 100 })
    imageId = await place.availableImage('golden')
    at = copiesOf(place, imageId)
  })
  afterEach(() => place.close())

  describe('retry', () => {
    const retry = (id: TaskId) => place.app.tasks.retry(place.root, id)
    const charged = (projectId: ProjectId = place.root.defaultProjectId) => chargedBytes(at.rows(), projectId)

    test('begins one copy anew, with its image, and charges it again', async () => {
      await at.rows().updateTable('image').set({ dataBytes: 1000 }).execute()
      const made = await at.copy({ priority: 8, withinMs: 60_000, bytesPerSecond: 7 })
      const first = firstOf(made.copies)
      await at
        .rows()
        .updateTable('image')
        .set({ progressPermille: 400 })
        .where('id', '=', first.imageId)
        .execute()
      await at.end(first, 'failed')
      assert.equal(await charged(), 1000)
      const again = await retry(made.taskId)
      const second = firstOf(again.copies)
      assert.deepEqual([second.imageId, second.regionId], [first.imageId, AWAY])
      assert.equal(again.taskId, second.taskId)
      assert.notEqual(second.taskId, first.taskId)
      const row = await at.image(first.imageId)
      assert.deepEqual(
        [row?.state, row?.reason, row?.taskId, row?.reservedBytes, row?.progressPermille],
        ['creating', null, second.taskId, 1000, 400],
      )
      assert.equal(await charged(), 2000)
      assert.deepEqual(await chargeProblems(at.rows(), AWAY), [])
      const [old, now] = [await at.task(first.taskId), await at.task(second.taskId)]
      assert.deepEqual(JSON.parse(now.input), JSON.parse(old.input))
      assert.deepEqual([now.priority, now.deadlineAtMs], [8, old.deadlineAtMs])
      // It runs again, so there is nothing to begin.
      await assert.rejects(retry(first.taskId), fault('conflict', 'task'))
      await at.end(second, 'cancelled')
      place.nowMs += 60_000
      const third = await retry(first.taskId)
      assert.equal((await at.task(third.taskId)).deadlineAtMs, null)
      await at.endDone(firstOf(third.copies))
      await assert.rejects(retry(first.taskId), fault('conflict', 'task'))
    })

    test('of a batch begins only what failed, also what failed again since', async () => {
      const projectId = await at.second()
      const made = await at.copy({ targetProjectId: projectId, targetRegionIds: [HOME, AWAY, FAR] })
      const [home, away, far] = made.copies as [CopyOf, CopyOf, CopyOf]
      await assert.rejects(retry(made.taskId), fault('conflict', 'task'))
      await at.endDone(home)
      await at.end(away, 'failed')
      await at.end(far, 'cancelled')
      await at
        .rows()
        .updateTable('task')
        .set({ state: 'failed', endedAtMs: 1 })
        .where('id', '=', made.taskId)
        .execute()
      const again = await retry(made.taskId)
      const idsOf = (copies: readonly CopyOf[]) => copies.map((one) => one.imageId).sort()
      assert.deepEqual(idsOf(again.copies), idsOf([away, far]))
      const parent = await at.task(again.taskId)
      assert.deepEqual([parent.kind, parent.projectId, parent.regionId], ['copy-batch', projectId, HOME])
      for (const one of again.copies) {
        assert.equal((await at.task(one.taskId)).parentId, again.taskId)
        assert.equal((await at.inputOf(one.taskId)).isShared, true)
      }
      await at.end(again.copies.find((one) => one.regionId === AWAY) as CopyOf, 'failed')
      // The other one runs still.
      const third = await retry(made.taskId)
      assert.deepEqual(idsOf(third.copies), [away.imageId])
      assert.equal((await at.task(third.taskId)).kind, 'copy-batch')
      assert.equal((await at.inputOf(firstOf(third.copies).taskId)).isShared, false)
    })

    test('leaves out what was deleted, and is refused where nothing is left', async () => {
      const made = await at.copy({ targetRegionIds: [AWAY, FAR] })
      for (const one of made.copies) await at.end(one, 'failed')
      const stop = { state: 'failed', endedAtMs: 1 }
      await at.rows().updateTable('task').set(stop).where('id', '=', made.taskId).execute()
      const [away, far] = made.copies as [CopyOf, CopyOf]
      await place.app.images.remove(place.root, { regionId: AWAY, imageIds: [away.imageId] })
      const again = await retry(made.taskId)
      assert.deepEqual(
        again.copies.map((one) => one.imageId),
        [far.imageId],
      )
      await at.end(firstOf(again.copies), 'failed')
      await place.app.images.remove(place.root, { regionId: FAR, imageIds: [far.imageId] })
      await assert.rejects(retry(made.taskId), fault('conflict', 'image'))
      await assert.rejects(retry(away.taskId), fault('conflict', 'image'))
    })

    test('is refused above the quota, and where the source is gone', async () => {
      await at.rows().updateTable('image').set({ dataBytes: 1000 }).execute()
      const made = await at.copy()
      await at.end(firstOf(made.copies), 'failed')
      await place.app.projects.setQuota(place.root, place.root.defaultProjectId, 1999)
      await assert.rejects(retry(made.taskId), fault('full', 'project', 'quota'))
      assert.equal((await at.image(firstOf(made.copies).imageId))?.state, 'failed')
      await place.app.projects.setQuota(place.root, place.root.defaultProjectId, null)
      await place.app.images.remove(place.root, { regionId: HOME, imageIds: [imageId] })
      await assert.rejects(retry(made.taskId), fault('conflict', 'image'))
      assert.equal((await at.image(firstOf(made.copies).imageId))?.state, 'failed')
    })
  })

  test('who may not copy out of the source project cannot begin a copy out of it anew', async () => {
    const { app, root } = place
    const projectId = await at.second()
    const across = await at.copy({ targetProjectId: projectId, targetRegionIds: [AWAY, FAR] })
    for (const one of across.copies) await at.end(one, 'cancelled')
    await at.end({ taskId: across.taskId, imageId: firstOf(across.copies).imageId }, 'cancelled')
    await app.users.putPolicy(root, 'retrier', {
      Version: '1',
      Statement: [{ Effect: 'Allow', Action: ['calotype:RetryTask', 'calotype:CopyImage'], Resource: '*' }],
    })
    const { keyId } = await app.users.create(root, 'eve')
    await app.users.attach(root, 'eve', 'retrier', projectId)
    const eve = await place.caller(keyId)
    const count = await at.countOf('task')
    for (const id of [across.taskId, firstOf(across.copies).taskId]) {
      await assert.rejects(app.tasks.retry(eve, id), fault('denied', 'policy'))
    }
    assert.equal(await at.countOf('task'), count)
    await app.users.attach(root, 'eve', 'retrier', root.defaultProjectId)
    assert.equal((await app.tasks.retry(eve, across.taskId)).copies.length, 2)
  })

  test('a copy that is cancelled is off the lists, and its task has ended', async () => {
    const made = firstOf((await at.copy()).copies)
    const cancel = (id: ImageId, regionId: RegionId = AWAY) =>
      place.app.images.cancelCopy({ ...place.root, door: 'wuying' }, { regionId, imageId: id })
    await cancel(made.imageId)
    assert.equal(await at.image(made.imageId), undefined)
    assert.equal((await at.task(made.taskId)).state, 'cancelled')
    await assert.rejects(cancel(made.imageId), fault('absent', 'image'))
    await assert.rejects(cancel(imageId, HOME), fault('invalid', 'image', 'not-a-copy'))
    await assert.rejects(
      cancel(imageId, HOME),
      /^Fault: This image is no copy, so there is no copying to cancel\./,
    )
    const asked = { regionId: HOME, imageId }
    await assert.rejects(
      place.app.images.copyProgress(place.root, asked),
      /no copy, so it has no copy progress\./,
    )
    const done = firstOf((await at.copy()).copies)
    await at.endDone(done)
    await assert.rejects(cancel(done.imageId), fault('conflict', 'image'))
    const failed = firstOf((await at.copy()).copies)
    await at.end(failed, 'failed')
    await cancel(failed.imageId)
    assert.equal(await at.image(failed.imageId), undefined)
    assert.equal((await at.task(failed.taskId)).state, 'failed')
    assert.equal(await chargedBytes(at.rows(), place.root.defaultProjectId), 1)
  })

  test('only what is available is whole', async () => {
    const made = firstOf((await at.copy()).copies)
    const progress = () => place.app.images.copyProgress(place.root, made)
    const set = (progressPermille: number) =>
      at.rows().updateTable('image').set({ progressPermille }).where('id', '=', made.imageId).execute()
    assert.equal(await progress(), 0)
    await set(999)
    assert.equal(await progress(), 999)
    await at.endDone(made)
    assert.equal(await progress(), 1000)
    const failed = firstOf((await at.copy()).copies)
    await at.end(failed, 'failed')
    await assert.rejects(
      place.app.images.copyProgress(place.root, failed),
      /^Fault: The copy failed: As it was\.$/,
    )
  })
})
