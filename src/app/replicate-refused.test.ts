import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Catalog } from '../catalog/contract.ts'
import type { Digest } from '../image/ids.ts'
import type { Caller } from './contract.ts'
import { AWAY, FAR, HOME } from './fixture.ts'
import { MINUTE_MS, newRulesPlace, type RulesPlace } from './replication.fixture.ts'

describe('following replication rules, where something is refused or ends', () => {
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
  const taskCount = async () => (await rows().selectFrom('task').select('id').execute()).length

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
    const { taskId } = await held.imageOf('next', FAR)
    const parents = await rows().selectFrom('task').select('parentId').where('id', '=', taskId).execute()
    assert.notEqual(parents[0]?.parentId, null)
  })

  test('a damaged image holds up no other, and is copied once it is mended', async () => {
    const id = await held.rule()
    await held.image('broken', { digest: 'b'.repeat(64) })
    held.place.damaged.add('b'.repeat(64) as Digest)
    await held.image('whole')
    await look()
    assert.deepEqual(await held.names(AWAY), ['whole creating'])
    assert.match((await held.ruleRow(id)).lastReason ?? '', /^Image 'broken' to hk: The image is damaged\./)
    held.place.damaged.clear()
    wait(1)
    await look()
    assert.deepEqual(await held.names(AWAY), ['whole creating', 'broken creating'])
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

  test('a copy that failed for want of room is tried again with the same image, others are not', async () => {
    const id = await held.rule()
    await held.image('new')
    await look()
    const { id: copyId, taskId } = await held.imageOf('new')
    await held.failCopies('full')
    await look()
    const failedAtMs = held.place.nowMs
    const { lastFailedAtMs, lastReason } = await held.ruleRow(id)
    assert.deepEqual([lastFailedAtMs, lastReason], [failedAtMs, "Image 'new' to hk: It is full."])
    assert.deepEqual(await held.names(AWAY), ['new failed'])
    wait(1)
    await look()
    const again = await held.imageOf('new')
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
})
