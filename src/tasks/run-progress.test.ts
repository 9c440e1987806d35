import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { TaskId } from '../image/ids.ts'
import { seededRandom } from '../objects/failing.fixture.ts'
import { setAvailable } from './image-row.ts'
import { forever, newRunnerPlace, type RunnerPlace } from './runner.fixture.ts'
import type { StepContext } from './runner.ts'

const HOW = ['fails', 'is paused', 'is killed', 'goes on'] as const

/** One task through random runs, each of which tells what it likes; all that was ever to be seen of it. */
async function watch(place: RunnerPlace, seed: number, runCountMax: number) {
  const random = seededRandom(seed)
  const number = (max: number) => Math.floor(random() * max)
  let runCount = 0
  let how = 'goes on' as (typeof HOW)[number]
  let told = Promise.withResolvers<void>()
  const tell = (context: StepContext) => {
    for (let count = number(4); count >= 0; count--) {
      const totalBytes = number(1000)
      // More than there is, and less than before: a run knows nothing of those before it.
      context.progress({ doneBytes: number(1200), totalBytes, movedBytes: number(1000) })
    }
  }
  place.run = async (context) => {
    runCount++
    how = runCount > runCountMax ? 'goes on' : (HOW[number(HOW.length)] ?? 'goes on')
    const count = how === 'goes on' ? 3 : 1
    for (let round = 0; round < count; round++) {
      tell(context)
      if (number(4) === 0) await place.runner.changed(context.id, 250, context.signal)
    }
    if (how === 'fails') throw new Fault('unavailable', 'The store does not answer.')
    if (how !== 'goes on' || runCount <= runCountMax) {
      told.resolve()
      await forever(context)
    }
    const made = { digest: 'd'.repeat(64), dataBytes: 1, storedBytes: 1, movedBytes: 1 }
    await context.finish({}, (rows) => setAvailable(rows, imageId, made as never, {}, place.nowMs))
  }
  const id: TaskId = await place.catalog.transaction((rows) =>
    place.runner.add(rows, { kind: 'copy-image', projectId: 'org-a', regionId: 'hk', input: {} } as never),
  )
  const imageId = await place.image(id)

  const seen: { doneBytes: number; totalBytes: number; permille: number; state: string }[] = []
  const look = async () => {
    // In one query, as whoever lists images and tasks would have it.
    const row = await place.catalog.rows
      .selectFrom('task')
      .innerJoin('image', 'image.taskId', 'task.id')
      .select(['doneBytes', 'totalBytes', 'progressPermille as permille', 'image.state', 'endedAtMs'])
      .where('task.id', '=', id)
      .executeTakeFirstOrThrow()
    const { doneBytes, totalBytes, permille, state } = row
    seen.push({ doneBytes, totalBytes, permille, state })
    return row.endedAtMs !== null
  }
  const watching = (async () => {
    while (!(await look())) await place.runner.changed(id, 5, new AbortController().signal)
  })()
  place.runner.kick(id)
  const disturbing = (async () => {
    while (runCount <= runCountMax) {
      const ended = place.ended(id).then(() => true)
      const isOver = await Promise.race([ended, told.promise.then(() => false)])
      if (isOver) return
      told = Promise.withResolvers<void>()
      place.nowMs += number(3000)
      if (how === 'is paused') {
        await place.runner.pause(id)
        await look()
        await place.runner.proceed(id)
      } else await place.restart()
    }
  })()
  await Promise.all([watching, disturbing])
  return { id, seen, runCount }
}

test('bytes done never fall, and 1 000 parts of 1 000 are there only with the image, whatever befalls a task', async (t) => {
  const firstSeed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  t.diagnostic(`SEED=${firstSeed}`)
  for (let seed = firstSeed; seed < firstSeed + 3; seed++) {
    const attempts = { countMax: 1000, waitMs: () => 0 }
    const place = await newRunnerPlace({ attempts })
    try {
      const { id, seen, runCount } = await watch(place, seed, 20)
      const where = `SEED=${seed}`
      assert.equal((await place.row(id)).state, 'done', where)
      assert.ok(runCount > 20, where)
      const events = await place.events.list({ taskId: id }, 0, 10_000)
      for (const list of [seen, events]) {
        let top = 0
        for (const { doneBytes, totalBytes } of list) {
          assert.ok(doneBytes >= top, `${where}: ${doneBytes} after ${top}`)
          assert.ok(totalBytes >= doneBytes, `${where}: ${doneBytes} of ${totalBytes}`)
          top = doneBytes
        }
        assert.ok(top > 0, where)
      }
      let permilleTop = 0
      for (const { permille, state } of seen) {
        assert.ok(permille >= permilleTop, `${where}: ${permille} after ${permilleTop}`)
        assert.equal(permille === 1000, state === 'available', where)
        permilleTop = permille
      }
      assert.equal(permilleTop, 1000, where)
    } finally {
      await place.close()
    }
  }
})
