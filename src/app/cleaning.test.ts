import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { reportOf } from '../cleaning/fixture.ts'
import { createSigner } from '../cleaning/signature.ts'
import { CLEAN_ALL } from '../image/cleaning.ts'
import { isFault } from '../image/fault.ts'
import type { ImageId, TaskId } from '../image/ids.ts'
import { type AppPlace, HOME, newAppPlace } from './fixture.ts'

const refuses = (kind: string, subject: string, reason?: string) => (error: unknown) =>
  isFault(error) && error.kind === kind && error.subject === subject && error.reason === reason

describe('images without private data', () => {
  let place: AppPlace
  let imageId: ImageId
  beforeEach(async () => {
    place = await newAppPlace({ secrets: 'refuse' })
    imageId = await place.availableImage('golden')
  })
  afterEach(() => place.close())

  const input = async (taskId: TaskId) => {
    const query = place.catalog.rows.selectFrom('task').select(['kind', 'input']).where('id', '=', taskId)
    const row = await query.executeTakeFirstOrThrow()
    return { kind: row.kind, ...JSON.parse(row.input) }
  }
  /** The operator's setting is stricter than the wish. */
  const strict = { ...CLEAN_ALL, onSecrets: 'refuse' }

  test('from one that is there: a new one, which has the other for its parent', async () => {
    const source = await place.app.images.get(place.root, { regionId: HOME, imageId })
    const made = await place.app.images.clean(place.root, { regionId: HOME, imageId, clean: CLEAN_ALL })
    const image = await place.app.images.get(place.root, { regionId: HOME, imageId: made.imageId })
    assert.ok(source.state.at === 'available')
    assert.deepEqual(
      [image.name, image.origin, image.sourceImageId, image.parent, image.state.at],
      ['golden-clean', 'clean', imageId, source.state.digest, 'creating'],
    )
    const { kind, clean, parent, disks } = await input(made.taskId)
    assert.deepEqual([kind, clean, parent], ['clean-image', strict, source.state.digest])
    assert.deepEqual(disks, [{ digest: source.state.digest, diskIndex: 0, bus: 'virtio-blk', dataBytes: 0 }])
    const again = { regionId: HOME, imageId: made.imageId, clean: CLEAN_ALL }
    await assert.rejects(place.app.images.clean(place.root, again), refuses('conflict', 'image'))
  })

  test('the plan of one is a task of its own, and makes no image', async () => {
    const { taskId } = await place.app.images.planClean(place.root, {
      ...{ regionId: HOME, imageId, clean: CLEAN_ALL },
    })
    const { kind, clean } = await input(taskId)
    assert.deepEqual([kind, clean], ['plan-clean', strict])
    const { total } = await place.app.images.list(place.root, { regionId: HOME }, { offset: 0, limit: 9 })
    assert.equal(total, 1)
  })

  test('a capture and a composition carry the wish; snapshots beside a cleaned image are refused', async () => {
    const machineId = await place.runningMachine(imageId)
    const wish = { regionId: HOME, machineId, disks: 'all', clean: CLEAN_ALL } as const
    const planned = await place.app.images.plan(place.root, { ...wish, linkedDiskIds: ['x' as never] })
    const { blockers, clean } = await input(planned.taskId)
    assert.deepEqual(clean, strict)
    assert.ok(blockers.some((text: string) => text.includes('takes no snapshots')))
    await place.runner.cancel(planned.taskId)
    const linked = place.app.images.capture(place.root, { ...wish, linkedDiskIds: ['x' as never] })
    await assert.rejects(linked, refuses('invalid', 'disk', 'clean-with-snapshots'))
    const made = await place.app.images.capture(place.root, wish)
    assert.deepEqual((await input(made.taskId)).clean, strict)
    await place.runner.cancel(made.taskId)
    const { snapshotId, digest } = await place.availableSnapshot(machineId, 0)
    const composed = await place.app.images.compose(place.root, {
      ...{ regionId: HOME, snapshotIds: [snapshotId], clean: CLEAN_ALL },
    })
    const { kind, parent, ...task } = await input(composed.taskId)
    assert.deepEqual([kind, parent, task.clean], ['clean-image', digest, strict])
  })

  test('the report of one that was cleaned, and none of one that was not', async () => {
    const report = () => place.app.images.report(place.root, { regionId: HOME, imageId })
    await assert.rejects(report(), refuses('absent', 'image', 'no-report'))
    const signed = createSigner(new Uint8Array(32))(reportOf({ wish: CLEAN_ALL, isDryRun: false }))
    place.report = signed
    assert.deepEqual(await report(), signed)
  })
})
