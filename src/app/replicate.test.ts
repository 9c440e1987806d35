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
  const copyOf = async (name: string, regionId = AWAY) =>
    await rows()
      .selectFrom('image')
      .selectAll()
      .where('name', '=', name)
      .where('regionId', '=', regionId)
      .executeTakeFirstOrThrow()
  const remove = (imageId: string, regionId = AWAY) =>
    held.place.app.images.remove(root, { regionId, imageIds: [imageId as ImageId] })
  const taskCount = async () => (await rows().selectFrom('task').select('id').execute()).length

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
    const { sourceImageId, origin } = await copyOf('new 1')
    assert.deepEqual([origin, sourceImageId], ['copy', (await copyOf('new 1', HOME)).id])
    // It was here all the time, and is new only now.
    const made = { state: 'available', digest: 'a'.repeat(64), updatedAtMs: nowMs }
    await rows().updateTable('image').set(made).where('name', '=', 'unready').execute()
    // One that is deleted does not come again.
    await remove((await copyOf('new 1')).id)
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
    const { digest } = await copyOf('golden', HOME)
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
    await held.image('web-8.0', { tag: 'prod', parent: (await copyOf('web-1.0', HOME)).digest })
    await look()
    const names = ['web-1.0 creating', 'web-4.0 creating', 'web-8.0 creating']
    assert.deepEqual((await held.names(AWAY)).toSorted(), names)
    assert.equal((await held.names(FAR)).filter((name) => name.endsWith('creating')).length, 7)
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), names)
  })

  test('a family outlives the image that it is of', async () => {
    const golden = await held.image('golden')
    const { digest } = await copyOf('golden', HOME)
    await held.rule({ filter: { familyOf: golden } })
    await held.image('v2', { parent: digest })
    await rows().deleteFrom('image').where('id', '=', golden).execute()
    await held.image('v3', { parent: (await copyOf('v2', HOME)).digest })
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['v2 creating', 'v3 creating'])
  })

  test('several targets are one batch; one that is refused holds up no other, and gets its copy later', async () => {
    held.parts.imagesPerRegionMax = 1
    await held.image('there', { regionId: FAR })
    const id = await held.rule({ targetRegionIds: [AWAY, FAR] })
    await held.image('new')
    await look()
    assert.deepEqual(await held.names(AWAY), ['new creating'])
    assert.deepEqual(await held.names(FAR), ['there'])
    const rule = await held.ruleRow(id)
    assert.equal(rule.lastFailedAtMs, held.place.nowMs)
    assert.match(rule.lastReason ?? '', /^Image 'new' to sg: .* has its 1 images in region sg\. Delete some/)
    held.parts.imagesPerRegionMax = 10
    await look()
    assert.deepEqual(await held.names(FAR), ['there'], 'not before its time')
    wait(1)
    await look()
    assert.deepEqual(await held.names(FAR), ['there', 'new creating'])
    await held.image('next')
    await look()
    const { taskId } = await copyOf('next', FAR)
    const parents = await rows().selectFrom('task').select('parentId').where('id', '=', taskId).execute()
    assert.notEqual(parents[0]?.parentId, null)
  })

  test('a target that stays full is asked seldom, and one image there starves no other', async () => {
    await rows().updateTable('project').set({ quotaBytes: 5 }).execute()
    const id = await held.rule()
    await held.image('large', { dataBytes: 5 })
    await held.image('small')
    const asked = async () => (await rows().selectFrom('audit').select('id').execute()).length
    await look()
    const before = await asked()
    for (let i = 0; i < 10; i++) await look()
    assert.equal(await asked(), before)
    assert.deepEqual(await held.names(AWAY), [])
    await rows().updateTable('image').set({ dataBytes: 3 }).where('name', '=', 'large').execute()
    await rows().updateTable('project').set({ quotaBytes: 6 }).execute()
    wait(1)
    await look()
    assert.deepEqual(await held.names(AWAY), ['small creating'], 'the one that was not refused before')
    assert.match((await held.ruleRow(id)).lastReason ?? '', /^Image 'large' to hk: /)
    const half = await asked()
    for (let minute = 0; minute < 24 * 60; minute += 5) {
      wait(5)
      await look()
    }
    const tries = (await asked()) - half
    assert.ok(tries >= 20 && tries <= 31, `${tries}`)
    await rows().updateTable('project').set({ quotaBytes: null }).execute()
    wait(60)
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['large creating', 'small creating'])
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
    await remove((await copyOf('gone')).id)
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
    const imageId = (await copyOf('one', HOME)).id as ImageId
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

  test('a copy that failed for want of room is tried again with the same image, others are not', async () => {
    const id = await held.rule()
    await held.image('new')
    await look()
    const { id: copyId, taskId } = await copyOf('new')
    await held.failCopies('full')
    await look()
    const failedAtMs = held.place.nowMs
    const { lastFailedAtMs, lastReason } = await held.ruleRow(id)
    assert.deepEqual([lastFailedAtMs, lastReason], [failedAtMs, "Image 'new' to hk: It is full."])
    assert.deepEqual(await held.names(AWAY), ['new failed'])
    wait(1)
    await look()
    const again = await copyOf('new')
    assert.deepEqual([again.id, again.state], [copyId, 'creating'])
    assert.notEqual(again.taskId, taskId)
    await held.failCopies('unavailable')
    await look()
    wait(1)
    await look()
    assert.deepEqual(await held.names(AWAY), ['new failed'], 'the second time it waits for longer')
    wait(1)
    await look()
    assert.deepEqual(await held.names(AWAY), ['new creating'])
    await held.failCopies('corrupt')
    const count = await taskCount()
    wait(600)
    await look()
    assert.equal(await taskCount(), count)
    // Somebody else's decision.
    await held.image('next')
    await look()
    await held.failCopies('full', 'cancelled')
    wait(600)
    const then = await taskCount()
    await look()
    assert.equal(await taskCount(), then)
    await rows().updateTable('task').set({ faultKind: 'full' }).where('imageId', '=', copyId).execute()
    await rows().deleteFrom('image').where('name', '=', 'new').where('regionId', '=', HOME).execute()
    await look()
    assert.equal(await taskCount(), then, 'its source is gone')
  })

  test('whoever loses the right to copy copies no more, and goes on when it is back', async () => {
    const { keyId } = await held.place.app.users.create(root, 'anna')
    const allow = (...actions: string[]) =>
      held.place.app.users.putPolicy(root, 'all', {
        Version: '1',
        Statement: [{ Effect: 'Allow', Action: actions, Resource: '*' }],
      })
    await allow('calotype:*')
    await held.place.app.users.attach(root, 'anna', 'all')
    const anna = await held.place.caller(keyId)
    const id = await held.rule({ keepCount: 1 }, anna)
    await held.image('v1')
    await held.settle()
    await allow('calotype:DeleteImage')
    await held.image('v2')
    await look()
    assert.deepEqual(await held.names(AWAY), ['v1'])
    const { lastReason } = await held.ruleRow(id)
    assert.match(lastReason ?? '', /^Image 'v2' to hk: User anna may not do calotype:CopyImage/)
    await allow('calotype:CopyImage')
    wait(1)
    await held.settle()
    await look()
    assert.deepEqual((await held.names(AWAY)).toSorted(), ['v1', 'v2'], 'the old one may not be deleted')
    assert.match(
      (await held.ruleRow(id)).lastReason ?? '',
      /^Old copies in hk could not be deleted: User anna may not do calotype:DeleteImage/,
    )
    await allow('calotype:*')
    wait(1)
    await look()
    assert.deepEqual(await held.names(AWAY), ['v2'])
    const users = await rows()
      .selectFrom('audit')
      .select('userId')
      .where('action', 'like', '%CopyImage')
      .execute()
    assert.deepEqual(new Set(users.map(({ userId }) => userId)), new Set([anna.userId]))
    await held.image('v3')
    await rows().deleteFrom('user').where('name', '=', 'anna').execute()
    await look()
    await look()
    assert.deepEqual(await held.names(AWAY), ['v2'])
    assert.match((await held.ruleRow(id)).lastReason ?? '', /^anna: /)
  })

  test('looking at the rules never rejects: a start does not wait for it, and reads of it in the log', async () => {
    await held.rule()
    const { catalog } = held.place
    const away = () => {
      throw new Error('the catalog is away')
    }
    await held.restart({ catalog: { ...catalog, rows: { selectFrom: away } as never } })
    await look()
    const [told] = held.log.splice(0)
    assert.deepEqual([told?.level, told?.message], ['error', 'the replication rules could not be looked at'])
  })

  test('whenever the server ends, an image is copied once', async () => {
    await held.rule({ targetRegionIds: [AWAY, FAR] })
    const { catalog } = held.place
    /** Ends with the n-th transaction, before it is committed or right after. */
    const ending = (count: number, when: 'before' | 'after'): Catalog => {
      let left = count
      return {
        ...catalog,
        transaction: async (work) => {
          const isLast = --left <= 0
          const made = await catalog.transaction(async (inner) => {
            const done = await work(inner)
            if (isLast && when === 'before') throw new Error('the end')
            return done
          })
          if (isLast) throw new Error('the end')
          return made
        },
      }
    }
    let names: string[] = []
    for (const [i, when] of (['before', 'after', 'before', 'after'] as const).entries()) {
      await held.image(`a${i}`)
      await held.image(`b${i}`)
      await held.restart({ catalog: ending(1 + (i >> 1), when) })
      await look()
      await held.restart()
      await look()
      names = [...names, `a${i} creating`, `b${i} creating`].toSorted()
      assert.deepEqual((await held.names(AWAY)).toSorted(), names, when)
      assert.deepEqual((await held.names(FAR)).toSorted(), names, when)
    }
    const ends = held.log.splice(0).filter(({ message }) => message === 'a replication rule failed')
    assert.equal(ends.length, 4)
    // While nobody looked.
    await held.restart()
    await held.image('c')
    await held.settle()
    assert.equal((await held.names(AWAY)).length, 9)
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
