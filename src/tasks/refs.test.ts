import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId, TaskId } from '../image/ids.ts'
import { parseLabel } from '../image/label.ts'
import { ensureRefs } from './ensure-refs.ts'
import { AWAY, CONFIG, digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'

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
    const outputs = [{ is: 'image', id: imageId, diskIds: [`d${machineId.slice(1)}`] }]
    const input = { machineId, wanted: 'best', outputs }
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
    // As tasks of before there were snapshots have it; the others are in tests of their own.
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

  test('the snapshots of a capture have theirs as well, and one that is deleted is released', async () => {
    const machineId = await place.machine('m')
    const imageId = await place.image('golden', { state: 'creating' })
    const snapshotId = await place.snapshot(machineId, 'linked', { state: 'creating', imageId })
    const diskIds = [`d${machineId.slice(1)}`]
    const outputs = [
      { is: 'image', id: imageId, diskIds },
      { is: 'snapshot', id: snapshotId, diskIds },
    ]
    const input = { machineId, wanted: 'best', outputs }
    const taskId = await place.begin({ kind: 'capture-image', imageId, machineId, input })
    assert.equal((await place.ended(taskId)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME).sort(), [imageId, snapshotId].sort())
    const label = parseLabel(place.stores.refs.get(`${HOME} ${snapshotId}`)?.label)
    assert.ok(label.is === 'snapshot')
    assert.deepEqual(
      [label.id, label.imageId, label.machineId, label.diskId, label.config],
      [snapshotId, imageId, machineId, diskIds[0], CONFIG],
    )
    const row = await place.catalog.rows
      .selectFrom('snapshot')
      .select(['state', 'digest', 'dataBytes', 'reservedBytes', 'consistency', 'progressPermille'])
      .where('id', '=', snapshotId)
      .executeTakeFirstOrThrow()
    const digest = digestOf(`${taskId} 1`)
    assert.deepEqual(
      { ...row },
      {
        ...{ state: 'available', digest, dataBytes: 4096, reservedBytes: 0 },
        ...{ consistency: 'filesystem', progressPermille: 1000 },
      },
    )
    const release = { holder: snapshotId, regionId: HOME, digest }
    const releasing = { kind: 'release-image', snapshotId, input: release } as const
    assert.equal((await place.ended(await place.begin(releasing))).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [imageId])
  })

  test('the release of a snapshot waits for a reset to it', async () => {
    const machineId = await place.machine('m')
    const snapshotId = await place.snapshot(machineId, 'before')
    const digest = digestOf('before')
    await ensureRefs(place.parts, HOME, () => {})
    const opened = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    place.gates.set('replaceDisk', () => {
      reached.resolve()
      return opened.promise
    })
    const disk = { snapshotId, machineId, diskId: `d${machineId.slice(1)}`, digest, stops: false }
    const reset = await place.begin({ kind: 'reset-disk', snapshotId, machineId, input: disk })
    await reached.promise
    await place.catalog.rows.deleteFrom('snapshot').where('id', '=', snapshotId).execute()
    const input = { holder: snapshotId, regionId: HOME, digest }
    const released = await place.begin({ kind: 'release-image', snapshotId, input })
    // Another content goes at once, so that the one above had its turns.
    const other = await place.image('other')
    await place.ended(await release(other, 'other'))
    assert.deepEqual(place.stores.holders(HOME).sort(), [machineId, snapshotId].sort())
    opened.resolve()
    assert.equal((await place.ended(reset)).state, 'done')
    assert.equal((await place.ended(released)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [machineId])
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
    const other = 'm'.repeat(17)
    await place.catalog.rows
      .insertInto('snapshotPolicy')
      .values({
        ...{ id: 'p'.repeat(17), projectId: PROJECT, regionId: HOME, name: 'nightly', cron: '0 3 * * *' },
        ...{ timeZone: 'UTC', keepCount: 7, disks: 'all', isEnabled: 1, lastDueAtMs: null, createdAtMs: 1 },
        ...{ machineIds: JSON.stringify([machineId, other]), waitingMachineIds: '[]', creator: 'root' },
      })
      .execute()
    for (const id of [machineId, other]) {
      const disk = { diskId: `d${id.slice(1)}`, machineId: id, regionId: HOME, captureKey: 'k' }
      const content = { digest: digestOf('base'), diskIndex: 0, sizeBytes: 512, atMs: 1 }
      await place.catalog.rows
        .insertInto('baseline')
        .values({ ...disk, ...content })
        .execute()
    }
    const deleted = await place.begin({ kind: 'delete-machine', machineId, input: { machineId } })
    assert.equal((await place.ended(deleted)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [])
    const policies = await place.catalog.rows.selectFrom('snapshotPolicy').select('machineIds').execute()
    assert.deepEqual(
      policies.map(({ machineIds }) => JSON.parse(machineIds)),
      [[other]],
    )
    const baselines = await place.catalog.rows.selectFrom('baseline').select('machineId').execute()
    assert.deepEqual(
      baselines.map((row) => row.machineId),
      [other],
    )
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
    const snapshotId = await place.snapshot(standing, 'snapshot')
    await place.snapshot(standing, 'snapshot being made', { state: 'creating' })
    const lost = await place.image('lost')
    place.stores.images.get(HOME)?.delete(digestOf('lost'))
    const stranger = { holder: 'z'.repeat(17), digests: [digestOf('kept')], label: {} }
    place.stores.refs.set(`${HOME} ${stranger.holder}`, stranger)
    assert.equal(await ensureRefs(place.parts, HOME, (one) => place.logged.push(one)), 3)
    const holders = [imageId, standing, snapshotId, stranger.holder].sort()
    assert.deepEqual(place.stores.holders(HOME).sort(), holders)
    assert.deepEqual(
      place.logged.map(({ holder }) => holder),
      [lost],
    )
    place.power.set(failed, 'stopped')
    assert.equal(await ensureRefs(place.parts, HOME, () => {}), 1)
    assert.deepEqual(place.stores.holders(HOME).sort(), [...holders, failed].sort())
  })

  describe('refs to something else than the rows say, as beside a catalog of yesterday', () => {
    const NEW = digestOf('new')
    const OLD = digestOf('old')
    let ids: { readonly image: string; readonly machine: string; readonly snapshot: string }
    beforeEach(async () => {
      await ensureRefs(place.parts, HOME, () => {})
      place.stores.hold(HOME, NEW)
      const image = await place.image('old')
      const machine = await place.machine('m', { digest: OLD })
      const snapshot = await place.snapshot(machine, 'before', { digest: OLD })
      ids = { image, machine, snapshot }
      for (const holder of Object.values(ids)) refer(holder, NEW)
    })
    const refer = (holder: string, ...digests: Digest[]) =>
      place.stores.refs.set(`${HOME} ${holder}`, { holder, digests, label: {} })
    const digestsOf = (holder: string) => place.stores.refs.get(`${HOME} ${holder}`)?.digests
    const verify = async () => {
      const id = await place.begin({ kind: 'verify-region', input: { regionId: HOME, deep: false } })
      return (await place.ended(id)).output.problems
    }

    test('verify names them', async () => {
      const why = `needs ${OLD}, which no ref of it keeps. Start the server again`
      assert.deepEqual(await verify(), [
        `I1: image ${ids.image} is available and ${why}`,
        `I1: snapshot ${ids.snapshot} is available and ${why}`,
        `I2: machine ${ids.machine} ${why}`,
      ])
    })

    test('they grow to both, and let nothing go', async () => {
      assert.equal(await ensureRefs(place.parts, HOME, () => {}), 3)
      for (const id of Object.values(ids)) assert.deepEqual(digestsOf(id), [NEW, OLD])
      assert.deepEqual(await verify(), [])
      assert.equal(await ensureRefs(place.parts, HOME, () => {}), 0)
    })

    test('where what the row says is lost, the ref stays as it is', async () => {
      place.stores.images.get(HOME)?.delete(OLD)
      assert.equal(await ensureRefs(place.parts, HOME, (one) => place.logged.push(one)), 0)
      for (const id of Object.values(ids)) assert.deepEqual(digestsOf(id), [NEW])
      assert.deepEqual(
        place.logged.map(({ holder }) => holder),
        [ids.image, ids.snapshot, ids.machine],
      )
    })

    test('a reset that ends meanwhile keeps what it made', async () => {
      const later = digestOf('later')
      place.stores.hold(HOME, later)
      for (const id of [ids.image, ids.snapshot]) refer(id, OLD)
      // The refs were looked at, and the machine's is about to be written.
      place.stores.gates.set('refer', async () => {
        place.stores.gates.clear()
        refer(ids.machine, later)
        const { disks } = await place.catalog.rows
          .selectFrom('machine')
          .select('disks')
          .executeTakeFirstOrThrow()
        const now = disks.replace(OLD, later)
        await place.catalog.rows.updateTable('machine').set({ disks: now }).execute()
      })
      assert.equal(await ensureRefs(place.parts, HOME, () => {}), 1)
      assert.deepEqual(digestsOf(ids.machine), [NEW, OLD, later])
    })
  })

  test('verify names images and machines without a ref, and damage by image and name', async () => {
    const imageId = await place.image('golden')
    const machineId = await place.machine('m', { digest: digestOf('golden') })
    await place.machine('failed', { state: 'failed', digest: digestOf('gone') })
    const snapshotId = await place.snapshot(machineId, 'before', { digest: digestOf('golden') })
    const image = digestOf('golden')
    place.stores.problems = [{ message: 'Chunk x is damaged.', image, diskIndex: 0, offset: 4096 }]
    const verify = async () => {
      const id = await place.begin({ kind: 'verify-region', input: { regionId: HOME, deep: false } })
      return (await place.ended(id)).output.problems
    }
    assert.deepEqual(await verify(), [
      `image img-${imageId} 'golden', disk 0 at byte 4096: Chunk x is damaged.`,
      `snapshot snap-${snapshotId} 'before', disk 0 at byte 4096: Chunk x is damaged.`,
      `I1: image ${imageId} is available and needs ${image}, which no ref of it keeps. Start the server again`,
      `I1: snapshot ${snapshotId} is available and needs ${image}, which no ref of it keeps. Start the server again`,
      `I2: machine ${machineId} needs ${image}, which no ref of it keeps. Start the server again`,
    ])
    place.stores.problems = []
    await ensureRefs(place.parts, HOME, () => {})
    assert.deepEqual(await verify(), [])
    await place.catalog.rows.updateTable('snapshot').set({ progressPermille: 999 }).execute()
    assert.deepEqual(await verify(), [`I8: snapshot ${snapshotId} is available below 100 %`])
    place.stores.images.get(HOME)?.clear()
    assert.match(String((await verify()) as string[]), /which the store does not hold/)
  })
})
