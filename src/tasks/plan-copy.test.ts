import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { CopyPlan } from '../image/copy.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import type { CopyInput } from './copy-words.ts'
import { AWAY, digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'
import type { PlanCopyInput } from './plan-copy.ts'

const MIB = 1024 ** 2
const FAR = 'far' as RegionId

describe('the plan of copies', () => {
  let place: TaskPlace
  beforeEach(async () => {
    place = await newTaskPlace()
    await place.image('source')
  })
  afterEach(() => place.close())

  const pulls = (regionId: RegionId, missingBytes: number, savedBytes = 0) =>
    place.stores.estimates.set(regionId, { missingBytes, savedBytes, resumedBytes: 0 })
  const to = (regionId: RegionId, way: 'reference' | 'pull' | 'rekey' = 'pull', blockers: string[] = []) => ({
    ...{ regionId, way, blockers },
  })
  const plan = async (input: Partial<PlanCopyInput> & Pick<PlanCopyInput, 'targets'>) => {
    const source = { is: 'region', regionId: HOME } as const
    const plain = { source, digest: digestOf('source'), dataBytes: 4096, tellsSpace: true }
    const id = await place.begin({ kind: 'plan-copy', input: { ...plain, ...input } })
    const { state, output } = await place.ended(id)
    assert.equal(state, 'done')
    return output as unknown as CopyPlan
  }
  /** What a copy leaves behind that took so long. */
  const copied = async (
    regionId: RegionId,
    movedBytes: number,
    pullMs: number,
    more: Partial<CopyInput> = {},
  ) => {
    const input = {
      ...{ source: { is: 'region', regionId: HOME }, targetRegionId: regionId, way: 'pull' },
      ...more,
    }
    const id = await place.runner.add(place.catalog.rows, {
      ...{ kind: 'copy-image', projectId: PROJECT, regionId, input },
    })
    const output = JSON.stringify({ by: 'pull', movedBytes, pullMs })
    await place.catalog.rows
      .updateTable('task')
      .set({ state: 'done', endedAtMs: place.nowMs++, movedBytes, output })
      .where('id', '=', id)
      .execute()
  }

  test('tells what moves, what does not, and that nothing is known of the time', async () => {
    pulls(AWAY, 700, 300)
    pulls(FAR, 0, 1000)
    place.stores.freeBytes.set(AWAY, 10_000)
    const told = await plan({ targets: [to(AWAY), to(HOME, 'reference'), to(FAR)] })
    assert.deepEqual(told, {
      targets: [
        {
          ...{ regionId: AWAY, way: 'pull', moveBytes: 700, savedBytes: 300, chargedBytes: 4096 },
          ...{ freeBytes: 10_000, estimateMs: null, blockers: [] },
        },
        {
          ...{ regionId: HOME, way: 'reference', moveBytes: 0, savedBytes: 0, chargedBytes: 4096 },
          ...{ freeBytes: null, estimateMs: 0, blockers: [] },
        },
        {
          ...{ regionId: FAR, way: 'pull', moveBytes: 0, savedBytes: 1000, chargedBytes: 4096 },
          ...{ freeBytes: null, estimateMs: 0, blockers: [] },
        },
      ],
      ...{ moveBytes: 700, estimateMs: null, isPossible: true },
    })
    assert.deepEqual(place.stores.pulled, [])
    // A rekeyed copy moves all of it, wherever it goes.
    const rekeyed = await plan({ targets: [to(AWAY, 'rekey')] })
    assert.deepEqual([rekeyed.targets[0]?.moveBytes, rekeyed.targets[0]?.savedBytes], [1000, 0])
  })

  test('the time is told by the last copies of that way, or by the limits where they are lower', async () => {
    const estimate = async (targets: PlanCopyInput['targets'], more: Partial<PlanCopyInput> = {}) => {
      const { targets: told, estimateMs } = await plan({ targets, ...more })
      return [...told.map((target) => target.estimateMs), estimateMs]
    }
    pulls(AWAY, 100 * MIB)
    // Of another way, too small to say anything, with a limit of its own, of another source.
    await copied(FAR, 80 * MIB, 1)
    await copied(AWAY, 7 * MIB, 1)
    await copied(AWAY, 80 * MIB, 1, { bytesPerSecond: 5 })
    await copied(AWAY, 80 * MIB, 1, { way: 'rekey' })
    await copied(AWAY, 80 * MIB, 1, { source: { is: 'peer', peer: 'p', regionId: HOME } })
    assert.deepEqual(await estimate([to(AWAY)]), [null, null])
    await copied(AWAY, 80 * MIB, 1)
    for (let i = 0; i < 3; i++) await copied(AWAY, 10 * MIB, 1000)
    // By the last three.
    assert.deepEqual(await estimate([to(AWAY)]), [10_000, 10_000])
    assert.deepEqual(await estimate([to(AWAY)], { bytesPerSecond: 5 * MIB }), [20_000, 20_000])
    place.limits.set(AWAY, 2 * MIB)
    assert.deepEqual(await estimate([to(AWAY)]), [50_000, 50_000])
    // Out of the source goes what goes into all of them.
    pulls(FAR, 100 * MIB)
    place.limits.set(HOME, 1 * MIB)
    assert.deepEqual(await estimate([to(AWAY), to(FAR)]), [100_000, 100_000, 200_000])
  })

  test('so many at once as may be', async () => {
    const regions = ['a', 'b', 'c', 'd', 'e', 'f'] as RegionId[]
    for (const regionId of regions) {
      pulls(regionId, 100 * MIB)
      place.limits.set(regionId, 10 * MIB)
    }
    const { estimateMs } = await plan({ targets: regions.map((one) => to(one)) })
    // Six of 10 s in four places.
    assert.equal(estimateMs, 20_000)
  })

  test('what stands in the way is told of the target that it is in the way of', async () => {
    pulls(AWAY, 700)
    pulls(FAR, 100)
    place.stores.freeBytes.set(AWAY, 699)
    place.stores.gates.set('planPull', async () => {})
    const blockers = async (more: Partial<PlanCopyInput> = {}) => {
      const told = await plan({ targets: [to(AWAY), to(FAR, 'pull', ['As asked.'])], ...more })
      assert.equal(told.isPossible, false)
      return told.targets.map((target) => target.blockers)
    }
    const [away, far] = await blockers()
    assert.match(away?.join() ?? '', /^Region hk has no room for 700 bytes .*, and 699 are free\./)
    assert.deepEqual(far, ['As asked.'])
    const [untold] = await blockers({ tellsSpace: false })
    assert.doesNotMatch(untold?.join() ?? '', /699/)
    place.stores.freeBytes.clear()
    // Both together are too much.
    await place.catalog.rows.updateTable('project').set({ quotaBytes: 12_000 }).execute()
    for (const one of await blockers())
      assert.match(one.join(), /quota of 12000 bytes leaves no room for 8192 more/)
    await place.catalog.rows.updateTable('project').set({ quotaBytes: null }).execute()
    place.limits.set(AWAY, 100)
    place.limits.set(FAR, 100)
    for (const one of await blockers({ withinMs: 6999 }))
      assert.match(one.join(), /about 7 s, and 6\.999 s are/)
    assert.deepEqual(await blockers({ withinMs: 7000 }), [[], ['As asked.']])
  })

  test('what a store has against it is a blocker and no failure', async () => {
    place.stores.gates.set('planPull', async () => {
      throw new Fault('conflict', 'The regions hold different keys.', { subject: 'store' })
    })
    const told = await plan({ targets: [to(AWAY), to(HOME, 'reference')] })
    const { moveBytes, savedBytes, estimateMs, blockers } = told.targets[0] ?? assert.fail()
    assert.deepEqual([moveBytes, savedBytes, estimateMs], [null, null, null])
    assert.deepEqual(blockers, ['The regions hold different keys.'])
    assert.deepEqual([told.targets[1]?.blockers, told.isPossible, told.estimateMs], [[], false, null])
    const nothing = await plan({ digest: null, targets: [to(AWAY, 'pull', ['The image is creating.'])] })
    assert.deepEqual([nothing.targets[0]?.moveBytes, nothing.isPossible], [null, false])
  })

  test('few are looked at together, and it may be cancelled', async () => {
    let [inside, insideMax] = [0, 0]
    place.stores.gates.set('planPull', async () => {
      insideMax = Math.max(insideMax, ++inside)
      for (let i = 0; i < 5; i++) await new Promise(setImmediate)
      inside--
    })
    const regions = Array.from({ length: 20 }, (_, i) => `r${i}` as RegionId)
    await plan({ targets: regions.map((one) => to(one)) })
    assert.equal(insideMax, 4)
    const reached = Promise.withResolvers<void>()
    place.stores.gates.set('planPull', () => {
      reached.resolve()
      return new Promise(() => {})
    })
    const source = { is: 'region', regionId: HOME } as const
    const input = { source, digest: digestOf('source'), dataBytes: 1, targets: [to(AWAY)], tellsSpace: false }
    const id = await place.begin({ kind: 'plan-copy', input })
    await reached.promise
    // A source that is deleted stays for as long as it is looked at.
    const gone = { holder: 'source', regionId: HOME, digest: digestOf('source') }
    place.stores.refs.set(`${HOME} source`, { holder: 'source', label: {}, digests: [gone.digest] })
    const released = await place.begin({ kind: 'release-image', input: gone })
    const other = { ...gone, holder: 'other', digest: digestOf('other') }
    await place.ended(await place.begin({ kind: 'release-image', input: other }))
    assert.deepEqual(place.stores.holders(HOME), ['source'])
    await place.runner.cancel(id)
    assert.equal((await place.ended(id)).state, 'cancelled')
    assert.equal((await place.ended(released)).state, 'done')
    assert.deepEqual(place.stores.holders(HOME), [])
  })
})
