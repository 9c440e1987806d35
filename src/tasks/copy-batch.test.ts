import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { RegionId, TaskId } from '../image/ids.ts'
import type { CopyEnd } from './copy-batch.ts'
import type { CopyInput } from './copy-words.ts'
import { digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'

describe('a batch of copies', () => {
  let place: TaskPlace
  beforeEach(async () => {
    place = await newTaskPlace()
    await place.image('source')
  })
  afterEach(() => place.close())

  const row = (id: TaskId) =>
    place.catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const until = async (id: TaskId, isSo: (task: Awaited<ReturnType<typeof row>>) => boolean) => {
    while (!isSo(await row(id))) await place.runner.changed(id, 20, new AbortController().signal)
  }
  const gate = (name: string) => {
    const opened = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    place.stores.gates.set(name, () => {
      reached.resolve()
      return opened.promise
    })
    return { reached: reached.promise, open: () => opened.resolve() }
  }
  const fail = (name: string, message: string) =>
    place.stores.gates.set(name, async () => {
      throw new Fault('corrupt', message, { subject: 'store' })
    })
  /** One copy of 1000 bytes to each region. */
  const begin = async (regionIds: readonly string[]) => {
    const batch = await place.catalog.transaction(async (rows) => {
      const place_ = { projectId: PROJECT, regionId: HOME }
      return place.runner.add(rows, { ...place_, kind: 'copy-batch', input: {} })
    })
    const copies = new Map<string, TaskId>()
    for (const name of regionIds) {
      const regionId = name as RegionId
      place.stores.estimates.set(regionId, { missingBytes: 1000, savedBytes: 10, resumedBytes: 0 })
      const imageId = await place.image(name, { state: 'creating', regionId })
      const input: CopyInput = {
        ...{ imageId, targetRegionId: regionId, way: 'pull', digest: digestOf('source'), dataBytes: 1 },
        ...{ source: { is: 'region', regionId: HOME }, isShared: true },
      }
      const task = { kind: 'copy-image', imageId, regionId, input, parentId: batch } as const
      copies.set(name, await place.begin(task))
    }
    place.runner.kick(batch)
    return { batch, of: (name: string) => copies.get(name) as TaskId }
  }

  test('is done when all are, and sums up what they told', async () => {
    const { batch, of } = await begin(['a', 'b', 'c'])
    const { state, output } = await place.ended(batch)
    assert.equal(state, 'done')
    const copies = output.copies as CopyEnd[]
    assert.deepEqual(
      copies.map(({ regionId, taskId, state, reason }) => [regionId, taskId, state, reason]),
      ['a', 'b', 'c'].map((name) => [name, of(name), 'done', null]),
    )
    const { doneBytes, totalBytes, movedBytes, savedBytes } = await row(batch)
    assert.deepEqual([doneBytes, totalBytes, movedBytes, savedBytes], [3000, 3000, 3000, 30])
  })

  test('one that fails leaves the others alone; the batch names it and tells of all', async () => {
    fail('pull b', 'Pack 17 is damaged there.')
    const { batch, of } = await begin(['a', 'b', 'c'])
    const { state, reason, output } = await place.ended(batch)
    assert.equal(state, 'failed')
    assert.equal(
      reason,
      '1 of 3 copies failed. b: Pack 17 is damaged there. Retry the batch to begin these anew.',
    )
    const copies = output.copies as CopyEnd[]
    assert.deepEqual(
      copies.map((copy) => [copy.taskId, copy.state, copy.reason]),
      [
        [of('a'), 'done', null],
        [of('b'), 'failed', 'Pack 17 is damaged there.'],
        [of('c'), 'done', null],
      ],
    )
  })

  test('the reasons of a hundred fit into a message that names every region', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `region-${String(i).padStart(3, '0')}`)
    fail('pull', 'x'.repeat(1000))
    const { batch } = await begin(names)
    const { reason } = await place.ended(batch)
    assert.ok(reason !== null && reason.length < 4000)
    for (const name of names) assert.ok(reason.includes(name), name)
  })

  test('waits for one that is held, without asking again and again', async () => {
    const held = gate('pull b')
    const { batch, of } = await begin(['a', 'b'])
    await held.reached
    await place.runner.pause(of('b'))
    await until(batch, ({ doneBytes }) => doneBytes === 1000)
    let lookCount = 0
    const { changed } = place.runner
    place.runner.changed = (...asked) => {
      lookCount++
      return changed(...asked)
    }
    // So long another batch takes from its beginning to its end.
    const other = await begin(['c', 'd'])
    await changed(other.batch, 5000, new AbortController().signal)
    while ((await row(other.batch)).endedAtMs === null) await new Promise(setImmediate)
    assert.equal((await row(batch)).state, 'running')
    assert.ok(lookCount < 40, `${lookCount}`)
    place.stores.gates.clear()
    await place.runner.proceed(of('b'))
    assert.equal((await place.ended(batch)).state, 'done')
  })

  test('one that is cancelled counts as failed; a restart goes on waiting for the others', async () => {
    const [a, b] = [gate('pull a'), gate('pull b')]
    const { batch, of } = await begin(['a', 'b'])
    await Promise.all([a.reached, b.reached])
    await place.runner.cancel(of('a'))
    await place.restart()
    place.stores.gates.clear()
    b.open()
    const { state, reason, output } = await place.ended(batch)
    assert.equal(state, 'failed')
    assert.match(reason ?? '', /^1 of 2 copies failed\. a: It was cancelled before it was done\./)
    assert.deepEqual(
      (output.copies as CopyEnd[]).map((copy) => copy.state),
      ['cancelled', 'done'],
    )
  })

  test('cancelled by a server that ended before it had cancelled the copies: the next one does', async () => {
    const held = gate('pull a')
    const { batch, of } = await begin(['a', 'b'])
    await held.reached
    await place.ended(of('b'))
    const cancelled = { cancelRequested: 1, state: 'running', step: 'undo' }
    await place.catalog.rows.updateTable('task').set(cancelled).where('id', '=', batch).execute()
    await place.restart()
    const { state, output } = await place.ended(batch)
    assert.equal(state, 'cancelled')
    assert.deepEqual(
      (output.copies as CopyEnd[]).map((copy) => copy.state),
      ['cancelled', 'done'],
    )
  })

  test('what it shows of bytes never falls, and is never more than the whole', async () => {
    const { batch } = await begin(['a', 'b', 'c', 'd', 'e', 'f'])
    let last = 0
    for (;;) {
      const { doneBytes, totalBytes, endedAtMs } = await row(batch)
      assert.ok(doneBytes >= last && doneBytes <= totalBytes, `${last} ${doneBytes} ${totalBytes}`)
      last = doneBytes
      if (endedAtMs !== null) break
      await place.runner.changed(batch, 20, new AbortController().signal)
    }
    assert.equal(last, 6000)
  })
})
