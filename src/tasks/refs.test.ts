import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { ImageId, TaskId } from '../image/ids.ts'
import { parseLabel } from '../image/label.ts'
import { ensureRefs } from './ensure-refs.ts'
import { AWAY, digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'

const full = () => new Fault('full', 'No space is left.', { subject: 'store' })

describe('refs: who needs what is in the store', () => {
  let place: TaskPlace
  beforeEach(async () => {
    place = await newTaskPlace()
  })
  afterEach(() => place.close())

  const capture = async () => {
    const machineId = await place.machine('m')
    const imageId = await place.image('captured', { state: 'creating' })
    const input = { imageId, machineId, diskIds: [`d${machineId.slice(1)}`] }
    return { imageId, taskId: await place.begin({ kind: 'capture-image', imageId, machineId, input }) }
  }
  const copy = async (sourceId: ImageId, regionId = AWAY) => {
    const source = await place.catalog.rows
      .selectFrom('image')
      .selectAll()
      .where('id', '=', sourceId)
      .executeTakeFirstOrThrow()
    const imageId = await place.image('copy', { state: 'creating', regionId })
    const places = { sourceRegionId: source.regionId, targetRegionId: regionId }
    const input = { imageId, digest: source.digest, ...places, dataBytes: source.dataBytes }
    return { imageId, taskId: await place.begin({ kind: 'copy-image', imageId, regionId, input }) }
  }
  const release = async (imageId: ImageId, name: string): Promise<TaskId> => {
    await place.catalog.rows.deleteFrom('image').where('id', '=', imageId).execute()
    const input = { imageId, regionId: HOME, digest: digestOf(name) }
    return place.begin({ kind: 'release-image', input })
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

  test('a capture and a copy have theirs from the store on; its label tells the row', async () => {
    const captured = await capture()
    assert.equal((await place.ended(captured.taskId)).state, 'done')
    const copied = await copy(captured.imageId)
    assert.equal((await place.ended(copied.taskId)).state, 'done')
    const within = await copy(captured.imageId, HOME)
    assert.equal((await place.ended(within.taskId)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME).sort(), [captured.imageId, within.imageId].sort())
    assert.deepEqual(place.stores.holders(AWAY), [copied.imageId])
    const label = parseLabel(place.stores.refs.get(`${AWAY} ${copied.imageId}`)?.label)
    assert.equal(label.is, 'image')
    assert.deepEqual(
      [label.id, label.name, label.project, label.is === 'image' && label.dataBytes],
      [copied.imageId, 'copy', { id: PROJECT, name: 'default', isDefault: 1 }, 4096],
    )
  })

  test('what failed after the store had committed is released', async () => {
    place.stores.dataBytes = 100_000
    place.stores.measuredBytes = 10
    await place.catalog.rows.updateTable('project').set({ quotaBytes: 50_000 }).execute()
    const { taskId, imageId } = await capture()
    const { state, reason } = await place.ended(taskId)
    assert.equal(state, 'failed')
    assert.match(reason ?? '', /is charged 0 bytes, 100000 bytes more are wanted, and its quota is 50000/)
    assert.deepEqual(place.stores.holders(HOME), [])
    const row = await place.catalog.rows
      .selectFrom('image')
      .select(['state', 'reservedBytes'])
      .where('id', '=', imageId)
      .executeTakeFirstOrThrow()
    assert.deepEqual({ ...row }, { state: 'failed', reservedBytes: 0 })
  })

  test('a machine has one from before its disks are made until they are gone', async () => {
    await place.image('base')
    const machineId = await place.machine('m', { state: 'creating', digest: digestOf('base') })
    const launched = await place.begin({ kind: 'launch-machine', machineId, input: { machineId } })
    assert.equal((await place.ended(launched)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [machineId])
    const label = parseLabel(place.stores.refs.get(`${HOME} ${machineId}`)?.label)
    assert.ok(label.is === 'machine')
    assert.deepEqual([label.disks[0]?.base?.digest, label.details], [digestOf('base'), '{"a":true}'])
    const deleted = await place.begin({ kind: 'delete-machine', machineId, input: { machineId } })
    assert.equal((await place.ended(deleted)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [])
  })

  test('a launch whose image is not in the store leaves none', async () => {
    const machineId = await place.machine('m', { state: 'creating', digest: digestOf('gone') })
    const launched = await place.begin({ kind: 'launch-machine', machineId, input: { machineId } })
    assert.equal((await place.ended(launched)).state, 'failed')
    assert.deepEqual(place.stores.holders(HOME), [])
  })

  test('the release of a deleted image waits for copies and launches that were accepted before', async () => {
    const imageId = await place.image('source')
    await ensureRefs(place.parts, HOME, () => {})
    const pulling = gate('pull')
    const copied = await copy(imageId)
    const referring = gate('refer')
    const machineId = await place.machine('m', { state: 'creating', digest: digestOf('source') })
    const launched = await place.begin({ kind: 'launch-machine', machineId, input: { machineId } })
    await Promise.all([pulling.reached, referring.reached])
    const released = await release(imageId, 'source')
    // Another image goes at once, so that the one above had its turns.
    const other = await place.image('other')
    await place.ended(await release(other, 'other'))
    assert.deepEqual(place.stores.holders(HOME), [imageId])
    pulling.open()
    await place.ended(copied.taskId)
    assert.deepEqual(place.stores.holders(HOME), [imageId])
    referring.open()
    await place.ended(launched)
    assert.equal((await place.ended(released)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [machineId])
  })

  test('a release waits for a store that is full or away, and does not forget', async () => {
    const imageId = await place.image('source')
    await ensureRefs(place.parts, HOME, () => {})
    let tries = 0
    place.stores.gates.set('release', async () => {
      if (tries++ < 1) throw full()
    })
    assert.equal((await place.ended(await release(imageId, 'source'))).state, 'done')
    assert.deepEqual([tries, place.stores.holders(HOME)], [2, []])
  })

  test('the start gives rows without refs theirs, and takes none away', async () => {
    const imageId = await place.image('kept')
    await place.image('being made', { state: 'creating' })
    const standing = await place.machine('standing', { digest: digestOf('kept') })
    await place.machine('of its own')
    const failed = await place.machine('failed', { state: 'failed', digest: digestOf('kept') })
    const lost = await place.image('lost')
    place.stores.images.get(HOME)?.delete(digestOf('lost'))
    const stranger = { holder: 'z'.repeat(17), digests: [digestOf('kept')], label: {} }
    place.stores.refs.set(`${HOME} ${stranger.holder}`, stranger)
    assert.equal(await ensureRefs(place.parts, HOME, (one) => place.logged.push(one)), 2)
    const holders = [imageId, standing, stranger.holder].sort()
    assert.deepEqual(place.stores.holders(HOME).sort(), holders)
    assert.deepEqual(
      place.logged.map(({ holder }) => holder),
      [lost],
    )
    place.power.set(failed, 'stopped')
    assert.equal(await ensureRefs(place.parts, HOME, () => {}), 1)
    assert.deepEqual(place.stores.holders(HOME).sort(), [...holders, failed].sort())
  })

  test('verify names images and machines without a ref, and damage by image and name', async () => {
    const imageId = await place.image('golden')
    const machineId = await place.machine('m', { digest: digestOf('golden') })
    await place.machine('failed', { state: 'failed', digest: digestOf('gone') })
    const image = digestOf('golden')
    place.stores.problems = [{ message: 'Chunk x is damaged.', image, diskIndex: 0, offset: 4096 }]
    const verify = async () => {
      const id = await place.begin({ kind: 'verify-region', input: { regionId: HOME, deep: false } })
      return (await place.ended(id)).output.problems
    }
    assert.deepEqual(await verify(), [
      `image img-${imageId} 'golden', disk 0 at byte 4096: Chunk x is damaged.`,
      `I1: image ${imageId} is available and needs ${image}, which no ref of it keeps. Start the server again`,
      `I2: machine ${machineId} needs ${image}, which no ref of it keeps. Start the server again`,
    ])
    place.stores.problems = []
    await ensureRefs(place.parts, HOME, () => {})
    assert.deepEqual(await verify(), [])
    place.stores.images.get(HOME)?.clear()
    assert.match(String((await verify()) as string[]), /which the store does not hold/)
  })
})
