import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Catalog } from '../catalog/contract.ts'
import type { ImageId, ProjectId } from '../image/ids.ts'
import type { Caller } from './contract.ts'
import { AWAY, FAR, HOME } from './fixture.ts'
import { MINUTE_MS, newRulesPlace, type RulesPlace } from './replication.fixture.ts'

describe('following replication rules', () => {
  let held: RulesPlace
  let root: Caller

  beforeEach(async () => {
    held = await newRulesPlace()
    root = held.place.root
  })
  afterEach(async () => {
    await held.close()
    assert.deepEqual(
      held.log.filter(({ level }) => level === 'error'),
      [],
    )
  })

  const look = () => held.replication.look()
  const wait = (minutes: number) => {
    held.place.nowMs += minutes * MINUTE_MS
  }
  const rows = () => held.place.catalog.rows
  const remove = (imageId: string, regionId = AWAY) =>
    held.place.app.images.remove(root, { regionId, imageIds: [imageId as ImageId] })

  test('what becomes available is copied once, what was there before is not', async () => {
    await held.image('old')
    // In the very millisecond in which the rule is made, before it.
    await held.image('older')
    const id = await held.rule()
    // And behind it, two at once.
    const { nowMs } = held.place
    await held.image('new 1', { updatedAtMs: nowMs })
    await held.image('new 2', { updatedAtMs: nowMs })
    await held.image('unready', { state: 'creating', digest: null })
    await look()
    assert.deepEqual(await held.names(AWAY), ['new 1 creating', 'new 2 creating'])
    await look()
    wait(1)
    await held.finishCopies()
    await look()
    assert.deepEqual(await held.names(AWAY), ['new 1', 'new 2'])
    assert.equal((await held.ruleRow(id)).lastDoneAtMs, held.place.nowMs)
    const { sourceImageId, origin } = await held.imageOf('new 1')
    assert.deepEqual([origin, sourceImageId], ['copy', (await held.imageOf('new 1', HOME)).id])
    // It was here all the time, and is new only now.
    const made = { state: 'available', digest: 'a'.repeat(64), updatedAtMs: nowMs }
    await rows().updateTable('image').set(made).where('name', '=', 'unready').execute()
    // One that is deleted does not come again.
    await remove((await held.imageOf('new 1')).id)
    await look()
    assert.deepEqual(await held.names(AWAY), ['new 2', 'unready creating'])
    const asked = await rows()
      .selectFrom('audit')
      .select('requestId')
      .where('action', 'like', '%CopyImage')
      .execute()
    assert.deepEqual(
      asked.map(({ requestId }) => requestId),
      Array(3).fill(`rule-${id}`),
    )
  })

  test('a clock that is set back or runs wild hides no image', async () => {
    await held.rule()
    wait(-60)
    await held.image('an hour ago')
    wait(60 * 24 * 365)
    await held.image('in a year')
    await look()
    wait(-60 * 24 * 365)
    await held.image('today')
    await look()
    const names = ['an hour ago creating', 'in a year creating', 'today creating']
    assert.deepEqual((await held.names(AWAY)).toSorted(), names)
  })

  test('only what fits all that a filter says', async () => {
    const base = await held.image('golden', { kind: 'base' })
    const { digest } = await held.imageOf('golden', HOME)
    const filter = { namePattern: 'web-?.*', tag: 'prod', familyOf: base }
    await held.rule({ filter })
    await held.rule({ filter: { namePattern: '*' }, targetRegionIds: [FAR] })
    const family = { tag: 'prod', parent: digest }
    await held.image('web-1.0', family)
    await held.image('web-12.0', family)
    await held.image('old web-1.0', family)
    await held.image('web-2.0', { ...family, tag: 'test' })
    await held.image('web-3.0', { ...family, parent: null })
    await held.image('web-4.0', { tag: 'prod', digest })
    await held.image('web-5.0', { ...family, kind: 'base' })
    await held.image('web-6.0', { ...family, projectId: 'org-other' })
    await held.image('web-7.0', { ...family, regionId: FAR })
    // Made of what was made of it.
    await held.image('web-8.0', { tag: 'prod', parent: (await held.imageOf('web-1.0', HOME)).digest })
    await look()
    const names = ['web-1.0 creating', 'web-4.0 creating', 'web-8.0 creating']
    assert.deepEqual((await held.names(AWAY)).toSorted(), names)
    assert.equal((await held.names(FAR)).filter((name) => name.endsWith('creating')).length, 7)
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), names)
  })

  test('a family outlives the image that it is of', async () => {
    const golden = await held.image('golden')
    const { digest } = await held.imageOf('golden', HOME)
    await held.rule({ filter: { familyOf: golden } })
    await held.image('v2', { parent: digest })
    await rows().deleteFrom('image').where('id', '=', golden).execute()
    await held.image('v3', { parent: (await held.imageOf('v2', HOME)).digest })
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['v2 creating', 'v3 creating'])
  })

  test('rules between regions do not hand images round', async () => {
    const { projectId: other } = await held.place.app.projects.create(root, 'other')
    const places = [HOME, AWAY, FAR]
    for (const regionId of places) {
      for (const targetProjectId of [root.defaultProjectId, other]) {
        for (const projectId of [root.defaultProjectId, other]) {
          const isOwn = projectId === targetProjectId
          const targetRegionIds = places.filter((one) => !isOwn || one !== regionId)
          await held.rule({ regionId, projectId, targetProjectId, targetRegionIds })
        }
      }
    }
    await held.image('one')
    await held.image('two', { regionId: AWAY })
    await held.settle()
    for (const regionId of places) {
      for (const projectId of [root.defaultProjectId, other]) {
        assert.deepEqual((await held.names(regionId, projectId)).toSorted(), ['one', 'two'])
      }
    }
  })

  test('what was deleted while its copy was made does not come back', async () => {
    await held.rule()
    await held.rule({ regionId: AWAY, targetRegionIds: [FAR] })
    await held.rule({ regionId: FAR, targetRegionIds: [HOME] })
    const gone = await held.image('gone')
    await look()
    await held.place.app.images.remove(root, { regionId: HOME, imageIds: [gone] })
    await held.finishCopies()
    await look()
    await remove((await held.imageOf('gone')).id)
    await held.settle()
    assert.deepEqual(await held.names(HOME), [])
    assert.deepEqual(await held.names(FAR), ['gone'])
  })

  test('a copy with other keys is not carried back either, nor one that somebody made by hand', async () => {
    const { projectId } = await held.place.app.projects.create(root, 'other')
    held.place.copies.acrossProjects = 'rekey'
    await held.rule({ targetProjectId: projectId })
    await held.rule({
      regionId: AWAY,
      projectId,
      targetRegionIds: [HOME],
      targetProjectId: root.defaultProjectId,
    })
    await held.image('one')
    await look()
    const digest = 'f'.repeat(64)
    await held.finishCopies()
    await rows().updateTable('image').set({ digest }).where('regionId', '=', AWAY).execute()
    await held.settle()
    assert.deepEqual(await held.names(HOME), ['one'])
    await held.rule({ regionId: FAR, targetRegionIds: [HOME] })
    const imageId = (await held.imageOf('one', HOME)).id as ImageId
    const wish = { regionId: HOME, imageId, targetRegionIds: [FAR] }
    await held.place.app.images.copy(root, wish)
    await held.finishCopies()
    await held.settle()
    assert.deepEqual(await held.names(HOME), ['one'])
  })

  test('an image with the content of another is copied beside it', async () => {
    await held.rule()
    const digest = 'd'.repeat(64)
    await held.image('v1', { digest })
    await held.settle()
    await held.image('v2', { digest })
    await held.settle()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['v1', 'v2'])
  })

  test('the newest stay, by when their images came, and what is being made counts once it is', async () => {
    const id = await held.rule({ targetRegionIds: [AWAY, FAR], keepCount: 2 })
    await held.image('mine', { regionId: AWAY })
    for (const name of ['v1', 'v2', 'v3', 'v4']) await held.image(name)
    await look()
    await held.finishCopies(FAR)
    await look()
    assert.deepEqual((await held.names(FAR)).toSorted(), ['v3', 'v4'])
    assert.deepEqual((await held.names(AWAY)).toSorted(), [
      'mine',
      'v1 creating',
      'v2 creating',
      'v3 creating',
      'v4 creating',
    ])
    // The oldest is ready last.
    await held.finishCopies(AWAY, ['v2', 'v3', 'v4'])
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['mine', 'v1 creating', 'v3', 'v4'])
    await held.finishCopies(AWAY)
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['mine', 'v3', 'v4'])
    await held.image('v5')
    await held.settle()
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['mine', 'v4', 'v5'])
    assert.equal((await held.names(HOME)).length, 5)
    const releases = await rows()
      .selectFrom('task')
      .select('id')
      .where('kind', '=', 'release-image')
      .execute()
    assert.equal(releases.length, 6)
    assert.equal((await held.ruleRow(id)).lastReason, undefined)
  })

  test('a copy that failed does not count, and goes with the older ones', async () => {
    await held.rule({ keepCount: 1 })
    await held.image('v1')
    await held.settle()
    await held.image('v2')
    await look()
    await held.failCopies('corrupt')
    await look()
    assert.deepEqual(await held.names(AWAY), ['v1', 'v2 failed'])
    await held.image('v3')
    await held.settle()
    await look()
    assert.deepEqual(await held.names(AWAY), ['v3'])
  })

  test('disabled it does nothing, enabled it copies what comes then, removed its copies stay', async () => {
    const id = await held.rule()
    await held.image('v1')
    await held.settle()
    await held.image('v2')
    await held.rules.change(root, { id, isEnabled: false })
    await look()
    await held.image('v3')
    await held.rules.change(root, { id, isEnabled: true })
    await held.image('v4')
    await held.settle()
    assert.deepEqual(await held.names(AWAY), ['v1', 'v4'])
    await held.rules.remove(root, { id })
    await held.image('v5')
    await held.settle()
    assert.deepEqual(await held.names(AWAY), ['v1', 'v4'])
  })

  test('a rule that goes while its copies are asked for gets none', async () => {
    const id = await held.rule()
    await held.image('v1')
    const { catalog } = held.place
    const transaction: Catalog['transaction'] = async (work) => {
      await held.rules.remove(root, { id })
      return catalog.transaction(work)
    }
    await held.restart({ catalog: { ...catalog, transaction } })
    await look()
    assert.deepEqual(await held.names(AWAY), [])
  })

  test('it looks by itself at the end of a task that makes an image', async () => {
    await held.rule()
    await look()
    await held.image('new')
    const projectId = root.defaultProjectId as ProjectId
    const task = { kind: 'import-image', projectId, regionId: HOME, input: {} } as const
    const taskId = await held.place.runner.add(rows(), task)
    await held.endTask(taskId, { state: 'done' })
    while ((await held.names(AWAY)).length === 0) await delay(5)
    assert.deepEqual(await held.names(AWAY), ['new creating'])
  })

  test('what is known of images that are gone is let go of', async () => {
    await held.rule()
    await held.image('settled')
    await held.image('copied')
    await held.settle()
    await look()
    const known = async () => (await rows().selectFrom('replicated').select('imageId').execute()).length
    assert.equal(await known(), 4)
    await rows().deleteFrom('image').where('name', '=', 'settled').execute()
    wait(61)
    await look()
    assert.equal(await known(), 3, 'where it came from is known for a month')
    wait(31 * 24 * 60)
    await look()
    assert.equal(await known(), 2)
  })
})
