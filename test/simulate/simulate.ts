import assert from 'node:assert/strict'
import { collectGarbage } from '../../src/store/gc.ts'
import type { RegionStore } from '../../src/store/region.ts'
import { verifyRegion } from '../../src/store/verify.ts'
import { act, dropHolder, startUser } from './actors.ts'
import { reuseBuffers } from './builtins.ts'
import { Checker } from './check.ts'
import type { Counters } from './counters.ts'
import { assertReads } from './disks.ts'
import type { Schedule } from './schedule.ts'
import { Actor } from './turns.ts'
import { type SimulatedRegion, World } from './world.ts'

const STEPS_MAX = 40_000

/**
 * Runs one schedule: the actors to their end, checked after every step, then the end of the day: what is left is dropped
 * or kept, garbage is collected twice, and the objects must be exactly those that somebody needs.
 * Throws what went wrong; `trace` then tells what had happened.
 */
export async function simulate(schedule: Schedule, counters: Counters, trace?: string[]): Promise<void> {
  const world = new World(schedule, counters, trace)
  const checkers = world.regions.map((region) => new Checker(world, region))
  const afterStep = () => {
    world.nowMs++
    world.bucketMs++
    for (const checker of checkers) checker.afterStep()
  }
  const { random } = Math
  Math.random = world.random
  try {
    // Nothing goes wrong in the prelude.
    world.isBroken = false
    world.start(new Actor('prelude', schedule.seed, 1000), async () => {
      for (const region of world.regions) await region.prepare()
      for (const step of schedule.prelude) await act(world, step)
    })
    await world.turns.run(afterStep, STEPS_MAX)
    world.isBroken = true
    for (const [i, plan] of schedule.actors.entries()) {
      const isOutside = plan.steps.some((step) => step.kind === 'crash' || step.kind === 'outage')
      const user = { name: `actor${i}`, plan, isOutside, nextStep: 0 }
      if (!isOutside) world.users.push(user)
      startUser(world, user)
    }
    await world.turns.run(afterStep, STEPS_MAX)
    assert.equal(world.tasks.size, 0, 'every task has come to an end')
    await endOfDay(world, checkers, afterStep)
    counters.count('looks at a region', checkers[0]?.lookCount)
    counters.count('steps', world.turns.stepCount)
    counters.count(
      'late puts',
      world.regions.reduce((sum, { bucket }) => sum + bucket.lateCount, 0),
    )
  } finally {
    Math.random = random
    world.close()
    reuseBuffers()
  }
}

async function endOfDay(world: World, checkers: readonly Checker[], afterStep: () => void): Promise<void> {
  world.isBroken = false
  for (const region of world.regions) {
    region.bucket.outageCalls = 0
    region.bucket.habits = { failShare: 0, listLagMs: 0 }
  }
  // A clock that was wrong is right again.
  world.nowMs += 1_000_000_000
  world.start(new Actor('evening', world.schedule.seed, 1000), async () => {
    for (const holder of world.model.holders.values()) {
      if (holder.state === 'gone') continue
      // Whether an interrupted commit or drop came through, the index says.
      const ref = await holder.region.withStore(async (store) => store.journal.findRef(holder.name))
      for (const digest of ref?.digests ?? []) await assertReads(holder.region, digest, holder.disks)
      assert(ref !== undefined || holder.state === 'maybe', `the ref of ${holder.name} is there`)
    }
    for (const [i, holder] of [...world.model.holders.values()].entries()) {
      if (holder.state === 'maybe' || (holder.state === 'sure' && i % 2 === 0))
        await dropHolder(world, holder)
    }
    for (const region of world.regions) {
      if (region.wasRemade) await region.withStore((store) => dropUnheld(world, store))
      const isWaiting = await collectAll(world, region)
      if (isWaiting) await remake(world, region)
      await collectAll(world, region)
      if (isWaiting) await collectAll(world, region)
    }
    for (const holder of world.model.sure()) {
      assert(holder.digest !== undefined)
      await assertReads(holder.region, holder.digest, holder.disks)
    }
    for (const [i, region] of world.regions.entries()) {
      const checker = checkers[i]
      assert(checker !== undefined)
      assertNothingElse(world, region, checker)
      const { problems } = await region.withStore((store) => verifyRegion({ region: store, deep: true }))
      assert.deepEqual(problems, [], 'a deep check finds nothing')
    }
  })
  await world.turns.run(afterStep, world.turns.stepCount + STEPS_MAX)
}

/** True if the collection wants a whole index first. */
async function collectAll(world: World, region: SimulatedRegion): Promise<boolean> {
  return region.withStore(async (store) => {
    const deadSessions = store.listSessions().map((session) => session.id)
    const { items } = await collectGarbage({ region: store, graceMs: 0, isDryRun: false, deadSessions })
    world.tellItems(items)
    world.nowMs += 1000
    if (items.some((item) => item.step === 'wait' && item.what === 'object')) return true
    assert.deepEqual(store.listSessions(), [], 'no session is left')
    return false
  })
}

/**
 * What an operator does who is told that an index made anew does not know all objects, because a late put came after it:
 * he has it made once more, and refs that nobody is known to hold are dropped.
 */
async function remake(world: World, region: SimulatedRegion): Promise<void> {
  world.counters.count('indexes made anew at the end')
  await region.withStore(async (store) => {
    await store.rebuildIndex()
    await dropUnheld(world, store)
    // Without those refs, what is missing of their images is missing to nobody.
    await store.rebuildIndex()
  })
}

/**
 * A ref whose put took effect after a power cut had taken it out of the index, and its task was undone, is a ref again once that
 * index is lost and made of the objects. Nothing is lost by it but room; whoever has an index made anew looks for such refs.
 */
async function dropUnheld(world: World, store: RegionStore): Promise<void> {
  for (const { holder } of store.listRefs()) {
    if (world.model.holders.get(holder)?.state === 'sure') continue
    world.counters.count('refs of nobody dropped')
    await store.dropRef(holder)
  }
}

/** Every object is needed by somebody who refers to an image. */
function assertNothingElse(world: World, region: SimulatedRegion, checker: Checker): void {
  const holders = world.model.sure().filter((holder) => holder.region === region)
  const objects = new Set<string>(holders.flatMap((holder) => checker.needsOf(holder).objects))
  const chunks = new Set(holders.flatMap((holder) => checker.needsOf(holder).chunks))
  for (const row of region.index.prepare('SELECT name FROM ref').all()) objects.add(String(row.name))
  for (const name of region.bucket.contents.keys()) {
    if (name.startsWith('keys/')) continue
    const isNeeded = name.startsWith('packs/')
      ? checker.chunksOf(name).some((id) => chunks.has(id))
      : objects.has(name)
    assert(isNeeded, `${name} is left and nobody needs it`)
  }
  const rows = region.index.prepare('SELECT name, state FROM object WHERE state <> 1').all()
  assert.deepEqual(rows, [], 'the index knows nothing that is on its way')
  const names = region.index.prepare('SELECT name FROM object').all()
  for (const { name } of names) {
    assert(region.bucket.contents.has(name as never), `${name} is in the index and is not there`)
  }
}
