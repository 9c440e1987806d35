import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { MachineId } from '../image/ids.ts'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace, newMachine } from './fixture.ts'

const fault = (kind: Fault['kind'], subject: Fault['subject'], reason?: string) => (error: unknown) =>
  error instanceof Fault &&
  error.kind === kind &&
  error.subject === subject &&
  (reason === undefined || error.reason === reason)

describe('the use cases', () => {
  let place: AppPlace
  beforeEach(async () => {
    place = await newAppPlace()
  })
  afterEach(() => place.close())

  test('a nonce is good once per key until it expires', async () => {
    const { keyring } = place
    assert.equal(await keyring.useNonce('k', 'n', place.nowMs + 1000), true)
    assert.equal(await keyring.useNonce('k', 'n', place.nowMs + 1000), false)
    assert.equal(await keyring.useNonce('other', 'n', place.nowMs + 1000), true)
    place.nowMs += 1001
    assert.equal(await keyring.useNonce('k', 'n', place.nowMs + 1000), true)
  })

  test('of many requests with one nonce at the same time one is let through', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => place.keyring.useNonce('k', 'n', place.nowMs + 1000)),
    )
    assert.equal(answers.filter(Boolean).length, 1)
  })

  test('a machine is captured once at a time, and not started meanwhile', async () => {
    const { app, root } = place
    const machineId = await place.runningMachine(await place.availableImage('i'))
    const input = { regionId: HOME, machineId, name: 'first', disks: 'all' as const }
    const { imageId, taskId } = await app.images.capture(root, input)
    const image = await app.images.get(root, { regionId: HOME, imageId })
    assert.deepEqual(image.state, { at: 'creating', taskId })
    await assert.rejects(app.images.capture(root, input), fault('conflict', 'machine', 'capturing'))
    place.power.set(machineId, 'stopped')
    await assert.rejects(
      app.machines.start(root, { regionId: HOME, machineIds: [machineId] }),
      fault('conflict', 'machine', 'capturing'),
    )
    await app.images.remove(root, { regionId: HOME, imageIds: [imageId] })
    assert.equal((await app.tasks.get(root, taskId)).state.at, 'cancelled')
    await app.machines.start(root, { regionId: HOME, machineIds: [machineId] })
  })

  test('a guest that switched itself off is stopped for whoever looks', async () => {
    const machineId = await place.runningMachine(await place.availableImage('i'))
    place.power.set(machineId, 'stopped')
    const { items } = await place.app.machines.list(place.root, { regionId: HOME }, { offset: 0, limit: 10 })
    assert.equal(items[0]?.state, 'stopped')
  })

  test('a batch of machines is changed whole or not at all', async () => {
    const { app, root } = place
    const imageId = await place.availableImage('i')
    const running = await place.runningMachine(imageId)
    const stopped = await place.runningMachine(imageId)
    place.power.set(stopped, 'stopped')
    const both = { regionId: HOME, machineIds: [running, stopped] }
    await assert.rejects(app.machines.stop(root, { ...both, how: 'power' }), fault('conflict', 'machine'))
    const unknown = { regionId: HOME, machineIds: [running, 'z'.repeat(17) as MachineId] }
    await assert.rejects(
      app.machines.remove(root, { ...unknown, stoppedOnly: false }),
      fault('absent', 'machine'),
    )
    const { items } = await app.machines.list(root, { regionId: HOME }, { offset: 0, limit: 10 })
    assert.deepEqual(items.map((machine) => machine.state).sort(), ['running', 'stopped'])
  })

  test('machines of an image take its disks, no smaller, with names that count', async () => {
    const { app, root } = place
    const imageId = await place.availableImage('i')
    await assert.rejects(
      app.machines.create(root, { ...newMachine(imageId), systemDiskBytes: 512 }),
      fault('invalid', 'disk', 'disk-below-image'),
    )
    await assert.rejects(
      app.machines.create(root, { ...newMachine(imageId), zone: 'nowhere' }),
      fault('absent', 'zone'),
    )
    await app.machines.create(root, {
      ...newMachine(imageId),
      count: 2,
      dataDisks: [{ sizeBytes: 512, category: '' }],
    })
    const { items } = await app.machines.list(root, { regionId: HOME }, { offset: 0, limit: 10 })
    assert.deepEqual(items.map((machine) => machine.name).sort(), ['m-0001', 'm-0002'])
    assert.deepEqual(
      items[0]?.disks.map((disk) => [disk.index, disk.sizeBytes]),
      [
        [0, 1024 ** 3],
        [1, 512],
      ],
    )
  })

  test('labels are matched as they are, whatever is in them', async () => {
    const { app, root } = place
    const imageId = await place.availableImage('i')
    const labels = [
      { key: 'a"b', value: '%_\\' },
      { key: 'team', value: '' },
    ]
    await app.machines.create(root, { ...newMachine(imageId), labels })
    const count = async (wanted: { key: string; value?: string }[]) =>
      (await app.machines.list(root, { regionId: HOME, labels: wanted }, { offset: 0, limit: 10 })).total
    assert.equal(await count([{ key: 'a"b', value: '%_\\' }, { key: 'team' }]), 1)
    assert.equal(await count([{ key: 'a"b', value: '%' }]), 0)
    assert.equal(await count([{ key: 'b' }]), 0)
    assert.equal(await count([{ key: 'TEAM' }]), 0)
  })

  test('a copy names a place that is not its own, and a custom image that is available', async () => {
    const { app, root } = place
    const imageId = await place.availableImage('i')
    const copy = (input: object) =>
      app.images.copy(root, { regionId: HOME, imageId, targetRegionIds: [AWAY], ...input })
    await assert.rejects(copy({ targetRegionIds: [HOME] }), fault('invalid', 'image', 'same-place'))
    await place.catalog.rows.updateTable('image').set({ kind: 'base' }).execute()
    await assert.rejects(copy({}), fault('invalid', 'image', 'not-custom'))
    await place.catalog.rows.updateTable('image').set({ kind: 'custom', state: 'creating' }).execute()
    await assert.rejects(copy({}), fault('conflict', 'image'))
    await place.catalog.rows.updateTable('image').set({ state: 'available' }).execute()
    const { copies } = await copy({})
    const [made] = copies
    assert.ok(made !== undefined)
    const image = await app.images.get(root, made)
    assert.deepEqual([image.name, image.state.at, image.origin], ['i', 'creating', 'copy'])
    assert.equal(await app.images.copyProgress(root, made), 0)
    await assert.rejects(
      app.images.copyProgress(root, { regionId: HOME, imageId }),
      fault('invalid', 'image', 'not-a-copy'),
    )
  })

  test('a batch that breaks the quota in one region makes nothing anywhere', async () => {
    const small = await newAppPlace({ imagesPerRegionMax: 1 })
    try {
      const imageId = await small.availableImage('i')
      const away = await small.availableImage('there')
      await small.catalog.rows.updateTable('image').set({ regionId: FAR }).where('id', '=', away).execute()
      const { app, root } = small
      const { projectId } = await app.projects.create(root, 'second')
      await assert.rejects(
        app.images.copy(root, {
          regionId: HOME,
          imageId,
          targetProjectId: root.defaultProjectId,
          targetRegionIds: [AWAY, FAR],
        }),
        fault('full', 'image'),
      )
      const held = await small.catalog.rows.selectFrom('image').select('id').execute()
      assert.equal(held.length, 2)
      const tasks = await small.catalog.rows.selectFrom('task').select('id').execute()
      assert.equal(tasks.length, 0)
      assert.match(projectId, /^org-/)
    } finally {
      await small.close()
    }
  })

  test('every call that changes something leaves one audit record, also when it is refused', async () => {
    const { app, root } = place
    await app.projects.create(root, 'second')
    await assert.rejects(app.projects.create(root, 'second'), fault('conflict', 'project'))
    await app.projects.list(root)
    const records = await place.catalog.rows
      .selectFrom('audit')
      .select(['door', 'action', 'outcome'])
      .orderBy('id')
      .execute()
    assert.deepEqual(
      records.map((record) => ({ ...record })),
      [
        { door: 'native', action: 'calotype:CreateProject', outcome: 'done' },
        { door: 'native', action: 'calotype:CreateProject', outcome: 'conflict project' },
      ],
    )
  })

  test('a user has what is attached, in the projects it is attached for, and nothing else', async () => {
    const { app, root } = place
    const { projectId } = await app.projects.create(root, 'second')
    const { keyId } = await app.users.create(root, 'ada')
    const ada = await place.caller(keyId, 'uhost')
    const list = (project?: typeof projectId) =>
      app.images.list(ada, { regionId: HOME, projectId: project }, { offset: 0, limit: 1 })
    await assert.rejects(list(), fault('denied', 'policy', 'implicit'))
    await assert.rejects(list(projectId), fault('denied', 'project'))
    await app.users.attach(root, 'ada', 'UHostReadOnlyAccess', projectId)
    await list(projectId)
    await assert.rejects(list(), fault('denied', 'policy', 'implicit'))
    await app.users.attach(root, 'ada', 'UHostReadOnlyAccess')
    await list()
    // The same right in another cloud's words is another right.
    const throughWuying = await place.caller(keyId, 'wuying')
    await assert.rejects(
      app.images.list(throughWuying, { regionId: HOME }, { offset: 0, limit: 1 }),
      fault('denied', 'policy', 'implicit'),
    )
    await app.users.putPolicy(root, 'no-lists', {
      Version: '1',
      Statement: [{ Effect: 'Deny', Action: 'uhost:Describe*', Resource: '*' }],
    })
    await app.users.attach(root, 'ada', 'no-lists')
    await assert.rejects(list(projectId), fault('denied', 'policy', 'explicit'))
  })
})
