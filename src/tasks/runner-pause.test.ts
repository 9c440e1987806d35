import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { TaskId } from '../image/ids.ts'
import { removeRows, seeTo } from './release-image.ts'
import { forever, newRunnerPlace, type RunnerPlace } from './runner.fixture.ts'

const HOUR_MS = 3_600_000
const conflict = (message: RegExp) => (error: unknown) =>
  error instanceof Fault &&
  error.kind === 'conflict' &&
  error.subject === 'task' &&
  message.test(error.message)

let place: RunnerPlace
afterEach(() => place.close())

/** A task inside its step. */
async function running(): Promise<TaskId> {
  place.run = forever
  const id = await place.begin()
  await place.until(id, ({ step }) => step === 'work')
  return id
}

test('a paused task keeps what it has, gives its place back, survives a restart, and goes on', async () => {
  place = await newRunnerPlace({ gate: 'digests' })
  place.undo = async () => assert.fail('nothing is undone')
  place.run = async (context) => {
    context.progress({ doneBytes: 50, totalBytes: 100 })
    await context.save({ half: true })
    await forever(context)
  }
  const id = await place.begin()
  await place.until(id, ({ checkpoint }) => checkpoint !== '{}')
  await place.runner.pause(id)
  const held = await place.row(id)
  assert.deepEqual([held.state, held.step, held.endedAtMs], ['paused', '', null])
  assert.deepEqual([held.doneBytes, held.totalBytes], [50, 100])

  place.run = async () => {}
  assert.equal((await place.ended(await place.begin())).state, 'done', 'its place is free')
  assert.equal(await place.restart(), 0)
  place.runner.kick(id)
  assert.equal((await place.row(id)).state, 'paused')

  const seen: unknown[] = []
  place.run = async (context) => void seen.push(context.checkpoint())
  await place.runner.proceed(id)
  const row = await place.ended(id)
  assert.deepEqual([row.state, row.attemptCount, row.doneBytes], ['done', 2, 50])
  assert.deepEqual(seen, [{ half: true }])
  const states = (await place.events.list({ taskId: id }, 0, 100)).map(({ state }) => state)
  assert.deepEqual(states, ['queued', 'running', 'paused', 'queued', 'running', 'done'])
})

test('one that waits for a place, or for its next attempt, is paused as well', async () => {
  place = await newRunnerPlace({ gate: 'digests', attempts: { countMax: 9, waitMs: () => HOUR_MS } })
  const first = await running()
  const second = await place.begin()
  await place.runner.pause(second)
  assert.equal((await place.row(second)).state, 'paused')
  await place.runner.pause(first)

  place.run = async () => {
    throw new Fault('unavailable', 'The store does not answer.')
  }
  await place.runner.proceed(second)
  await place.until(second, ({ step }) => step === 'wait')
  await place.runner.pause(second)
  assert.equal((await place.row(second)).state, 'paused')
})

test('what cannot be paused says why', async () => {
  place = await newRunnerPlace()
  const { runner } = place
  const done = await place.begin()
  await place.ended(done)
  await assert.rejects(runner.pause(done), conflict(/ended already: done/))
  await assert.rejects(runner.proceed(done), conflict(/not paused/))

  const id = await running()
  await assert.rejects(runner.proceed(id), conflict(/not paused/))
  await runner.pause(id)
  await assert.rejects(runner.pause(id), conflict(/paused already/))

  // One that is being undone.
  const opened = Promise.withResolvers<void>()
  place.undo = () => opened.promise
  place.run = async () => {
    throw new Fault('full', 'No space is left.')
  }
  const failing = await place.begin()
  await place.until(failing, ({ step }) => step === 'undo')
  await assert.rejects(runner.pause(failing), conflict(/being undone/))
  opened.resolve()
  assert.equal((await place.ended(failing)).state, 'failed')
})

test('a kind that is not made for it is not paused', async () => {
  place = await newRunnerPlace({ isPausable: false })
  const id = await running()
  await assert.rejects(place.runner.pause(id), conflict(/A copy-image task cannot be paused/))
})

test('one that ends while it is to be paused has ended', async () => {
  place = await newRunnerPlace()
  const opened = Promise.withResolvers<void>()
  place.run = async (context) => {
    await opened.promise
    await context.finish({ made: true }, async () => {})
  }
  const id = await place.begin()
  await place.until(id, ({ step }) => step === 'work')
  const pausing = assert.rejects(place.runner.pause(id), conflict(/by now it is done/))
  opened.resolve()
  await pausing
  assert.equal((await place.row(id)).output, '{"made":true}')
})

test('a paused task is cancelled and undone, and nobody can let it go on', async () => {
  place = await newRunnerPlace()
  const undone: string[] = []
  place.undo = async (_, reason) => void undone.push(reason)
  const id = await running()
  await place.runner.pause(id)
  await place.runner.cancel(id)
  assert.equal((await place.row(id)).state, 'cancelled')
  assert.equal(undone.length, 1)
  await assert.rejects(place.runner.proceed(id), conflict(/not paused/))
})

test('of a pause and a cancel at once the cancel wins, of a pause and a proceed none is lost', async () => {
  place = await newRunnerPlace()
  const { runner } = place
  const both = await running()
  await Promise.allSettled([runner.pause(both), runner.cancel(both)])
  assert.equal((await place.row(both)).state, 'cancelled')
  const other = await running()
  await Promise.allSettled([runner.cancel(other), runner.pause(other)])
  assert.equal((await place.row(other)).state, 'cancelled')

  const id = await running()
  place.run = async () => {}
  place.committed = async () => {
    if ((await place.row(id)).state !== 'paused') return
    place.committed = async () => {}
    // The run that was broken off has not quite ended.
    await runner.proceed(id)
  }
  await runner.pause(id)
  assert.equal((await place.ended(id)).state, 'done')
})

test('a cancel is seen at once, however long the step takes to stop, and is not finished away', async () => {
  place = await newRunnerPlace()
  const opened = Promise.withResolvers<void>()
  const made: string[] = []
  place.run = async (context) => {
    await opened.promise
    await context.phase('late')
    await context.finish({}, async () => void made.push('image'))
  }
  const id = await place.begin()
  await place.until(id, ({ step }) => step === 'work')
  const cancelled = place.runner.cancel(id)
  await place.until(id, ({ step, state }) => state === 'running' && step === 'undo')
  const seen = (await place.events.list({ taskId: id }, 0, 100)).at(-1)
  assert.deepEqual([seen?.state, seen?.step], ['running', 'undo'])
  opened.resolve()
  await cancelled
  assert.deepEqual([(await place.row(id)).state, made], ['cancelled', []])
})

test('a cancelled task whose process ended first is undone by the next, without a run', async () => {
  place = await newRunnerPlace({ gate: 'digests' })
  place.run = async () => assert.fail('a cancelled task does not run')
  const id = await place.catalog.transaction((rows) =>
    place.runner.add(rows, { kind: 'copy-image', projectId: 'p', regionId: 'hk', input: {} } as never),
  )
  await place.runner.close()
  await place.runner.cancel(id)
  assert.equal((await place.row(id)).state, 'running')
  assert.equal(await place.restart(), 1)
  const row = await place.ended(id)
  assert.deepEqual([row.state, row.attemptCount], ['cancelled', 0])
})

test('of those that wait the preferred goes first, also by what was said while it waited', async () => {
  place = await newRunnerPlace()
  const came: string[] = []
  const opened = Promise.withResolvers<void>()
  place.run = (context) =>
    context.within('copies', async () => {
      came.push(String(context.input))
      await opened.promise
    })
  const first = await place.begin({ input: 'first' })
  while (came.length === 0) await place.runner.changed(first, 5, new AbortController().signal)
  const ids: TaskId[] = []
  for (const task of [
    { input: 'plain' },
    { input: 'late', priority: 5, deadlineAtMs: 2 },
    { input: 'soon', priority: 5, deadlineAtMs: 1 },
    { input: 'low', priority: 0 },
    { input: 'high', priority: 9 },
    { input: 'raised', priority: 1 },
  ]) {
    const id = await place.begin(task)
    await place.until(id, ({ step }) => step === 'work')
    ids.push(id)
  }
  await place.runner.setPriority(ids.at(-1) as TaskId, 8)
  opened.resolve()
  for (const id of ids) await place.ended(id)
  assert.deepEqual(came, ['first', 'high', 'raised', 'soon', 'late', 'plain', 'low'])
  assert.equal((await place.row(ids.at(-1) as TaskId)).priority, 8)
})

/** The image that a task makes goes; what comes after the commit is left to the test. */
async function remove(taskId: TaskId) {
  const held = await place.catalog.rows.selectFrom('image').selectAll().where('taskId', '=', taskId).execute()
  return place.catalog.transaction((rows) => removeRows(rows, place.runner, { image: held }))
}

test('a crash right after the removal of what a task makes: the next start undoes it, also one that was paused', async () => {
  for (const state of ['running', 'paused', 'wait'] as const) {
    await place?.close()
    place = await newRunnerPlace({ attempts: { countMax: 9, waitMs: () => HOUR_MS } })
    const undone: TaskId[] = []
    place.undo = async ({ id }) => void undone.push(id)
    place.run = async (context) => {
      if (state !== 'wait') return forever(context)
      throw new Fault('unavailable', 'The store does not answer.')
    }
    const id = await place.begin()
    await place.image(id)
    await place.until(id, ({ step }) => step === (state === 'wait' ? 'wait' : 'work'))
    if (state === 'paused') await place.runner.pause(id)
    assert.deepEqual((await remove(id)).idle, [id])
    const row = await place.row(id)
    assert.deepEqual([row.state, row.step, row.cancelRequested], ['running', 'undo', 1], state)
    await assert.rejects(place.runner.proceed(id), conflict(/not paused/))
    assert.equal(await place.restart(), 1, state)
    assert.equal((await place.ended(id)).state, 'cancelled')
    assert.deepEqual(undone, [id], state)
  }
})

test('a removal that is rolled back leaves the task as it was, one that is seen to ends it, and each is told of once', async () => {
  place = await newRunnerPlace()
  const id = await running()
  await place.image(id)
  const held = await place.catalog.rows.selectFrom('image').selectAll().execute()
  const broken = place.catalog.transaction(async (rows) => {
    await removeRows(rows, place.runner, { image: held })
    throw new Error('no')
  })
  await assert.rejects(broken, /no/)
  assert.deepEqual([(await place.row(id)).step, (await place.row(id)).cancelRequested], ['work', 0])
  await seeTo(place.runner, await remove(id))
  assert.equal((await place.row(id)).state, 'cancelled')
  // Asked for again, it has ended, and a mark changes nothing.
  await place.runner.cancel(id)
  await place.catalog.transaction((rows) => place.runner.markCancelled(rows, id))
  const told = await place.events.list({ taskId: id }, 0, 100)
  assert.deepEqual(
    told.map(({ state, step, reason }) => [state, step, reason !== undefined]),
    [
      ['queued', undefined, false],
      ['running', 'work', false],
      ['running', 'undo', false],
      ['running', 'undo', true],
      ['cancelled', undefined, true],
    ],
  )
})

test('a cancel that is for what is held alone leaves all else alone, and the undo is told why, also after a restart', async () => {
  place = await newRunnerPlace()
  const reasons: string[] = []
  place.undo = async (_context, reason) => {
    reasons.push(reason)
    if (reasons.length === 1) throw new Fault('unavailable', 'The store is away.')
  }
  const why = { reason: 'Nobody came back to it.' }
  const id = await running()
  await place.runner.cancel(id, why)
  assert.deepEqual([(await place.row(id)).state, (await place.row(id)).cancelRequested], ['running', 0])
  place.nowMs += HOUR_MS
  await place.runner.pause(id)
  const pausedAtMs = place.nowMs
  assert.equal((await place.row(id)).progressAtMs, pausedAtMs)
  await place.runner.cancel(id, why)
  assert.equal((await place.row(id)).step, 'undo', 'its undo failed once')
  await place.restart()
  const row = await place.ended(id)
  assert.deepEqual([row.state, row.reason, row.faultKind], ['cancelled', why.reason, 'conflict'])
  assert.deepEqual([...new Set(reasons)], [why.reason])
})
