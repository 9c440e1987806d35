import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { ImageId, ProjectId } from '../image/ids.ts'
import type { App, Caller } from './contract.ts'
import { AWAY, FAR, HOME } from './fixture.ts'
import { newRulesPlace, type RulesPlace } from './replication.fixture.ts'

type Input = Parameters<App['replication']['create']>[1]

describe('replication rules', () => {
  let held: RulesPlace
  let rules: App['replication']
  let root: Caller

  beforeEach(async () => {
    held = await newRulesPlace()
    rules = held.rules
    root = held.place.root
  })
  afterEach(() => held.close())

  const list = (regionId = HOME) => rules.list(root, { regionId }, { offset: 0, limit: 10 })
  const refused = (promise: Promise<unknown>, kind: string, more: object = {}) =>
    assert.rejects(promise, { name: 'Fault', kind, ...more })

  test('one is made, listed, disabled, enabled and removed, and each leaves its record', async () => {
    const familyOf = await held.image('golden')
    const filter = { namePattern: 'web-*', tag: 'prod', familyOf }
    const id = await held.rule({ name: 'to hk', filter, targetRegionIds: [AWAY, FAR], keepCount: 3 })
    const projectId = root.defaultProjectId
    const rule = {
      ...{ id, projectId, regionId: HOME, name: 'to hk', filter, targetProjectId: projectId },
      ...{ targetRegionIds: [AWAY, FAR], keepCount: 3, isEnabled: true, creator: 'root' },
      createdAtMs: held.place.nowMs,
      ...{ lastDoneAtMs: undefined, lastFailedAtMs: undefined, lastReason: undefined },
    }
    assert.deepEqual(await list(), { total: 1, items: [rule] })
    assert.deepEqual(await list(AWAY), { total: 0, items: [] })
    assert.deepEqual(await rules.get(root, { id }), rule)
    await refused(rules.get(root, { id: 'none' }), 'absent', { subject: 'replication-rule' })
    await rules.change(root, { id, isEnabled: false })
    assert.deepEqual((await list()).items, [{ ...rule, isEnabled: false }])
    await rules.change(root, { id, isEnabled: true })
    assert.deepEqual((await list()).items, [rule])
    await rules.remove(root, { id })
    assert.deepEqual(await list(), { total: 0, items: [] })
    await refused(rules.remove(root, { id }), 'absent', { subject: 'replication-rule' })
    await refused(rules.change(root, { id, isEnabled: true }), 'absent', { subject: 'replication-rule' })
    const records = await held.place.catalog.rows.selectFrom('audit').select(['action', 'outcome']).execute()
    assert.deepEqual(
      records.map(({ action, outcome }) => `${action} ${outcome}`),
      [
        'calotype:CreateReplicationRule done',
        ...Array(2).fill('calotype:ChangeReplicationRule done'),
        'calotype:DeleteReplicationRule done',
        'calotype:DeleteReplicationRule absent replication-rule',
        'calotype:ChangeReplicationRule absent replication-rule',
      ],
    )
    assert.deepEqual(await held.place.catalog.rows.selectFrom('replicated').selectAll().execute(), [])
  })

  test('what no rule may have is refused', async () => {
    const wrong = (input: Partial<Input>, kind: string, more: object = {}) =>
      refused(held.rule(input), kind, more)
    for (const name of ['', ' x', 'x ', 'a\nb', 'x'.repeat(65)])
      await wrong({ name }, 'invalid', { field: 'name' })
    for (const text of ['', 'a\u0000', 'x'.repeat(129)]) {
      await wrong({ filter: { namePattern: text } }, 'invalid', { field: 'namePattern' })
      await wrong({ filter: { tag: text } }, 'invalid', { field: 'tag' })
    }
    for (const keepCount of [0, 1001, 1.5, Number.NaN]) {
      await wrong({ keepCount }, 'invalid', { field: 'keepCount' })
    }
    for (const targetRegionIds of [[], [AWAY, AWAY]]) await wrong({ targetRegionIds }, 'invalid')
    await wrong({ targetRegionIds: ['mars' as typeof HOME] }, 'absent', { subject: 'region' })
    await wrong({ regionId: 'mars' as typeof HOME }, 'absent', { subject: 'region' })
    await wrong({ targetRegionIds: [AWAY, HOME] }, 'invalid', { subject: 'image', reason: 'same-place' })
    await wrong({ targetProjectId: 'org-none' as ProjectId }, 'absent', { subject: 'project' })
    const filter = { familyOf: 'x'.repeat(17) as ImageId }
    await wrong({ filter }, 'absent', { subject: 'image' })
    const unready = await held.image('unready', { state: 'creating' })
    await wrong({ filter: { familyOf: unready } }, 'conflict', { subject: 'image' })
    assert.equal((await list()).total, 0)
    const { projectId } = await held.place.app.projects.create(root, 'other')
    await held.rule({ targetRegionIds: [HOME], targetProjectId: projectId })
    const elsewhere = rules.change(root, {
      id: (await list()).items[0]?.id ?? '',
      projectId,
      isEnabled: false,
    })
    await refused(elsewhere, 'absent', { subject: 'replication-rule' })
    const id = (await list()).items[0]?.id ?? ''
    await refused(rules.get(root, { id, projectId }), 'absent', { subject: 'replication-rule' })
  })

  test('a project has a hundred of them, in all its regions', async () => {
    for (let i = 0; i < 50; i++) await held.rule()
    for (let i = 0; i < 50; i++) await held.rule({ regionId: AWAY, targetRegionIds: [HOME] })
    await refused(held.rule(), 'full', { subject: 'replication-rule' })
    const { projectId } = await held.place.app.projects.create(root, 'other')
    await held.rule({ projectId })
  })

  test('whoever may not copy or delete by hand may not by a rule, nor enable one that does', async () => {
    const { keyId } = await held.place.app.users.create(root, 'anna')
    const attach = async (name: string, Action: string, regionId: string) => {
      const statement = { Effect: 'Allow', Action, Resource: `calotype:calotype:${regionId}:*:*` }
      await held.place.app.users.putPolicy(root, name, { Version: '1', Statement: [statement] })
      await held.place.app.users.attach(root, 'anna', name)
    }
    await attach('rules', 'calotype:*ReplicationRule*', '*')
    const anna = await held.place.caller(keyId)
    const denied = (promise: Promise<unknown>, action: string) =>
      refused(promise, 'denied', { field: `calotype:${action}` })
    await denied(held.rule({}, anna), 'CopyImage')
    await attach('source', 'calotype:CopyImage', HOME)
    await denied(held.rule({}, anna), 'CopyImage')
    await attach('target', 'calotype:CopyImage', AWAY)
    const id = await held.rule({}, anna)
    assert.equal((await held.ruleRow(id)).creator, 'anna')
    await denied(held.rule({ targetRegionIds: [AWAY, FAR] }, anna), 'CopyImage')
    await denied(held.rule({ keepCount: 1 }, anna), 'DeleteImage')
    await attach('removal', 'calotype:DeleteImage', AWAY)
    await held.rule({ keepCount: 1 }, anna)
    const roots = await held.rule({ targetRegionIds: [FAR] })
    await rules.change(anna, { id: roots, isEnabled: false })
    await denied(rules.change(anna, { id: roots, isEnabled: true }), 'CopyImage')
    const stranger = await held.place.app.users.create(root, 'otto')
    const otto = await held.place.caller(stranger.keyId)
    await denied(rules.list(otto, { regionId: HOME }, { offset: 0, limit: 1 }), 'ListReplicationRules')
    await denied(rules.get(otto, { id }), 'ListReplicationRules')
    assert.equal((await rules.get(anna, { id })).id, id)
    await denied(rules.remove(otto, { id }), 'DeleteReplicationRule')
  })
})
