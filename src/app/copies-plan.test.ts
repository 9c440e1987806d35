import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { Digest, ImageId } from '../image/ids.ts'
import type { PlanCopyInput } from '../tasks/plan-copy.ts'
import { copiesOf, fault } from './copies.fixture.ts'
import type { CopyWish } from './copy-contract.ts'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace } from './fixture.ts'

const MIB = 1024 ** 2

describe('copies, before they are made', () => {
  let place: AppPlace
  let imageId: ImageId
  let at: ReturnType<typeof copiesOf>
  beforeEach(async () => {
    place = await newAppPlace({ imagesPerRegionMax: 100 })
    imageId = await place.availableImage('golden')
    at = copiesOf(place, imageId)
  })
  afterEach(() => place.close())

  describe('a deadline', () => {
    test('is kept with the tasks where it can be met, and refused with the estimate where not', async () => {
      const bytes = new Map<string, number>([
        [AWAY, 100 * MIB],
        [FAR, 50 * MIB],
      ])
      place.pulls = async (regionId) => ({
        ...{ missingBytes: bytes.get(regionId) ?? 0, savedBytes: 0, resumedBytes: 0 },
      })
      place.copies.limitOf = () => 10 * MIB
      const targetRegionIds = [AWAY, FAR]
      const count = await at.countOf('image')
      await assert.rejects(at.copy({ targetRegionIds, withinMs: 14_999 }), (error) => {
        assert.ok(fault('conflict', 'image', 'deadline')(error))
        assert.match((error as Fault).message, /about 15 s, and 14 s are allowed: 157286400 bytes/)
        return true
      })
      assert.equal(await at.countOf('image'), count)
      const { taskId, copies } = await at.copy({ targetRegionIds, withinMs: 15_000 })
      for (const id of [taskId, ...copies.map((one) => one.taskId)]) {
        assert.equal((await at.task(id)).deadlineAtMs, place.nowMs + 15_000)
      }
      assert.deepEqual(await Promise.all(copies.map(async (one) => (await at.task(one.taskId)).totalBytes)), [
        100 * MIB,
        50 * MIB,
      ])
      // With a limit of its own it takes longer.
      await assert.rejects(
        at.copy({ withinMs: 15_000, bytesPerSecond: MIB }),
        fault('conflict', 'image', 'deadline'),
      )
      // Where nothing is known nothing is refused, and what is there already takes no time.
      place.copies.limitOf = () => undefined
      await at.copy({ withinMs: 1 })
    })

    test('of a region without room is refused, and what cannot be looked at is not', async () => {
      const full = await newAppPlace({
        jobs: {
          freeBytes: async () => 10,
          planPull: async () => ({ missingBytes: 11, savedBytes: 0, resumedBytes: 0 }),
        } as never,
      })
      try {
        const source = await full.availableImage('i')
        const asked = { regionId: HOME, imageId: source, targetRegionIds: [AWAY], withinMs: 1000 }
        await assert.rejects(full.app.images.copy(full.root, asked), fault('full', 'store', 'room'))
      } finally {
        await full.close()
      }
      place.pulls = async () => {
        throw new Fault('unavailable', 'The store is away.', { subject: 'store' })
      }
      place.copies.limitOf = () => 1
      await at.copy({ withinMs: 1 })
    })
  })

  describe('the plan', () => {
    const plan = async (more: Partial<CopyWish> = {}) => {
      const { taskId } = await place.app.images.planCopy(place.root, at.wish(more))
      const { kind, projectId, regionId, input } = await at.task(taskId)
      assert.deepEqual([kind, regionId], ['plan-copy', HOME])
      return { projectId, input: JSON.parse(input) as PlanCopyInput }
    }

    test('asks the stores of what can be copied, with what the catalog has against each target', async () => {
      await at.rows().updateTable('image').set({ dataBytes: 5 }).execute()
      const more = { targetRegionIds: [AWAY, HOME], withinMs: 9, bytesPerSecond: 8, name: 'n'.repeat(500) }
      const { projectId, input } = await plan(more)
      assert.equal(projectId, place.root.defaultProjectId)
      const { targets, ...rest } = input
      assert.deepEqual(rest, {
        ...{ source: { is: 'region', regionId: HOME }, digest: 'd'.repeat(64), dataBytes: 5 },
        ...{ bytesPerSecond: 8, withinMs: 9, tellsSpace: true },
      })
      assert.deepEqual(
        targets.map(({ regionId, way, blockers }) => [regionId, way, blockers.length]),
        [
          [AWAY, 'pull', 1],
          [HOME, 'reference', 2],
        ],
      )
      assert.match(targets[1]?.blockers[0] ?? '', /same project and region/)
      assert.equal(await at.countOf('image'), 1)
    })

    test('of an image that cannot be copied says why, and of none is refused', async () => {
      await at.rows().updateTable('image').set({ state: 'creating' }).execute()
      const creating = await plan()
      assert.equal(creating.input.digest, null)
      assert.match(creating.input.targets[0]?.blockers.join() ?? '', /^The image is creating;/)
      await at.rows().updateTable('image').set({ state: 'available' }).execute()
      place.damaged.add('d'.repeat(64) as Digest)
      const damaged = await plan()
      assert.equal(damaged.input.digest, null)
      assert.match(damaged.input.targets[0]?.blockers.join() ?? '', /^The image is damaged\./)
      await at.rows().updateTable('image').set({ kind: 'base' }).execute()
      assert.match((await plan()).input.targets[0]?.blockers.join() ?? '', /^Base images are in every region/)
      await at.rows().deleteFrom('image').execute()
      await assert.rejects(plan(), fault('absent', 'image'))
    })

    test('is of the project that the copies would be of, with its number of images', async () => {
      const small = await newAppPlace({ imagesPerRegionMax: 1 })
      try {
        const source = await small.availableImage('i')
        const asked = { regionId: HOME, imageId: source, targetRegionIds: [AWAY] }
        await small.app.images.copy(small.root, asked)
        const { taskId } = await small.app.images.planCopy(small.root, asked)
        const row = await small.catalog.rows
          .selectFrom('task')
          .select('input')
          .where('id', '=', taskId)
          .executeTakeFirstOrThrow()
        const { targets } = JSON.parse(row.input) as PlanCopyInput
        assert.match(targets[0]?.blockers.join() ?? '', /has its 1 images in region hk/)
      } finally {
        await small.close()
      }
      const projectId = await at.second()
      assert.equal((await plan({ targetProjectId: projectId })).projectId, projectId)
    })
  })
})
