import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { DiskId, MachineId, SnapshotId, TaskId } from '../image/ids.ts'
import { GIB } from '../image/region.ts'
import { chargedBytes } from '../tasks/quota.ts'
import { type AppPlace, AWAY, HOME, newAppPlace, newMachine } from './fixture.ts'

const fault = (kind: Fault['kind'], subject: Fault['subject'], reason?: string) => (error: unknown) =>
  error instanceof Fault &&
  error.kind === kind &&
  error.subject === subject &&
  (reason === undefined || error.reason === reason)

const PAGE = { offset: 0, limit: 10 }
const UEFI = { firmware: 'uefi', machineType: 'q35', cpuCount: 2, memoryBytes: 2 * GIB } as const
const DATA_DISKS = [
  { sizeBytes: GIB, category: '', bus: 'virtio-scsi' as const },
  { sizeBytes: 512, category: '' },
]

describe('images of machines and snapshots', () => {
  let place: AppPlace
  let machineId: MachineId
  beforeEach(async () => {
    place = await newAppPlace()
    const imageId = await place.availableImage('base')
    await place.catalog.rows
      .updateTable('image')
      .set({ config: JSON.stringify(UEFI) })
      .execute()
    const { cpuCount: _cpu, memoryBytes: _memory, ...input } = newMachine(imageId)
    const { machineIds } = await place.app.machines.create(place.root, { ...input, dataDisks: DATA_DISKS })
    machineId = machineIds[0] as MachineId
    await place.catalog.rows.updateTable('machine').set({ state: 'running' }).execute()
    place.power.set(machineId, 'running')
  })
  afterEach(() => place.close())

  const machine = async () =>
    (await place.app.machines.list(place.root, { regionId: HOME, ids: [machineId] }, PAGE)).items[0] ??
    assert.fail('the machine is there')
  const diskId = async (index: number) => (await machine()).disks[index]?.id as DiskId
  const get = (imageId: Parameters<typeof place.app.images.get>[1]['imageId']) =>
    place.app.images.get(place.root, { regionId: HOME, imageId })
  const inputOf = async (id: TaskId) => {
    const row = await place.catalog.rows
      .selectFrom('task')
      .select('input')
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
    return JSON.parse(row.input)
  }
  const capture = (input: object = {}) =>
    place.app.images.capture(place.root, { regionId: HOME, machineId, disks: 'all', ...input })

  test('a machine is as its image remembers, where nothing else is said', async () => {
    const { firmware, machineType, cpuCount, memoryBytes, disks } = await machine()
    assert.deepEqual({ firmware, machineType, cpuCount, memoryBytes }, UEFI)
    assert.deepEqual(
      disks.map(({ bus }) => bus),
      ['virtio-blk', 'virtio-scsi', 'virtio-blk'],
    )
    const other = await place.runningMachine(await place.availableImage('plain'))
    const { cpuCount: _cpu, memoryBytes: _memory, ...input } = newMachine((await machine()).imageId)
    await place.catalog.rows.updateTable('image').set({ config: null }).execute()
    const { machineIds } = await place.app.machines.create(place.root, input)
    const ids = [other, machineIds[0] as MachineId]
    const { items } = await place.app.machines.list(place.root, { regionId: HOME, ids }, PAGE)
    const found = ids.map((id) => items.find((one) => one.id === id))
    assert.deepEqual(
      found.map((one) => [one?.firmware, one?.machineType, one?.cpuCount, one?.memoryBytes]),
      [
        ['bios', 'pc', 1, GIB],
        ['bios', 'pc', 1, GIB / 2],
      ],
    )
  })

  test('an image remembers the machine and its disks', async () => {
    const { imageId, taskId, snapshotIds } = await capture({ consistency: 'crash' })
    const image = await get(imageId)
    const [system, second, third] = (await machine()).disks
    assert.deepEqual(snapshotIds, [])
    assert.deepEqual(image.config, UEFI)
    assert.deepEqual(image.disks, [
      { index: 0, sizeBytes: GIB, bus: 'virtio-blk' },
      { index: 1, sizeBytes: GIB, bus: 'virtio-scsi' },
      { index: 2, sizeBytes: 512, bus: 'virtio-blk' },
    ])
    const outputs = [{ is: 'image', id: imageId, diskIds: [system?.id, second?.id, third?.id] }]
    assert.deepEqual(await inputOf(taskId), { machineId, wanted: 'crash', outputs })
  })

  test('an image has the labels of its machine, and its tag unless another is named', async () => {
    const labels = [
      { key: 'team', value: 'web' },
      { key: 'half', value: '' },
    ]
    const set = (row: object) => place.catalog.rows.updateTable('machine').set(row).execute()
    const taken = async (input: object = {}) => {
      const { imageId } = await capture(input)
      await place.catalog.rows.updateTable('task').set({ state: 'done', endedAtMs: 1 }).execute()
      const image = await get(imageId)
      return [image.tag, image.labels]
    }
    assert.deepEqual(await taken(), ['Default', []])
    await set({ tag: 'ops', labels: JSON.stringify(labels) })
    assert.deepEqual(await taken(), ['ops', labels])
    assert.deepEqual(await taken({ tag: 'mine' }), ['mine', labels])
  })

  test('linked disks become snapshots of the same task, in the order they were named', async () => {
    const linkedDiskIds = [await diskId(2), await diskId(1)]
    const { imageId, taskId, snapshotIds } = await capture({ disks: 'system', linkedDiskIds })
    assert.deepEqual(await inputOf(taskId), {
      ...{ machineId, wanted: 'best' },
      outputs: [
        { is: 'image', id: imageId, diskIds: [await diskId(0)] },
        { is: 'snapshot', id: snapshotIds[0], diskIds: [linkedDiskIds[0]] },
        { is: 'snapshot', id: snapshotIds[1], diskIds: [linkedDiskIds[1]] },
      ],
    })
    const { items } = await place.app.snapshots.list(place.root, { regionId: HOME }, PAGE)
    for (const { state } of items) assert.deepEqual(state, { at: 'creating', taskId })
    assert.deepEqual(new Set((await get(imageId)).snapshotIds), new Set(snapshotIds))
    const task = await place.app.tasks.get(place.root, taskId)
    assert.equal(task.totalBytes, 2 * GIB + 512)
  })

  test('a linked disk is one of the machine and not in the image', async () => {
    const [system, data] = [await diskId(0), await diskId(1)]
    const strange = 'z'.repeat(17) as DiskId
    const twice = fault('invalid', 'disk', 'disk-twice')
    await assert.rejects(capture({ linkedDiskIds: [data] }), twice)
    await assert.rejects(capture({ disks: 'system', linkedDiskIds: [system] }), twice)
    await assert.rejects(capture({ disks: 'system', linkedDiskIds: [data, data] }), twice)
    await assert.rejects(capture({ disks: 'system', linkedDiskIds: [strange] }), fault('absent', 'disk'))
    const atUhost = place.app.images.capture(
      { ...place.root, door: 'uhost' },
      { regionId: HOME, machineId, disks: 'system', linkedDiskIds: [strange] },
    )
    await assert.rejects(atUhost, /^Fault: The machine has no disk bs-z{17}\./)
    assert.equal(
      (await place.app.images.list(place.root, { regionId: HOME, states: ['creating'] }, PAGE)).total,
      0,
    )
  })

  test('a consistency that cannot be had is refused at once', async () => {
    place.outlook = () => ({ consistency: 'filesystem', consistencyWhy: 'There is no VSS.' })
    await assert.rejects(capture({ consistency: 'application' }), fault('conflict', 'machine', 'consistency'))
    await capture({ consistency: 'filesystem' })
    // Whoever captures already is the better reason.
    await assert.rejects(capture({ consistency: 'application' }), fault('conflict', 'machine', 'capturing'))
  })

  test('a plan says what a capture would be refused for, and makes nothing', async () => {
    const plan = (input: object = {}) =>
      place.app.images.plan(place.root, { regionId: HOME, machineId, disks: 'system', ...input })
    const { taskId } = await plan({ consistency: 'filesystem' })
    const task = {
      machineId,
      diskIds: [await diskId(0)],
      wanted: 'filesystem',
      blockers: [],
      tellsSpace: true,
    }
    assert.deepEqual(await inputOf(taskId), task)
    // The plan itself holds the machine for a moment.
    await assert.rejects(capture(), fault('conflict', 'machine', 'capturing'))
    const held = (await inputOf((await plan()).taskId)).blockers
    assert.deepEqual(held, [
      'The machine is being looked at for a capture. Wait until that has ended, or cancel it.',
    ])
    await place.catalog.rows.updateTable('task').set({ state: 'done', endedAtMs: 1 }).execute()
    await place.catalog.rows.updateTable('machine').set({ state: 'deleting' }).execute()
    for (let i = 0; i < 9; i++) await place.availableImage(`image ${i}`)
    const [gone, full] = (await inputOf((await plan({ disks: 'all' })).taskId)).blockers
    assert.equal(gone, 'The machine is deleting. It can be captured once it is running or stopped.')
    assert.match(full, /has its 10 images in region/)
    await assert.rejects(plan({ machineId: 'z'.repeat(17) as MachineId }), fault('absent', 'machine'))
    const { total } = await place.app.images.list(place.root, { regionId: HOME, states: ['creating'] }, PAGE)
    assert.equal(total, 0)
  })

  test('a plan checks names and linked disks as the capture would, and looks at all the disks', async () => {
    const plan = (input: object = {}) =>
      place.app.images.plan(place.root, { regionId: HOME, machineId, disks: 'system', ...input })
    const planned = async (input: object) => {
      const { taskId } = await plan(input)
      await place.catalog.rows.updateTable('task').set({ state: 'done', endedAtMs: 1 }).execute()
      return inputOf(taskId)
    }
    const [system, data, last] = [await diskId(0), await diskId(1), await diskId(2)]
    const linkedDiskIds = [last, data]
    const good = await planned({ linkedDiskIds, name: 'n', description: 'd', tag: 't' })
    assert.deepEqual([good.diskIds, good.blockers], [[system, last, data], []])
    const strange = 'z'.repeat(17) as DiskId
    const { blockers } = await planned({ name: ' n', description: '\0', tag: '\n', linkedDiskIds: [strange] })
    assert.deepEqual(blockers, [
      'An image name has 1 to 128 characters, no control characters, no blanks at its ends.',
      'A description has at most 256 characters and no control characters.',
      "'tag' takes text without control characters.",
      `The machine has no disk disk-${strange}. Look at the machine's disks.`,
    ])
    assert.deepEqual((await planned({ linkedDiskIds: [system] })).blockers, [
      `Disk disk-${system} is named twice, or is in the image already.`,
    ])
    for (let i = 0; i < 99; i++) await place.availableSnapshot(machineId, 0)
    assert.deepEqual((await planned({ linkedDiskIds: [data] })).blockers, [])
    assert.match(
      (await planned({ linkedDiskIds })).blockers.join(),
      /may have 100 snapshots in .* and has 99\./,
    )
    await assert.rejects(capture({ disks: 'system', linkedDiskIds }), fault('full', 'snapshot'))
  })

  describe('composed of snapshots', () => {
    let system: SnapshotId
    let data: SnapshotId
    beforeEach(async () => {
      system = (await place.availableSnapshot(machineId, 0, { dataBytes: 3000 })).snapshotId
      data = (await place.availableSnapshot(machineId, 2, { dataBytes: 500 })).snapshotId
    })
    const compose = (snapshotIds: readonly SnapshotId[], input: object = {}) =>
      place.app.images.compose(place.root, { regionId: HOME, snapshotIds, ...input })
    const refused = (reason: string) => fault('invalid', 'snapshot', reason)

    test('the image is charged at once, and has their disks in the order of the machine', async () => {
      const before = await chargedBytes(place.catalog.rows, place.root.defaultProjectId)
      await place.catalog.rows
        .updateTable('snapshot')
        .set({ consistency: 'crash' })
        .where('id', '=', data)
        .execute()
      const { imageId, taskId } = await compose([data, system], { name: 'composed', description: 'text' })
      assert.equal(await chargedBytes(place.catalog.rows, place.root.defaultProjectId), before + 3500)
      const image = await get(imageId)
      const { imageId: sourceImageId } = await machine()
      assert.deepEqual(
        [image.origin, image.name, image.description, image.sourceMachineId, image.sourceImageId],
        ['compose', 'composed', 'text', machineId, sourceImageId],
      )
      // Its parent is that of the snapshot, which the store knows.
      assert.deepEqual([image.config, image.parent], [UEFI, undefined])
      assert.deepEqual(image.disks, [
        { index: 0, sizeBytes: GIB, bus: 'virtio-blk' },
        { index: 1, sizeBytes: 512, bus: 'virtio-blk' },
      ])
      const { items } = await place.app.snapshots.list(place.root, { regionId: HOME }, PAGE)
      const stateOf = (id: SnapshotId) => items.find((one) => one.id === id)?.state as { digest: string }
      const disk = { diskIndex: 0, bus: 'virtio-blk' }
      assert.deepEqual(await inputOf(taskId), {
        imageId,
        disks: [
          { ...disk, digest: stateOf(system).digest, dataBytes: 3000 },
          { ...disk, digest: stateOf(data).digest, dataBytes: 500 },
        ],
        consistency: 'crash',
      })
    })

    test('disks of one capture are worth what it was worth, those of several no more than after a power cut', async () => {
      const setTask = (snapshotId: SnapshotId, taskId: string | null) =>
        place.catalog.rows.updateTable('snapshot').set({ taskId }).where('id', '=', snapshotId).execute()
      const consistencyOf = async (...ids: SnapshotId[]) => {
        const { taskId } = await compose(ids)
        return (await inputOf(taskId)).consistency
      }
      // As a rebuilt catalog has them: nobody knows any more.
      assert.equal(await consistencyOf(system, data), 'crash')
      await setTask(system, 'one')
      assert.equal(await consistencyOf(system, data), 'crash')
      await setTask(data, 'another')
      assert.equal(await consistencyOf(system, data), 'crash')
      assert.equal(await consistencyOf(system), 'filesystem')
      await setTask(data, 'one')
      assert.equal(await consistencyOf(system, data), 'filesystem')
      const better = { consistency: 'application' }
      await place.catalog.rows.updateTable('snapshot').set(better).where('id', '=', data).execute()
      assert.equal(await consistencyOf(system, data), 'filesystem')
      await place.catalog.rows.updateTable('snapshot').set(better).execute()
      assert.equal(await consistencyOf(system, data), 'application')
    })

    test('what contradicts is refused with the reason', async () => {
      const again = (await place.availableSnapshot(machineId, 0)).snapshotId
      const other = await place.runningMachine(await place.availableImage('other'))
      const strange = (await place.availableSnapshot(other, 0)).snapshotId
      await assert.rejects(compose([]), refused('no-system-disk'))
      await assert.rejects(compose([data]), refused('no-system-disk'))
      await assert.rejects(compose([system, system]), refused('disk-twice'))
      await assert.rejects(compose([system, data, again]), refused('disk-twice'))
      await assert.rejects(compose([data, strange]), refused('several-machines'))
      await assert.rejects(compose([system], { machineId: other }), refused('several-machines'))
      await assert.rejects(compose([system, data], { disks: 'system' }), refused('not-system'))
      await assert.rejects(compose([system, data], { disks: 'all' }), refused('disk-missing'))
      await assert.rejects(compose(['z'.repeat(17) as SnapshotId]), fault('absent', 'snapshot'))
      await assert.rejects(compose([system], { regionId: AWAY }), fault('absent', 'snapshot'))
      const { projectId } = await place.app.projects.create(place.root, 'second')
      await assert.rejects(compose([system], { projectId }), fault('absent', 'snapshot'))
      for (const state of ['creating', 'failed']) {
        await place.catalog.rows.updateTable('snapshot').set({ state }).where('id', '=', data).execute()
        await assert.rejects(compose([system, data]), fault('conflict', 'snapshot'))
      }
      await place.app.projects.setQuota(place.root, place.root.defaultProjectId, 3000)
      await assert.rejects(compose([system]), fault('full', 'project', 'quota'))
    })

    test('all disks are all of the machine, as far as it is still there', async () => {
      const third = (await place.availableSnapshot(machineId, 1)).snapshotId
      const labels = [{ key: 'team', value: 'web' }]
      const set = { tag: 'ops', labels: JSON.stringify(labels) }
      await place.catalog.rows.updateTable('machine').set(set).execute()
      const whole = await get((await compose([third, data, system], { disks: 'all', machineId })).imageId)
      assert.deepEqual([whole.tag, whole.labels], ['ops', labels])
      await compose([system], { disks: 'system' })
      await place.catalog.rows.deleteFrom('machine').where('id', '=', machineId).execute()
      await assert.rejects(
        compose([system, data], { disks: 'all' }),
        (error: Fault) => refused('disk-missing')(error) && /the machine is gone/.test(error.message),
      )
      const { imageId } = await compose([system, data])
      const image = await get(imageId)
      assert.deepEqual([image.tag, image.labels], ['Default', []])
      assert.deepEqual([image.parent, image.sourceImageId, image.config], [undefined, undefined, UEFI])
      assert.match(image.name, /^m-\d{4}-\d\d-\d\dT\d{6}$/)
    })

    test('a machine takes data disks from them, at least as large', async () => {
      const imageId = await place.availableImage('plain')
      const disk = { sizeBytes: 1024, category: 'ssd', snapshotId: data }
      const create = (dataDisk: object) =>
        place.app.machines.create(place.root, {
          ...newMachine(imageId),
          dataDisks: [{ ...disk, ...dataDisk }],
        })
      const scsi = (await place.availableSnapshot(machineId, 1)).snapshotId
      await assert.rejects(create({ snapshotId: scsi }), fault('invalid', 'disk', 'disk-below-image'))
      await assert.rejects(create({ snapshotId: 'z'.repeat(17) }), fault('absent', 'snapshot'))
      const { machineIds } = await create({ sizeBytes: GIB, snapshotId: scsi })
      const [made] = (await place.app.machines.list(place.root, { regionId: HOME, ids: machineIds }, PAGE))
        .items
      const { items } = await place.app.snapshots.list(place.root, { regionId: HOME, ids: [scsi] }, PAGE)
      const state = items[0]?.state
      assert.ok(state?.at === 'available')
      const { digest } = state
      const [, second] = made?.disks ?? []
      assert.deepEqual(
        [second?.base, second?.bus, second?.category, second?.sizeBytes],
        [{ digest, index: 0 }, 'virtio-scsi', 'ssd', GIB],
      )
      const audited = await place.catalog.rows
        .selectFrom('audit')
        .select('resource')
        .orderBy('id', 'desc')
        .executeTakeFirstOrThrow()
      assert.match(audited.resource, new RegExp(`machine/\\* \\S+:snapshot/snap-${scsi}$`))
      await create({ bus: 'virtio-scsi' })
      await place.catalog.rows.updateTable('snapshot').set({ state: 'creating' }).execute()
      await assert.rejects(create({}), fault('conflict', 'snapshot'))
    })
  })
})
