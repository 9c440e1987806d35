import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { MachineId, SnapshotPolicyId } from '../image/ids.ts'
import type { Caller, NewSnapshotPolicy } from './contract.ts'
import { type AppPlace, AWAY, HOME, newAppPlace } from './fixture.ts'

const DAY_MS = 24 * 60 * 60 * 1000

describe('snapshot policies', () => {
  let place: AppPlace
  let machineId: MachineId
  let nightly: NewSnapshotPolicy & { regionId: typeof HOME }

  beforeEach(async () => {
    place = await newAppPlace()
    place.nowMs = Date.parse('2026-01-01T12:00:00Z')
    machineId = await place.runningMachine(await place.availableImage('golden'))
    nightly = {
      ...{ regionId: HOME, name: 'nightly', cron: '0 3 * * *', timeZone: 'UTC', keepCount: 7 },
      ...{ disks: 'all', machineIds: [machineId, machineId], isEnabled: true },
    }
  })
  afterEach(() => place.close())

  const policies = () => place.app.snapshotPolicies
  const list = async (caller: Caller = place.root, ids?: SnapshotPolicyId[]) =>
    policies().list(
      caller,
      { regionId: HOME, ...(ids === undefined ? {} : { ids }) },
      { offset: 0, limit: 10 },
    )
  const refused = (promise: Promise<unknown>, kind: string, more: object = {}) =>
    assert.rejects(promise, { name: 'Fault', kind, ...more })

  test('one is made, listed, changed and removed', async () => {
    const { policyId } = await policies().create(place.root, nightly)
    const createdAtMs = place.nowMs
    const { total, items } = await list()
    assert.equal(total, 1)
    const { regionId: _regionId, ...words } = nightly
    const first = {
      ...words,
      ...{ id: policyId, projectId: place.root.defaultProjectId, regionId: HOME, machineIds: [machineId] },
      ...{ lastDoneAtMs: undefined, lastFailedAtMs: undefined, lastReason: undefined },
      ...{ lastDueAtMs: undefined, createdAtMs, nextDueAtMs: Date.parse('2026-01-02T03:00:00Z') },
    }
    assert.deepEqual(items, [first])
    const where = { regionId: HOME, policyId }
    await policies().change(place.root, { ...where, name: 'seldom', keepCount: 2, disks: 'system' })
    assert.deepEqual((await list()).items, [{ ...first, name: 'seldom', keepCount: 2, disks: 'system' }])
    await policies().change(place.root, { ...where, cron: '0 6 * * *', timeZone: 'Asia/Hong_Kong' })
    const [changed] = (await list(place.root, [policyId])).items
    assert.equal(changed?.nextDueAtMs, Date.parse('2026-01-01T22:00:00Z'))
    assert.equal(changed.lastDueAtMs, undefined)
    await policies().change(place.root, { ...where, isEnabled: false })
    assert.deepEqual(
      (await list()).items.map(({ isEnabled, nextDueAtMs }) => [isEnabled, nextDueAtMs]),
      [[false, undefined]],
    )
    const came = { lastDoneAtMs: 1, lastFailedAtMs: 2, lastReason: 'why' }
    await place.catalog.rows.updateTable('snapshotPolicy').set(came).execute()
    const [told] = (await list()).items
    assert.deepEqual([told?.lastDoneAtMs, told?.lastFailedAtMs, told?.lastReason], [1, 2, 'why'])
    await policies().remove(place.root, where)
    assert.deepEqual(await list(), { total: 0, items: [] })
    await refused(policies().remove(place.root, where), 'absent', { subject: 'snapshot-policy' })
    await refused(policies().change(place.root, where), 'absent', { subject: 'snapshot-policy' })
    const outcomes = await place.catalog.rows.selectFrom('audit').select(['action', 'outcome']).execute()
    assert.deepEqual(
      outcomes
        .filter(({ action }) => action.endsWith('SnapshotPolicy'))
        .map(({ action, outcome }) => `${action} ${outcome}`),
      [
        'calotype:CreateSnapshotPolicy done',
        ...Array(3).fill('calotype:ChangeSnapshotPolicy done'),
        'calotype:DeleteSnapshotPolicy done',
        'calotype:DeleteSnapshotPolicy absent snapshot-policy',
        'calotype:ChangeSnapshotPolicy absent snapshot-policy',
      ],
    )
  })

  test('what is switched on again, or gets another clock, has missed nothing', async () => {
    const { policyId } = await policies().create(place.root, { ...nightly, isEnabled: false })
    place.nowMs += 3 * DAY_MS
    await place.catalog.rows
      .updateTable('snapshotPolicy')
      .set({ waitingMachineIds: JSON.stringify([machineId, 'other']) })
      .execute()
    await policies().change(place.root, { regionId: HOME, policyId, isEnabled: true })
    const [policy] = (await list()).items
    assert.equal(policy?.lastDueAtMs, Date.parse('2026-01-04T03:00:00Z'))
    assert.equal(policy.nextDueAtMs, Date.parse('2026-01-05T03:00:00Z'))
    const { waitingMachineIds } = await place.catalog.rows
      .selectFrom('snapshotPolicy')
      .select('waitingMachineIds')
      .executeTakeFirstOrThrow()
    assert.deepEqual(JSON.parse(waitingMachineIds), [machineId])
  })

  test('what no policy may have is refused, at creation and at a change', async () => {
    const { policyId } = await policies().create(place.root, nightly)
    const wrong = async (part: Partial<NewSnapshotPolicy>, kind: string, more: object) => {
      await refused(policies().create(place.root, { ...nightly, ...part }), kind, more)
      await refused(policies().change(place.root, { regionId: HOME, policyId, ...part }), kind, more)
    }
    for (const name of ['', ' x', 'x ', 'a/b', 'x'.repeat(64)])
      await wrong({ name }, 'invalid', { field: 'name' })
    for (const keepCount of [0, 1001, 1.5]) await wrong({ keepCount }, 'invalid', { field: 'keepCount' })
    await wrong({ cron: '0 3 * *' }, 'invalid', { field: 'cron' })
    await wrong({ timeZone: 'Mars/Olympus' }, 'invalid', { field: 'timeZone' })
    await wrong({ machineIds: [] }, 'invalid', { field: 'machineIds' })
    const many = Array.from({ length: 101 }, (_, i) => String(i).padStart(17, '0') as MachineId)
    await wrong({ machineIds: many }, 'invalid', { field: 'machineIds' })
    await wrong({ machineIds: [machineId, many[0] as MachineId] }, 'absent', { subject: 'machine' })
    assert.equal((await list()).total, 1)
  })

  test('it is of one region and project', async () => {
    await refused(policies().create(place.root, { ...nightly, regionId: AWAY }), 'absent', {
      subject: 'machine',
    })
    const { policyId } = await policies().create(place.root, nightly)
    await refused(policies().change(place.root, { regionId: AWAY, policyId, name: 'x' }), 'absent')
    await refused(policies().remove(place.root, { regionId: AWAY, policyId }), 'absent')
    const { projectId } = await place.app.projects.create(place.root, 'other')
    await refused(policies().create(place.root, { ...nightly, projectId }), 'absent', { subject: 'machine' })
    await refused(policies().remove(place.root, { regionId: HOME, projectId, policyId }), 'absent')
  })

  test('a project has a hundred of them in a region', async () => {
    for (let i = 0; i < 100; i++) await policies().create(place.root, nightly)
    await refused(policies().create(place.root, nightly), 'full', { subject: 'snapshot-policy' })
  })

  test('whoever may not make or delete snapshots by hand may not by the clock', async () => {
    const { keyId } = await place.app.users.create(place.root, 'anna')
    const attach = async (policyName: string, Action: string, resource: string) => {
      const statement = { Effect: 'Allow', Action, Resource: `calotype:calotype:*:*:${resource}` }
      const document = { Version: '1', Statement: [statement] }
      await place.app.users.putPolicy(place.root, policyName, document)
      await place.app.users.attach(place.root, 'anna', policyName)
    }
    await attach('policies', 'calotype:*SnapshotPolicy', '*')
    const anna = await place.caller(keyId)
    await refused(policies().create(anna, nightly), 'denied', { field: 'calotype:CreateSnapshot' })
    await attach('snapshots', 'calotype:CreateSnapshot', `machine/vm-${machineId}`)
    await refused(policies().create(anna, nightly), 'denied', { field: 'calotype:DeleteSnapshot' })
    await attach('some', 'calotype:DeleteSnapshot', `snapshot/snap-${'s'.repeat(17)}`)
    await refused(policies().create(anna, nightly), 'denied', { field: 'calotype:DeleteSnapshot' })
    await attach('removals', 'calotype:DeleteSnapshot', 'snapshot/*')
    const { policyId } = await policies().create(anna, nightly)
    await attach('removals', 'calotype:DeleteSnapshot', 'image/*')
    const where = { regionId: HOME, policyId }
    await refused(policies().change(anna, { ...where, keepCount: 1 }), 'denied', {
      field: 'calotype:DeleteSnapshot',
    })
    await policies().change(anna, { ...where, name: 'weekly' })
    const { creator } = await place.catalog.rows
      .selectFrom('snapshotPolicy')
      .select('creator')
      .executeTakeFirstOrThrow()
    assert.equal(creator, 'anna')
  })
})
