import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import type { ProjectId, TaskId } from '../image/ids.ts'
import { createEventLog } from './events.ts'
import { forever, never, newRunnerPlace, type RunnerPlace } from './runner.fixture.ts'

const DAY_MS = 24 * 3_600_000

let place: RunnerPlace
afterEach(() => place.close())

const idsOf = (events: readonly { readonly id: number }[]) => events.map(({ id }) => id)

test('an event says how the task is, and is there if and only if the change is', async () => {
  place = await newRunnerPlace()
  const { events, catalog, runner } = place
  const task = { kind: 'copy-image', projectId: 'org-a', regionId: 'hk', input: {} } as const
  const failing = catalog.transaction(async (rows) => {
    await runner.add(rows, task as never)
    throw new Error('the transaction fails')
  })
  await assert.rejects(failing, /the transaction fails/)
  assert.deepEqual([await events.last(), await events.first()], [0, 1])

  place.run = async (context) => {
    context.progress({ doneBytes: 7, totalBytes: 9, movedBytes: 3, savedBytes: 2 })
    await context.finish({}, async () => {})
  }
  const parentId = 't1' as TaskId
  const id = await place.begin({ parentId })
  const row = await place.ended(id)
  const all = await events.list({}, 0, 10)
  const common = { projectId: 'org-a', regionId: 'hk', taskId: id, kind: 'copy-image', parentId }
  const none = { doneBytes: 0, totalBytes: 0, movedBytes: 0, savedBytes: 0 }
  const atMs = row.createdAtMs
  assert.deepEqual(all, [
    { id: 1, atMs, ...common, ...none, state: 'queued' },
    { id: 2, atMs, ...common, ...none, state: 'running', step: 'work' },
    {
      ...{ id: 3, atMs, ...common, state: 'done' },
      ...{ doneBytes: 7, totalBytes: 9, movedBytes: 3, savedBytes: 2 },
    },
  ])
})

test('a filter lets through what fits all of it, behind an id, no more than asked for', async () => {
  place = await newRunnerPlace()
  const { events } = place
  const mine = await place.begin()
  await place.ended(mine)
  const other = await place.begin({ projectId: 'org-b' as ProjectId })
  await place.ended(other)
  assert.deepEqual(idsOf(await events.list({}, 0, 10)), [1, 2, 3, 4, 5, 6])
  assert.deepEqual(idsOf(await events.list({}, 2, 3)), [3, 4, 5])
  assert.deepEqual(idsOf(await events.list({ taskId: other }, 0, 10)), [4, 5, 6])
  assert.deepEqual(idsOf(await events.list({ projectId: 'org-a' as ProjectId }, 1, 10)), [2, 3])
  assert.deepEqual(idsOf(await events.list({ endsOnly: true }, 0, 10)), [3, 6])
  assert.deepEqual(idsOf(await events.list({ kinds: ['copy-batch'] }, 0, 10)), [])
  assert.deepEqual(idsOf(await events.list({ kinds: [] }, 0, 10)), [])
  assert.equal((await events.list({ kinds: ['copy-image', 'copy-batch'] }, 0, 10)).length, 6)
})

test('who waits is woken by what comes, not by what he has seen, and never misses any', async () => {
  place = await newRunnerPlace()
  const { events } = place
  place.run = forever
  const id = await place.begin()
  await place.until(id, ({ step }) => step === 'work')
  const seen = await events.last()
  await events.wait(seen - 1, 3_600_000, never())
  await events.wait(seen, 1, never())
  const left = new AbortController()
  const leaving = events.wait(seen, 3_600_000, left.signal)
  left.abort()
  await leaving

  let isWoken = false
  const waiting = events.wait(seen, 3_600_000, never()).then(() => {
    isWoken = true
  })
  await place.runner.setPriority(id, 3)
  assert.equal(isWoken, false)
  await place.runner.cancel(id)
  await waiting

  // One who follows while many come.
  const followed: number[] = []
  const last = await events.last()
  place.run = async () => {}
  const follow = async () => {
    for (let at = last; followed.length < 60; ) {
      const found = await events.list({}, at, 7)
      followed.push(...idsOf(found))
      at = followed.at(-1) ?? last
      if (found.length === 0) await events.wait(at, 3_600_000, never())
    }
  }
  const following = follow()
  await Promise.all(Array.from({ length: 20 }, () => place.begin()))
  await following
  assert.deepEqual(
    followed,
    Array.from({ length: 60 }, (_, n) => last + 1 + n),
  )
})

test('what another project does wakes nobody, what one does always', async () => {
  place = await newRunnerPlace()
  const { events } = place
  place.run = forever
  await place.begin()
  const seen = await events.last()
  const woken: string[] = []
  const left = new AbortController()
  const waitFor = async (projectId: string) => {
    await events.wait(seen, 3_600_000, left.signal, projectId as ProjectId)
    if (!left.signal.aborted) woken.push(projectId)
  }
  const ours = waitFor('org-a')
  const others = ['org-b', 'org-c'].map(waitFor)
  const failing = place.catalog.transaction(async (rows) => {
    const task = { kind: 'copy-image', projectId: 'org-c', regionId: 'hk', input: {} } as const
    await place.runner.add(rows, task as never)
    throw new Error('the transaction fails')
  })
  await assert.rejects(failing, /the transaction fails/)
  await place.begin()
  await ours
  // What was there before anybody waited is found as well.
  await events.wait(seen, 3_600_000, left.signal, 'org-a' as ProjectId)
  assert.ok(!woken.includes('org-b'))
  left.abort()
  await Promise.all(others)
})

test('what is old goes, what is too much goes, and ids are never given twice', async () => {
  place = await newRunnerPlace()
  const { catalog } = place
  const clock = () => place.nowMs
  const small = createEventLog({ catalog, clock, keepMax: 4 })
  await small.sweep()
  await place.ended(await place.begin())
  await place.ended(await place.begin())
  await place.events.sweep()
  assert.equal(await small.first(), 1, 'nothing is old, or too much')
  await small.sweep()
  assert.deepEqual(idsOf(await small.list({}, 0, 10)), [3, 4, 5, 6])

  place.nowMs += 7 * DAY_MS + 1
  await place.ended(await place.begin())
  await place.events.sweep()
  assert.deepEqual(idsOf(await small.list({}, 0, 10)), [7, 8, 9])
  place.nowMs += 7 * DAY_MS + 1
  await place.events.sweep()
  assert.deepEqual([await small.first(), await small.last()], [9, 9], 'the newest stays')
  await place.ended(await place.begin())
  assert.equal(await small.last(), 12)
})

test('however much is told of bytes, an event comes once a second, and the last of it with the end', async () => {
  place = await newRunnerPlace()
  const { events } = place
  const told = Promise.withResolvers<(doneBytes: number) => void>()
  const opened = Promise.withResolvers<void>()
  place.run = async (context) => {
    told.resolve((doneBytes) => context.progress({ doneBytes, totalBytes: 100 }))
    await opened.promise
  }
  const id = await place.begin()
  const tell = await told.promise
  const written = async (doneBytes: number) => {
    tell(doneBytes)
    await place.until(id, (row) => row.doneBytes === doneBytes)
  }
  await written(1)
  await written(2)
  place.nowMs += 999
  await written(3)
  place.nowMs += 1
  await written(4)
  await written(5)
  // The clock is set back: it does not take as long again until there is another.
  place.nowMs -= DAY_MS
  await written(6)
  tell(7)
  opened.resolve()
  await place.ended(id)
  assert.deepEqual(
    (await events.list({}, 0, 20)).map(({ state, doneBytes }) => [state, doneBytes]),
    [
      ['queued', 0],
      ['running', 0],
      ['running', 4],
      ['running', 6],
      ['done', 7],
    ],
  )
})
