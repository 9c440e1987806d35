import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault, isFault } from '../image/fault.ts'
import type { ImageId, RegionId, TaskId } from '../image/ids.ts'
import { ensureRefs } from '../tasks/ensure-refs.ts'
import { HOME, newTaskPlace, PROJECT, type TaskPlace } from '../tasks/fixture.ts'
import { chargedBytes, chargeProblems } from '../tasks/quota.ts'
import type { Caller } from './contract.ts'
import { createCopies } from './copies.ts'
import type { CopyOf } from './copy-contract.ts'
import { createGuard } from './guard.ts'
import { createImages } from './images.ts'
import type { Parts } from './parts.ts'
import { createTasks } from './tasks.ts'

const REGIONS = [HOME, 'hk', 'sg', 'de'] as RegionId[]
const BATCHES = 20
const SEED = Number(process.env.SEED ?? Math.trunc(Math.random() * 1_000_000))

/** Numbers from 0 to below 1 that a seed tells. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

describe('many batches at once', () => {
  let place: TaskPlace
  beforeEach(async () => {
    place = await newTaskPlace()
  })
  afterEach(() => place.close())

  test(`whatever is done to them, nothing is left of what is not there (seed ${SEED})`, async () => {
    const random = randomOf(SEED)
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
    const { catalog, stores } = place
    const parts = {
      ...{
        catalog,
        runner: place.runner,
        jobs: stores.jobs,
        clock: place.parts.clock,
        defaultRegionId: HOME,
      },
      regions: REGIONS.map((id) => ({ id, localName: id, englishName: id, zones: ['z'] })),
      copies: { acrossProjects: 'reference', repeatMs: 1000, atOnce: 4, limitOf: () => undefined },
      sources: { refuseDamaged: async () => {} },
      imagesPerRegionMax: 1000,
    } as unknown as Parts
    const guard = createGuard(parts)
    const { retry, ...copies } = createCopies(parts, guard)
    const images = createImages(parts, guard)
    const tasks = createTasks(parts, guard, retry)
    const caller: Caller = {
      ...{ accountId: '1', userId: 'u', userName: 'root', isRoot: true, defaultProjectId: PROJECT },
      ...{ door: 'native', requestId: 'R', sourceIp: '127.0.0.1', secureTransport: false },
    }
    for (const name of ['pull', 'pulled', 'refer', 'release', 'planPull']) {
      stores.gates.set(name, async () => {
        await delay(Math.floor(random() * 12))
        if (name === 'pull' && random() < 0.1) {
          throw new Fault('corrupt', 'A pack is damaged.', { subject: 'store' })
        }
      })
    }
    for (const id of REGIONS) {
      stores.freeBytes.set(id, 10 ** 9)
      stores.estimates.set(id, { missingBytes: 1000, savedBytes: 10, resumedBytes: 0 })
    }
    const sources: ImageId[] = []
    for (let i = 0; i < 6; i++) sources.push(await place.image(`source ${i}`))
    await ensureRefs(place.parts, HOME, () => {})

    const seen = new Map<string, number>()
    const watch = async () => {
      const rows = await catalog.rows
        .selectFrom('image')
        .select(['id', 'state', 'progressPermille'])
        .execute()
      for (const { id, state, progressPermille } of rows) {
        assert.ok(progressPermille >= (seen.get(id) ?? 0), `the progress of ${id} fell`)
        assert.equal(progressPermille === 1000, state === 'available', `${id} is ${state}`)
        seen.set(id, progressPermille)
      }
    }
    const made: CopyOf[] = []
    const taskIds: TaskId[] = []
    const refused: unknown[] = []
    /** Somebody who does not know how things are by now: refusals are no failure. */
    const attempt = async (work: () => Promise<unknown>) => {
      try {
        await work()
      } catch (error) {
        if (!isFault(error)) throw error
        refused.push(error)
      }
    }
    const disturb = () => {
      const copy = pick(made)
      const id = pick(taskIds)
      if (copy === undefined || id === undefined) return Promise.resolve()
      const where = { regionId: copy.regionId, imageId: copy.imageId }
      return attempt(
        pick([
          () => tasks.cancel(caller, id),
          () => tasks.cancel(caller, copy.taskId),
          () => tasks.change(caller, id, { paused: true }),
          () => tasks.change(caller, id, { paused: false }),
          () => tasks.change(caller, copy.taskId, { paused: true }),
          () => tasks.change(caller, copy.taskId, { paused: false, priority: 9 }),
          () => tasks.retry(caller, id),
          () => tasks.retry(caller, copy.taskId),
          () => copies.cancelCopy({ ...caller, door: 'wuying' }, where),
          () => images.remove(caller, { regionId: copy.regionId, imageIds: [copy.imageId] }),
          async () => {
            // Else there would soon be nothing left to copy.
            if (random() < 0.2) await images.remove(caller, { regionId: HOME, imageIds: [pick(sources)] })
          },
        ]),
      )
    }
    const work: Promise<unknown>[] = []
    for (let i = 0; i < BATCHES; i++) {
      const targetRegionIds = REGIONS.slice(1, 2 + Math.floor(random() * 3))
      const asked = { regionId: HOME, imageId: pick(sources), targetRegionIds, name: `copy ${i}` }
      work.push(
        attempt(async () => {
          const answer = await copies.copy(caller, asked)
          made.push(...answer.copies)
          taskIds.push(answer.taskId)
        }),
      )
      for (let n = 0; n < 4; n++) {
        await delay(Math.floor(random() * 4))
        work.push(disturb())
      }
      await watch()
    }
    await Promise.all(work)

    // What is held goes on, and all comes to its end.
    let laterCount = 40
    const live = () => catalog.rows.selectFrom('task').selectAll().where('endedAtMs', 'is', null).execute()
    for (let left = await live(); left.length > 0; left = await live()) {
      for (const { id, state } of left) {
        if (state === 'paused') await attempt(() => place.runner.proceed(id as TaskId))
      }
      if (laterCount-- > 0) await disturb()
      await watch()
      await delay(10)
    }
    await watch()
    const rows = await catalog.rows.selectFrom('image').select(['id', 'regionId', 'state']).execute()
    for (const regionId of REGIONS) {
      const here = rows.filter((row) => row.regionId === regionId && row.state === 'available')
      assert.deepEqual(stores.holders(regionId).sort(), here.map(({ id }) => id).sort())
      assert.deepEqual(await chargeProblems(catalog.rows, regionId), [])
    }
    assert.ok(rows.every(({ state }) => state !== 'creating'))
    const availableCount = rows.filter(({ state }) => state === 'available').length
    assert.equal(await chargedBytes(catalog.rows, PROJECT), availableCount * 4096)
    assert.ok(made.length > 0)
  })
})
