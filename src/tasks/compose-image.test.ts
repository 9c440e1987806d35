import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { ImageId, TaskId } from '../image/ids.ts'
import { parseLabel } from '../image/label.ts'
import type { ComposeInput } from './compose-image.ts'
import { CONFIG, digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'
import { chargedBytes } from './quota.ts'

describe('an image composed of snapshots', () => {
  let place: TaskPlace
  let imageId: ImageId
  beforeEach(async () => {
    place = await newTaskPlace()
    const machineId = await place.machine('m')
    await place.snapshot(machineId, 'system')
    await place.snapshot(machineId, 'data')
    imageId = await place.image('composed', { state: 'creating' })
    await place.catalog.rows.updateTable('image').set({ reservedBytes: 8192 }).execute()
  })
  afterEach(() => place.close())

  const compose = (): Promise<TaskId> => {
    const disk = { diskIndex: 0, bus: 'virtio-scsi', dataBytes: 4096 } as const
    const input: ComposeInput = {
      imageId,
      disks: [
        { ...disk, digest: digestOf('system') },
        { ...disk, digest: digestOf('data') },
      ],
      consistency: 'filesystem',
    }
    return place.begin({ kind: 'compose-image', imageId, input })
  }
  const row = () =>
    place.catalog.rows.selectFrom('image').selectAll().where('id', '=', imageId).executeTakeFirst()
  const charged = () => chargedBytes(place.catalog.rows, PROJECT)

  test('has their content, its own ref, and what was promised of it', async () => {
    place.stores.parents.set(digestOf('system'), digestOf('parent'))
    place.stores.parents.set(digestOf('data'), digestOf('another'))
    const before = await charged()
    const id = await compose()
    const { state, output } = await place.ended(id)
    const { ref, ...job } = place.stores.composed[0] ?? assert.fail('it was composed')
    assert.deepEqual(job, {
      ...{ regionId: HOME, sessionId: id, domain: PROJECT, consistency: 'filesystem' },
      ...{ config: CONFIG, os: { type: 'linux', name: '' } },
      disks: [digestOf('system'), digestOf('data')].map((digest) => {
        return { digest, diskIndex: 0, bus: 'virtio-scsi', dataBytes: 4096 }
      }),
    })
    const label = parseLabel(ref.label)
    assert.ok(label.is === 'image')
    assert.deepEqual([label.id, label.dataBytes], [imageId, 8192])
    assert.deepEqual([state, output.digest], ['done', digestOf(id)])
    const made = await row()
    assert.deepEqual(
      [made?.state, made?.consistency, made?.parent, made?.dataBytes, made?.reservedBytes],
      ['available', 'filesystem', digestOf('parent'), 8192, 0],
    )
    assert.deepEqual(place.stores.holders(HOME), [imageId])
    assert.equal(await charged(), before)
  })

  for (const call of ['compose', 'composed']) {
    test(`composed again by the next process when one ends at '${call}'`, async () => {
      const reached = Promise.withResolvers<void>()
      const opened = Promise.withResolvers<void>()
      place.stores.gates.set(call, () => {
        reached.resolve()
        return opened.promise
      })
      const id = await compose()
      await reached.promise
      const restarted = place.restart()
      place.stores.gates.clear()
      opened.reject(new Error('the process ended here'))
      await restarted
      assert.equal((await place.ended(id)).state, 'done')
      assert.deepEqual([(await row())?.state, place.stores.holders(HOME)], ['available', [imageId]])
    })

    test(`is charged nothing and kept by nobody when it fails at '${call}'`, async () => {
      const before = (await charged()) - 8192
      place.stores.gates.set(call, async () => {
        throw new Fault('full', 'No space is left.')
      })
      assert.equal((await place.ended(await compose())).state, 'failed')
      const failed = await row()
      assert.deepEqual([failed?.state, failed?.reason], ['failed', 'No space is left.'])
      assert.deepEqual([await charged(), place.stores.holders(HOME)], [before, []])
    })
  }

  test('the release of a snapshot that it is made of waits for it', async () => {
    const reached = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<void>()
    place.stores.gates.set('compose', () => {
      reached.resolve()
      return opened.promise
    })
    const composed = await compose()
    await reached.promise
    const input = { holder: 's'.repeat(17), regionId: HOME, digest: digestOf('data') }
    await place.parts.jobs.refer(HOME, { ...input, label: {}, digests: [digestOf('data')] })
    const released = await place.begin({ kind: 'release-image', input })
    // Another content goes at once, so that the one above had its turns.
    await place.image('other')
    const other = { holder: 'o'.repeat(17), regionId: HOME, digest: digestOf('other') }
    await place.ended(await place.begin({ kind: 'release-image', input: other }))
    assert.deepEqual(place.stores.holders(HOME), [input.holder])
    opened.resolve()
    assert.equal((await place.ended(composed)).state, 'done')
    assert.equal((await place.ended(released)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [imageId])
  })
})
