import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { TaskId } from '../image/ids.ts'
import { DEAD_AFTER_MS, deadSessions } from './collect-garbage.ts'
import { AWAY, digestOf, HOME, newTaskPlace, type TaskPlace } from './fixture.ts'
import { createUpkeep, type Upkeep } from './upkeep.ts'

const HOUR_MS = 60 * 60 * 1000

describe('upkeep of the stores', () => {
  let place: TaskPlace
  let upkeep: Upkeep
  beforeEach(async () => {
    place = await newTaskPlace()
    upkeep = createUpkeep({
      ...{ catalog: place.catalog, runner: place.runner, jobs: place.parts.jobs },
      clock: () => place.nowMs,
      regionIds: [HOME, AWAY],
      log: (record) => void place.logged.push(record),
      gcEveryMs: 24 * HOUR_MS,
      gcGraceMs: HOUR_MS,
      scrubEveryMs: 48 * HOUR_MS,
      scrubBytesPerSecond: 1000,
    })
  })
  afterEach(async () => {
    await upkeep.close()
    await place.close()
  })

  const tasks = async (kind: string) =>
    place.catalog.rows
      .selectFrom('task')
      .selectAll()
      .where('kind', '=', kind)
      .orderBy('createdAtMs')
      .execute()
  const settle = async () => {
    for (const { id } of await place.catalog.rows.selectFrom('task').select('id').execute()) {
      await place.ended(id as TaskId)
    }
  }
  const look = async () => {
    await upkeep.look()
    await settle()
  }

  test('each region is collected and scrubbed when it is due, one after the other', async () => {
    await look()
    assert.equal((await tasks('collect-garbage')).length, 0)
    place.nowMs += 24 * HOUR_MS
    await look()
    await look()
    await look()
    assert.deepEqual(
      place.stores.collected.map(({ regionId, graceMs, isDryRun }) => [regionId, graceMs, isDryRun]),
      [
        [HOME, HOUR_MS, false],
        [AWAY, HOUR_MS, false],
      ],
    )
    assert.deepEqual(place.stores.scrubbed, [])
    place.nowMs += 24 * HOUR_MS
    await look()
    await look()
    assert.equal(place.stores.collected.length, 4)
    const job = { bytesPerSecond: 1000, olderThanMs: 24 * HOUR_MS }
    assert.deepEqual(place.stores.scrubbed, [
      { regionId: HOME, ...job },
      { regionId: AWAY, ...job },
    ])
    assert.deepEqual(place.stores.repaired, [HOME, AWAY])
  })

  test('one that failed is tried again after an hour; a dry run is no collection', async () => {
    place.nowMs += 24 * HOUR_MS
    place.stores.gates.set('collect', async () => {
      throw new Fault('unavailable', 'The store is away.')
    })
    await look()
    await look()
    assert.equal((await tasks('collect-garbage')).filter((task) => task.regionId === HOME).length, 1)
    place.stores.gates.clear()
    place.nowMs += HOUR_MS
    await look()
    assert.equal(place.stores.collected.length, 1)
    place.nowMs += 24 * HOUR_MS
    const dryRun = { regionId: HOME, isDryRun: true, graceMs: 0 }
    await place.ended(await place.begin({ kind: 'collect-garbage', input: dryRun }))
    place.nowMs += HOUR_MS
    await look()
    assert.deepEqual(place.stores.collected.map(({ regionId, isDryRun }) => [regionId, isDryRun]).slice(1), [
      [HOME, true],
      [HOME, false],
    ])
  })

  test('damage that a reader met queues one repair, whose losses are named', async () => {
    const imageId = await place.image('golden')
    place.stores.lost = [{ message: 'Nobody has it.', image: digestOf('golden'), diskIndex: 1, offset: 512 }]
    place.stores.unlabelled = [imageId]
    const opened = Promise.withResolvers<void>()
    place.stores.gates.set('repair', () => opened.promise)
    place.stores.tellDamage(HOME)
    place.stores.tellDamage(HOME)
    await upkeep.look()
    opened.resolve()
    const repairs = await tasks('repair-region')
    assert.equal(repairs.length, 1)
    const { output } = await place.ended(repairs[0]?.id as TaskId)
    assert.deepEqual(output.problems, [`image img-${imageId} 'golden', disk 1 at byte 512: Nobody has it.`])
    assert.deepEqual(place.stores.holders(HOME), [imageId])
  })

  test('a session is dead when no live task owns it and it was silent for an hour', async () => {
    const { stores } = place
    const reached = Promise.withResolvers<void>()
    stores.gates.set('collect', () => {
      reached.resolve()
      return new Promise((resolve) => stores.gates.set('open', async () => resolve()))
    })
    const dryRun = { regionId: HOME, isDryRun: true, graceMs: 0 }
    const live = await place.begin({ kind: 'collect-garbage', input: dryRun })
    await reached.promise
    const oldMs = place.nowMs - DEAD_AFTER_MS
    stores.sessions.push(
      { id: live, touchedMs: oldMs },
      { id: 'gone', touchedMs: oldMs },
      { id: 'silent-for-less', touchedMs: oldMs + 1 },
      { id: 'gc-1', touchedMs: oldMs },
      { id: 'repair-1', touchedMs: oldMs },
    )
    assert.deepEqual(await deadSessions(place.parts, HOME), ['gone', 'gc-1', 'repair-1'])
    await place.runner.add(place.catalog.rows, {
      ...{ kind: 'scrub-region', projectId: 'org-main' as never, regionId: HOME },
      input: {},
    })
    assert.deepEqual(await deadSessions(place.parts, HOME), ['gone', 'gc-1'])
    await stores.gates.get('open')?.()
  })

  test('a collection makes sure of every ref first, and gives up if it cannot', async () => {
    const imageId = await place.image('golden')
    place.stores.gates.set('refer', async () => {
      throw new Fault('unavailable', 'The store is away.')
    })
    const input = { regionId: HOME, isDryRun: false, graceMs: 0 }
    const failed = await place.begin({ kind: 'collect-garbage', input })
    assert.equal((await place.ended(failed)).state, 'failed')
    assert.deepEqual(place.stores.collected, [])
    place.stores.gates.clear()
    const done = await place.begin({ kind: 'collect-garbage', input })
    assert.equal((await place.ended(done)).state, 'done')
    assert.deepEqual([place.stores.collected.length, place.stores.holders(HOME)], [1, [imageId]])
  })
})
