import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { DiskId, MachineId, SnapshotId, TaskId } from '../image/ids.ts'
import { GIB } from '../image/region.ts'
import { chargedBytes, chargeProblems } from '../tasks/quota.ts'
import { type AppPlace, AWAY, HOME, newAppPlace } from './fixture.ts'

const fault = (kind: Fault['kind'], subject: Fault['subject'], reason?: string) => (error: unknown) =>
  error instanceof Fault &&
  error.kind === kind &&
  error.subject === subject &&
  (reason === undefined || error.reason === reason)

const PAGE = { offset: 0, limit: 10 }
const empty = (sizeBytes: number) => ({ sizeBytes, category: '' })

describe('snapshots', () => {
  let place: AppPlace
  let machineId: MachineId
  beforeEach(async () => {
    place = await newAppPlace({ snapshotsPerRegionMax: 4 })
    const dataDisks = [{ ...empty(GIB), bus: 'virtio-scsi' as const }]
    machineId = await place.runningMachine(await place.availableImage('i'), { dataDisks })
  })
  afterEach(() => place.close())

  const create = (input: object = {}) =>
    place.app.snapshots.create(place.root, {
      ...{ regionId: HOME, machineId, disk: 'system' as const, name: 'before' },
      ...input,
    })
  const list = (filter: object = {}) =>
    place.app.snapshots.list(place.root, { regionId: HOME, ...filter }, PAGE)
  const remove = (snapshotIds: readonly SnapshotId[], input: object = {}) =>
    place.app.snapshots.remove(place.root, { regionId: HOME, snapshotIds, ...input })
  const reset = (snapshotId: SnapshotId, stopFirst = false) =>
    place.app.snapshots.reset(place.root, { regionId: HOME, snapshotId, stopFirst })
  const setTask = (id: TaskId, values: object) =>
    place.catalog.rows.updateTable('task').set(values).where('id', '=', id).execute()
  const setPower = (state: 'running' | 'stopped') => {
    place.power.set(machineId, state)
    return place.catalog.rows.updateTable('machine').set({ state }).where('id', '=', machineId).execute()
  }
  const disks = async () => {
    const filter = { regionId: HOME, ids: [machineId] }
    const { items } = await place.app.machines.list(place.root, filter, PAGE)
    return items[0]?.disks ?? []
  }

  test('one of a disk remembers the disk and the machine, and is made by a task', async () => {
    const { snapshotId, taskId } = await create({ disk: 'data', description: 'text' })
    const { total, items } = await list()
    const [snapshot] = items
    const [, data] = await disks()
    assert.equal(total, 1)
    assert.deepEqual(snapshot, {
      ...{ id: snapshotId, projectId: place.root.defaultProjectId, regionId: HOME },
      ...{ machineId, machineName: 'm', diskId: data?.id, osType: 'Linux', osName: '' },
      disk: { index: 1, sizeBytes: GIB, bus: 'virtio-scsi' },
      config: { firmware: 'bios', machineType: 'pc', cpuCount: 1, memoryBytes: GIB },
      ...{ name: 'before', description: 'text', creator: 'root', policyId: undefined, imageId: undefined },
      ...{ state: { at: 'creating', taskId }, progressPermille: 0, consistency: undefined },
      ...{ dataBytes: 0, storedBytes: 0, movedBytes: 0 },
      ...{ createdAtMs: place.nowMs, updatedAtMs: place.nowMs },
    })
    const task = await place.app.tasks.get(place.root, taskId)
    assert.deepEqual(
      [task.kind, task.snapshotId, task.machineId, task.imageId],
      ['create-snapshot', snapshotId, machineId, undefined],
    )
    const { input } = await place.catalog.rows
      .selectFrom('task')
      .select('input')
      .where('id', '=', taskId)
      .executeTakeFirstOrThrow()
    const outputs = [{ is: 'snapshot', id: snapshotId, diskIds: [data?.id] }]
    assert.deepEqual(JSON.parse(input), { machineId, wanted: 'best', outputs })
  })

  test('a disk that is not there, or not told apart, is refused', async () => {
    await assert.rejects(create({ disk: { id: 'z'.repeat(17) as DiskId } }), fault('absent', 'disk'))
    const imageId = await place.availableImage('other')
    const without = await place.runningMachine(imageId)
    await assert.rejects(create({ machineId: without, disk: 'data' }), fault('absent', 'disk'))
    const dataDisks = [empty(512), empty(512)]
    const several = await place.runningMachine(imageId, { dataDisks })
    await assert.rejects(
      create({ machineId: several, disk: 'data' }),
      fault('invalid', 'disk', 'several-disks'),
    )
    await create({ disk: { id: (await disks())[1]?.id } })
  })

  test('what a capture is refused for, a snapshot is refused for', async () => {
    await assert.rejects(create({ machineId: 'z'.repeat(17) as MachineId }), fault('absent', 'machine'))
    await assert.rejects(create({ regionId: AWAY }), fault('absent', 'machine'))
    await assert.rejects(create({ name: ' blank' }), fault('invalid', 'name'))
    place.outlook = () => ({ consistency: 'crash', consistencyWhy: 'No guest agent answers.' })
    const message = /only 'crash'\. No guest agent answers\. Shut the machine down first, or ask for less\.$/
    const refusal = { kind: 'conflict', subject: 'machine', reason: 'consistency', message }
    await assert.rejects(create({ consistency: 'filesystem' }), refusal)
    const { projectId } = await place.app.projects.create(place.root, 'second')
    await assert.rejects(create({ projectId }), fault('absent', 'machine'))
    await place.app.projects.setQuota(place.root, place.root.defaultProjectId, 1)
    await assert.rejects(create(), fault('full', 'project', 'quota'))
    await place.app.projects.setQuota(place.root, place.root.defaultProjectId, null)
    for (const state of ['creating', 'starting', 'stopping', 'failed', 'deleting']) {
      await place.catalog.rows.updateTable('machine').set({ state }).where('id', '=', machineId).execute()
      await assert.rejects(create(), fault('conflict', 'machine'))
    }
    await setPower('stopped')
    await create({ consistency: 'crash' })
  })

  test('a level that is demanded is not refused by a host that is away', async () => {
    place.outlook = () => {
      throw new Fault('unavailable', 'The host does not answer.', { subject: 'host' })
    }
    await create({ consistency: 'application' })
  })

  test('there are only so many, and machines are captured or reset one at a time', async () => {
    for (let i = 0; i < 3; i++) await place.availableSnapshot(machineId, 0)
    const { taskId } = await create()
    const again = fault('conflict', 'machine', 'capturing')
    await assert.rejects(create(), again)
    const capture = { regionId: HOME, machineId, disks: 'all' as const }
    await assert.rejects(place.app.images.capture(place.root, capture), again)
    await setPower('stopped')
    const machineIds = [machineId]
    await assert.rejects(place.app.machines.start(place.root, { regionId: HOME, machineIds }), again)
    const { items } = await list({ states: ['available'] })
    await assert.rejects(reset(items[0]?.id as SnapshotId), again)
    await place.app.tasks.cancel(place.root, taskId)
    await assert.rejects(create(), fault('full', 'snapshot'))
  })

  test('are listed by every filter, newest first', async () => {
    const first = await place.availableSnapshot(machineId, 0, { name: 'first' })
    const betweenMs = place.nowMs + 1
    const second = await place.availableSnapshot(machineId, 1, { name: 'second' })
    await place.catalog.rows
      .updateTable('snapshot')
      .set({ policyId: 'p'.repeat(17), creator: 'ada', osType: 'Windows', machineName: 'desk' })
      .where('id', '=', second.snapshotId)
      .execute()
    const ids = async (filter: object) => (await list(filter)).items.map(({ id }) => id)
    assert.deepEqual(await ids({}), [second.snapshotId, first.snapshotId])
    assert.deepEqual(await ids({ ids: [first.snapshotId] }), [first.snapshotId])
    for (const [which, other] of [
      [{ name: 'first' }, { name: 'second' }],
      [{ creator: 'root' }, { creator: 'ada' }],
      [{ osType: 'Linux' }, { osType: 'Windows' }],
      [{ disk: 'system' }, { disk: 'data' }],
      [{ madeBy: 'user' }, { madeBy: 'policy' }],
      [{ machineName: 'm' }, { machineName: 'desk' }],
      [{ untilMs: betweenMs }, { fromMs: betweenMs }],
    ]) {
      assert.deepEqual(await ids(which ?? {}), [first.snapshotId])
      assert.deepEqual(await ids(other ?? {}), [second.snapshotId])
    }
    assert.equal((await list({ machineIds: [machineId], states: ['available'] })).total, 2)
    for (const none of [{ ids: [] }, { machineIds: [] }, { states: [] }, { regionId: AWAY }]) {
      assert.deepEqual(await list(none), { total: 0, items: [] })
    }
    const { projectId } = await place.app.projects.create(place.root, 'second')
    assert.equal((await list({ projectId })).total, 0)
  })

  test('go all or none, and leave tasks that let go of what they held', async () => {
    const one = await place.availableSnapshot(machineId, 0)
    const other = await place.availableSnapshot(machineId, 1)
    const unknown = 'z'.repeat(17) as SnapshotId
    await assert.rejects(remove([one.snapshotId, unknown]), fault('absent', 'snapshot'))
    const { projectId } = await place.app.projects.create(place.root, 'second')
    await assert.rejects(remove([one.snapshotId], { projectId }), fault('absent', 'snapshot'))
    await remove([], { ignoreUnknown: true })
    assert.equal((await list()).total, 2)
    await remove([one.snapshotId, unknown, one.snapshotId, other.snapshotId], { ignoreUnknown: true })
    assert.equal((await list()).total, 0)
    const releases = await place.catalog.rows
      .selectFrom('task')
      .select(['input', 'snapshotId'])
      .where('kind', '=', 'release-image')
      .orderBy('createdAtMs')
      .execute()
    const inputs = [one, other].map(({ snapshotId, digest }) => {
      return { holder: snapshotId, regionId: HOME, digest }
    })
    assert.deepEqual(
      new Set(releases.map(({ input }) => input)),
      new Set(inputs.map((i) => JSON.stringify(i))),
    )
    assert.deepEqual(
      new Set(releases.map((task) => task.snapshotId)),
      new Set([one.snapshotId, other.snapshotId]),
    )
  })

  test('one being made is cancelled, unless its task makes another as well', async () => {
    const { snapshotId, taskId } = await create()
    const brother = await place.availableSnapshot(machineId, 1)
    await place.catalog.rows
      .updateTable('snapshot')
      .set({ state: 'creating', taskId })
      .where('id', '=', brother.snapshotId)
      .execute()
    const stateOf = async () => (await place.app.tasks.get(place.root, taskId)).state.at
    await remove([brother.snapshotId])
    assert.notEqual(await stateOf(), 'cancelled')
    await remove([snapshotId])
    assert.equal(await stateOf(), 'cancelled')
  })

  test('one that belongs to an image goes with it and not before', async () => {
    const linkedDiskIds = [(await disks())[1]?.id as DiskId]
    const wish = { regionId: HOME, machineId, disks: 'system' as const, name: 'golden', linkedDiskIds }
    const { imageId, taskId, snapshotIds } = await place.app.images.capture(place.root, wish)
    const [snapshotId] = snapshotIds
    assert.ok(snapshotId !== undefined)
    const { items } = await list()
    assert.deepEqual([items[0]?.imageId, items[0]?.name, items[0]?.state.at], [imageId, 'golden', 'creating'])
    const image = await place.app.images.get(place.root, { regionId: HOME, imageId })
    assert.deepEqual(image.snapshotIds, [snapshotId])
    await assert.rejects(remove([snapshotId]), fault('conflict', 'snapshot', 'linked'))
    await place.app.images.remove(place.root, { regionId: HOME, imageIds: [imageId] })
    assert.equal((await list()).total, 0)
    assert.equal((await place.app.tasks.get(place.root, taskId)).state.at, 'cancelled')
    // Both available: both are let go of.
    const made = await place.availableImage('golden')
    const linked = await place.availableSnapshot(machineId, 1, { imageId: made })
    const alone = await place.availableSnapshot(machineId, 1, { imageId })
    await place.app.images.remove(place.root, { regionId: HOME, imageIds: [made] })
    const releases = await place.catalog.rows
      .selectFrom('task')
      .select('input')
      .where('kind', '=', 'release-image')
      .execute()
    assert.deepEqual(
      new Set(releases.map(({ input }) => JSON.parse(input).holder)),
      new Set([linked.snapshotId, made]),
    )
    // Its image was restored by nobody, so it belongs to none.
    await remove([alone.snapshotId])
  })

  test('are charged like images (I7)', async () => {
    const { projectId } = await place.app.projects.create(place.root, 'second')
    const charged = (id = place.root.defaultProjectId) => chargedBytes(place.catalog.rows, id)
    const before = await charged()
    const { snapshotId } = await place.availableSnapshot(machineId, 0, { dataBytes: 4000 })
    assert.deepEqual([await charged(), await charged(projectId)], [before + 4000, 0])
    const { snapshotId: making } = await create()
    await place.catalog.rows
      .updateTable('snapshot')
      .set({ reservedBytes: 500 })
      .where('id', '=', making)
      .execute()
    assert.equal(await charged(), before + 4500)
    await remove([snapshotId])
    assert.equal(await charged(), before + 500)
    await place.app.projects.setQuota(place.root, place.root.defaultProjectId, 1)
    await place.catalog.rows.updateTable('snapshot').set({ reservedBytes: 501 }).execute()
    assert.match((await chargeProblems(place.catalog.rows, HOME)).join(), /^I7: project \S+ is charged 502/)
    await place.catalog.rows.updateTable('snapshot').set({ state: 'failed' }).execute()
    assert.deepEqual(await chargeProblems(place.catalog.rows, HOME), [
      `I7: snapshot ${making} is not being made and reserves bytes`,
    ])
  })

  test('a disk is reset while its machine is stopped, or stopped for it', async () => {
    const { snapshotId, digest, diskId } = await place.availableSnapshot(machineId, 1)
    await assert.rejects(reset(snapshotId), fault('conflict', 'machine', 'reset'))
    const { taskId } = await reset(snapshotId, true)
    const machineState = async () =>
      (await place.app.machines.list(place.root, { regionId: HOME }, PAGE)).items[0]?.state
    assert.equal(await machineState(), 'stopping')
    const inputOf = async (id: TaskId) =>
      JSON.parse(
        (
          await place.catalog.rows
            .selectFrom('task')
            .select('input')
            .where('id', '=', id)
            .executeTakeFirstOrThrow()
        ).input,
      )
    assert.deepEqual(await inputOf(taskId), { snapshotId, machineId, diskId, digest, stops: true })
    // It ends by itself: half a reset would be worse than either content.
    await assert.rejects(place.app.tasks.cancel(place.root, taskId), fault('conflict', 'task'))
    await setPower('stopped')
    const again = fault('conflict', 'machine', 'capturing')
    await assert.rejects(reset(snapshotId), again)
    const machineIds = [machineId]
    await assert.rejects(place.app.machines.start(place.root, { regionId: HOME, machineIds }), again)
    await setTask(taskId, { state: 'done', endedAtMs: 1 })
    const { taskId: second } = await reset(snapshotId, true)
    assert.equal((await inputOf(second)).stops, false)
    assert.equal(await machineState(), 'stopped')
  })

  test('only what is available is reset to, and only while the machine is there', async () => {
    await setPower('stopped')
    await assert.rejects(reset('z'.repeat(17) as SnapshotId), fault('absent', 'snapshot'))
    const { snapshotId, taskId } = await create()
    await assert.rejects(reset(snapshotId), fault('conflict', 'snapshot'))
    await setTask(taskId, { state: 'done', endedAtMs: 1 })
    const made = { state: 'available', digest: 'e'.repeat(64) }
    await place.catalog.rows.updateTable('snapshot').set(made).execute()
    for (const state of ['creating', 'failed', 'starting']) {
      await place.catalog.rows.updateTable('machine').set({ state }).where('id', '=', machineId).execute()
      await assert.rejects(reset(snapshotId, true), fault('conflict', 'machine', 'reset'))
    }
    await place.catalog.rows.deleteFrom('machine').where('id', '=', machineId).execute()
    const gone = /^The machine of this snapshot is gone; make an image of the snapshot instead/
    await assert.rejects(reset(snapshotId), { kind: 'absent', subject: 'machine', message: gone })
  })

  test('whose guest switched itself off needs not be stopped', async () => {
    const { snapshotId } = await place.availableSnapshot(machineId, 0)
    place.power.set(machineId, 'stopped')
    await reset(snapshotId)
  })

  describe('a reset needs rights on the machine too', () => {
    const DENIED = [
      ['native', ['calotype:ResetDisk'], 'calotype:*:machine/vm-', 'calotype:ResetDisk'],
      ['native', ['calotype:StopMachine'], 'calotype:*:machine/vm-', 'calotype:StopMachine'],
      ['wuying', ['ecd:ResetSnapshot'], 'ecd:*:desktop/ecd-', 'ecd:ResetSnapshot'],
      ['wuying', ['ecd:StopDesktops'], 'ecd:*:desktop/ecd-', 'ecd:StopDesktops'],
    ] as const
    for (const [door, actions, resource, field] of DENIED) {
      test(`${field}, or what is running is left as it is`, async () => {
        const { snapshotId } = await place.availableSnapshot(machineId, 0)
        const { keyId } = await place.app.users.create(place.root, 'ada')
        const others = 'z'.repeat(17)
        const policy = (id: string) =>
          place.app.users.putPolicy(place.root, 'mostly', {
            Version: '1',
            Statement: [
              { Effect: 'Allow', Action: '*', Resource: '*' },
              { Effect: 'Deny', Action: actions, Resource: `*:${resource}${id}` },
            ],
          })
        await policy(machineId)
        await place.app.users.attach(place.root, 'ada', 'mostly')
        const ada = await place.caller(keyId, door)
        const wish = { regionId: HOME, snapshotId, stopFirst: true }
        await assert.rejects(place.app.snapshots.reset(ada, wish), (error: Fault) => {
          assert.equal(error.field, field)
          return fault('denied', 'policy', 'explicit')(error)
        })
        const { items } = await place.app.machines.list(place.root, { regionId: HOME }, PAGE)
        assert.equal(items[0]?.state, 'running')
        await policy(others)
        await place.app.snapshots.reset(ada, wish)
      })
    }

    test('none to stop what is stopped already', async () => {
      const { snapshotId } = await place.availableSnapshot(machineId, 0)
      const { keyId } = await place.app.users.create(place.root, 'ada')
      await place.app.users.putPolicy(place.root, 'resets', {
        Version: '1',
        Statement: [{ Effect: 'Allow', Action: 'calotype:ResetDisk', Resource: '*' }],
      })
      await place.app.users.attach(place.root, 'ada', 'resets')
      const ada = await place.caller(keyId)
      const wish = { regionId: HOME, snapshotId, stopFirst: true }
      await assert.rejects(place.app.snapshots.reset(ada, wish), fault('denied', 'policy', 'implicit'))
      await setPower('stopped')
      await place.app.snapshots.reset(ada, wish)
    })
  })

  test('policies speak of snapshots by their ids', async () => {
    const { snapshotId } = await place.availableSnapshot(machineId, 0)
    const other = await place.availableSnapshot(machineId, 1)
    const { keyId } = await place.app.users.create(place.root, 'ada')
    await place.app.users.putPolicy(place.root, 'one', {
      Version: '1',
      Statement: [
        {
          Effect: 'Allow',
          Action: 'ecd:DeleteSnapshot',
          Resource: `acs:ecd:*:*:snapshot/s-${snapshotId}`,
        },
      ],
    })
    await place.app.users.attach(place.root, 'ada', 'one')
    const ada = await place.caller(keyId, 'wuying')
    const both = { regionId: HOME, snapshotIds: [snapshotId, other.snapshotId] }
    await assert.rejects(place.app.snapshots.remove(ada, both), fault('denied', 'policy', 'implicit'))
    await place.app.snapshots.remove(ada, { regionId: HOME, snapshotIds: [snapshotId] })
  })
})
