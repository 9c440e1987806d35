import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { forever, newRunnerPlace, type RunnerPlace } from './runner.fixture.ts'

const away = () => new Fault('unavailable', 'The store does not answer.')
const HOUR_MS = 3_600_000

let place: RunnerPlace
afterEach(() => place.close())

test('a run that finds something away is begun again, with its checkpoint, and says why it waited', async () => {
  const waits: number[] = []
  place = await newRunnerPlace({ attempts: { countMax: 3, waitMs: (n) => waits.push(n) } })
  const seen: unknown[] = []
  place.undo = async () => assert.fail('nothing is undone')
  place.run = async (context) => {
    const count = Number(context.checkpoint().count ?? 0)
    seen.push(count)
    await context.save({ count: count + 1 })
    if (count < 2) throw away()
  }
  const id = await place.begin()
  const row = await place.ended(id)
  assert.deepEqual([row.state, row.attemptCount, row.reason], ['done', 3, null])
  assert.equal(row.lastReason, 'The store does not answer.')
  assert.deepEqual(
    [seen, waits],
    [
      [0, 1, 2],
      [1, 2],
    ],
  )
  const events = await place.events.list({ taskId: id }, 0, 100)
  assert.deepEqual(
    events.map(({ state, step }) => [state, step]),
    [
      ['queued', undefined],
      ['running', 'work'],
      ['running', 'wait'],
      ['running', 'work'],
      ['running', 'wait'],
      ['running', 'work'],
      ['done', undefined],
    ],
  )
})

test('after the last attempt, and after any other fault at once, it is undone', async () => {
  place = await newRunnerPlace({ attempts: { countMax: 2, waitMs: () => 0 } })
  const undone: string[] = []
  let error = away()
  place.undo = async (_, reason) => void undone.push(reason)
  place.run = async () => {
    throw error
  }
  const tired = await place.ended(await place.begin())
  assert.deepEqual([tired.state, tired.attemptCount, tired.faultKind], ['failed', 2, 'unavailable'])
  error = new Fault('corrupt', 'A chunk is damaged.')
  const damaged = await place.ended(await place.begin())
  assert.deepEqual([damaged.state, damaged.attemptCount, damaged.faultKind], ['failed', 1, 'corrupt'])
  assert.deepEqual(undone, ['The store does not answer.', 'A chunk is damaged.'])
})

test('one that waits has no place, and a cancel does not wait for it', async () => {
  place = await newRunnerPlace({ gate: 'digests', attempts: { countMax: 2, waitMs: () => HOUR_MS } })
  place.run = async () => {
    throw away()
  }
  const waiting = await place.begin()
  await place.until(waiting, ({ step }) => step === 'wait')
  place.run = async () => {}
  assert.equal((await place.ended(await place.begin())).state, 'done')
  await place.runner.cancel(waiting)
  assert.equal((await place.row(waiting)).state, 'cancelled')
})

test('the count of failures goes on over restarts, and restarts are none', async () => {
  place = await newRunnerPlace({ attempts: { countMax: 3, waitMs: () => HOUR_MS } })
  let undoneCount = 0
  place.undo = async () => void undoneCount++
  place.run = forever
  const id = await place.begin()
  for (let count = 1; count <= 4; count++) {
    await place.until(id, ({ attemptCount }) => attemptCount === count)
    await place.restart()
  }
  await place.until(id, ({ attemptCount }) => attemptCount === 5)
  place.run = async () => {
    throw away()
  }
  await place.restart()
  await place.until(id, ({ attemptCount, step }) => attemptCount === 6 && step === 'wait')
  await place.restart()
  await place.until(id, ({ attemptCount, step }) => attemptCount === 7 && step === 'wait')
  assert.equal(undoneCount, 0)
  await place.restart()
  const row = await place.ended(id)
  assert.deepEqual([row.state, row.attemptCount, undoneCount], ['failed', 8, 1])
})
