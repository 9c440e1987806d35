import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Fault } from '../image/fault.ts'
import type { ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { Task, TaskKind } from '../image/task.ts'
import { createEventLog } from '../tasks/events.ts'
import { forever } from '../tasks/runner.fixture.ts'
import { createRunner, type NewTask, type Runner, type TaskDefinition } from '../tasks/runner.ts'
import type { App, Caller } from './contract.ts'
import { createEvents } from './events.ts'
import { type AppPlace, HOME, newAppPlace } from './fixture.ts'
import { createGuard } from './guard.ts'
import { createTasks } from './tasks.ts'

const fault =
  (kind: Fault['kind'], subject: Fault['subject'], text = /./) =>
  (error: unknown) =>
    error instanceof Fault && error.kind === kind && error.subject === subject && text.test(error.message)

const PAGE = { offset: 0, limit: 100 }

describe('changing tasks, and following them', () => {
  let place: AppPlace
  let runner: Runner
  let tasks: App['tasks']
  let events: App['events']
  let root: Caller
  let projectId: ProjectId
  const retried: Task[] = []
  const never = new AbortController().signal
  const soon = { limit: 100, waitMs: 0, signal: never }

  beforeEach(async () => {
    place = await newAppPlace()
    root = place.root
    projectId = root.defaultProjectId
    const { catalog } = place
    const clock = () => place.nowMs
    const log = createEventLog({ catalog, clock })
    const kinds: TaskKind[] = ['copy-image', 'copy-batch', 'plan-copy', 'verify-region', 'release-image']
    const definitions = kinds.map(
      (kind): TaskDefinition<string> => ({
        ...{ kind, gate: 'none', isPausable: kind === 'copy-image' },
        steps: [
          {
            name: 'work',
            async run(context) {
              if (context.input === 'fails') throw new Fault('corrupt', 'A chunk is damaged.')
              if (context.input !== 'ends') await forever(context)
            },
          },
        ],
        undo: async () => {},
      }),
    )
    runner = createRunner({
      ...{ catalog, clock, events: log, log: () => {} },
      definitions: definitions as unknown as TaskDefinition<never>[],
    })
    const guard = createGuard({ catalog, clock })
    tasks = createTasks({ catalog, clock, runner }, guard, async (task) => {
      retried.push(task)
      return { taskId: 'new' as TaskId, copies: [] }
    })
    events = createEvents({ events: log }, guard)
  })
  afterEach(async () => {
    retried.length = 0
    await runner.close()
    await place.close()
  })

  async function begin(kind: TaskKind, more: Partial<NewTask> = {}): Promise<TaskId> {
    const task = { kind, projectId, regionId: HOME as RegionId, input: '', ...more }
    const id = await place.catalog.transaction((rows) => runner.add(rows, task))
    runner.kick(id)
    for (;;) {
      const { state } = await tasks.get(root, id)
      if (state.at !== 'queued' && !(state.at === 'running' && state.step === '')) return id
      await runner.changed(id, 20, never)
    }
  }
  const stateOf = async (id: TaskId) => (await tasks.get(root, id)).state.at
  async function ended(id: TaskId): Promise<Task> {
    for (;;) {
      const task = await tasks.get(root, id)
      if (task.endedAtMs !== undefined) return task
      await runner.changed(id, 20, never)
    }
  }
  async function batch() {
    const parent = await begin('copy-batch')
    const children = [
      await begin('copy-image', { parentId: parent }),
      await begin('copy-image', { parentId: parent }),
      await begin('copy-image', { parentId: parent, input: 'ends' }),
    ] as const
    await ended(children[2])
    return { parent, children, states: () => Promise.all([parent, ...children].map(stateOf)) }
  }

  test('a copy is paused, let go on and preferred, and says so', async () => {
    const id = await begin('copy-image', { priority: 2, deadlineAtMs: 99 })
    await tasks.change(root, id, { paused: true, priority: 7 })
    const task = await tasks.get(root, id)
    assert.deepEqual(
      [task.state, task.priority, task.deadlineAtMs, task.bytesPerSecond, task.etaMs],
      [{ at: 'paused' }, 7, 99, undefined, undefined],
    )
    await assert.rejects(tasks.change(root, id, { paused: true }), fault('conflict', 'task', /already/))
    const { items } = await tasks.list(root, { live: true }, PAGE)
    assert.deepEqual(
      items.map((one) => one.id),
      [id],
      'a paused task is live',
    )
    const countIn = async (...states: Task['state']['at'][]) =>
      (await tasks.list(root, { states }, PAGE)).total
    assert.deepEqual([await countIn('paused'), await countIn('running', 'queued')], [1, 0])
    assert.deepEqual([await countIn('done', 'paused'), await countIn()], [1, 1])
    await tasks.change(root, id, { paused: false })
    await assert.rejects(tasks.change(root, id, { paused: false }), fault('conflict', 'task', /not paused/))
    await tasks.cancel(root, id)
    await assert.rejects(tasks.change(root, id, { priority: 1 }), fault('conflict', 'task', /cancelled/))
  })

  test('of a batch those are paused, preferred and cancelled that have not ended', async () => {
    const { parent, children, states } = await batch()
    await tasks.change(root, children[0], { paused: true })
    await tasks.change(root, parent, { paused: true, priority: 9 })
    assert.deepEqual(await states(), ['running', 'paused', 'paused', 'done'])
    const priorities = await Promise.all(
      [parent, ...children].map(async (id) => (await tasks.get(root, id)).priority),
    )
    assert.deepEqual(priorities, [9, 9, 9, 5])
    await assert.rejects(tasks.change(root, parent, { paused: true }), fault('conflict', 'task', /already/))
    await tasks.change(root, parent, { paused: false })
    await assert.rejects(tasks.change(root, parent, { paused: false }), fault('conflict', 'task'))
    await tasks.change(root, children[1], { paused: true })
    await tasks.cancel(root, parent)
    assert.deepEqual(await states(), ['cancelled', 'cancelled', 'cancelled', 'done'])
  })

  test('what is no copy is not held, and a change says what it changes', async () => {
    const id = await begin('plan-copy')
    await assert.rejects(tasks.change(root, id, { paused: true }), fault('conflict', 'task', /plan-copy/))
    await assert.rejects(tasks.change(root, id, {}), fault('invalid', 'request'))
    for (const priority of [-1, 10, 1.5, Number.NaN]) {
      await assert.rejects(tasks.change(root, id, { priority }), fault('invalid', 'request', /0 to 9/))
    }
    await tasks.cancel(root, id)
    assert.equal(await stateOf(id), 'cancelled')
    const release = await begin('release-image')
    await assert.rejects(tasks.cancel(root, release), fault('conflict', 'task', /ends by itself/))
  })

  test('only what has ended, and not well, is begun anew', async () => {
    const failed = await begin('copy-image', { input: 'fails' })
    await ended(failed)
    assert.deepEqual(await tasks.retry(root, failed), { taskId: 'new', copies: [] })
    assert.deepEqual(
      retried.map(({ id, state }) => [id, state.at]),
      [[failed, 'failed']],
    )
    const { parent, children } = await batch()
    await assert.rejects(tasks.retry(root, parent), fault('conflict', 'task', /not ended/))
    await assert.rejects(tasks.retry(root, children[2]), fault('conflict', 'task', /[Nn]othing of it failed/))
    const plan = await begin('plan-copy', { input: 'fails' })
    await ended(plan)
    await assert.rejects(tasks.retry(root, plan), fault('conflict', 'task', /plan-copy/))
    assert.equal(retried.length, 1)
  })

  test('the rate is shown while it is fresh and the task runs', async () => {
    const id = await begin('copy-image')
    const set = (values: object) =>
      place.catalog.rows.updateTable('task').set(values).where('id', '=', id).execute()
    const rate = async () => {
      const { bytesPerSecond, etaMs } = await tasks.get(root, id)
      return [bytesPerSecond, etaMs]
    }
    assert.deepEqual(await rate(), [undefined, undefined])
    const bytes = { doneBytes: 1000, totalBytes: 4000, savedBytes: 5, bytesPerSecond: 1500 }
    await set({ ...bytes, progressAtMs: place.nowMs })
    assert.deepEqual(await rate(), [1500, 2000])
    assert.equal((await tasks.get(root, id)).savedBytes, 5)
    place.nowMs += 10_000
    assert.deepEqual(await rate(), [1500, 2000])
    place.nowMs += 1
    assert.deepEqual(await rate(), [undefined, undefined])
    await set({ bytesPerSecond: 0, progressAtMs: place.nowMs })
    assert.deepEqual(await rate(), [undefined, undefined])
  })

  test('events come behind an id, at once or when there are any, and not of another project', async () => {
    const { projectId: second } = await place.app.projects.create(root, 'second')
    assert.deepEqual(await events.list(root, {}, soon), { events: [], lastId: 0 })
    const other = await begin('copy-image', { projectId: second })
    await tasks.cancel(root, other)
    const quiet = await events.list(root, { afterId: 0 }, soon)
    assert.deepEqual(quiet.events, [])
    assert.ok(quiet.lastId > 0, 'those of others are behind')

    const waiting = events.list(root, { afterId: quiet.lastId }, { ...soon, waitMs: 60_000 })
    const id = await begin('copy-image')
    const first = await waiting
    assert.deepEqual([first.events[0]?.taskId, first.events[0]?.state], [id, 'queued'])
    await tasks.cancel(root, id)
    const rest = await events.list(root, { afterId: first.lastId, taskId: id }, soon)
    assert.equal(rest.events.at(-1)?.state, 'cancelled')
    assert.equal(rest.lastId, rest.events.at(-1)?.id)
    const none = await events.list(root, { afterId: 0, kinds: ['copy-batch'] }, soon)
    assert.deepEqual(none.events, [])
    const { length } = (await events.list(root, { afterId: 0 }, { ...soon, limit: 2 })).events
    assert.equal(length, 2)

    const left = new AbortController()
    const leaving = events.list(root, {}, { ...soon, waitMs: 60_000, signal: left.signal })
    left.abort()
    assert.deepEqual((await leaving).events, [])
  })

  test('where events are no longer kept, or never were, that is said', async () => {
    const id = await begin('copy-image', { input: 'ends' })
    await ended(id)
    await place.catalog.rows.deleteFrom('event').where('id', '<', 3).execute()
    const gone = (error: unknown) => fault('conflict', 'event')(error) && (error as Fault).reason === 'gone'
    await assert.rejects(events.list(root, { afterId: 1 }, soon), gone)
    await assert.rejects(events.list(root, { afterId: 4 }, soon), gone)
    assert.equal((await events.list(root, { afterId: 2 }, soon)).events.length, 1)
    assert.deepEqual((await events.list(root, { afterId: 3 }, soon)).events, [])
  })

  test('what tells of a whole region is for those whose right reaches beyond a project', async () => {
    const { keyId } = await place.app.users.create(root, 'ada')
    const ada = await place.caller(keyId)
    const listed = { Effect: 'Allow', Action: 'calotype:ListTasks', Resource: '*' }
    await place.app.users.putPolicy(root, 'look', { Version: '1', Statement: [listed] })
    await assert.rejects(events.list(ada, {}, soon), fault('denied', 'policy'))
    await place.app.users.attach(root, 'ada', 'look', projectId)
    const verify = await begin('verify-region')
    const copy = await begin('copy-image')
    const seenBy = async (caller: Caller, kinds?: TaskKind[]) => {
      const found = await events.list(caller, { afterId: 0, kinds }, soon)
      return [...new Set(found.events.map(({ taskId }) => taskId))]
    }
    assert.deepEqual(await seenBy(ada), [copy])
    assert.deepEqual(await seenBy(ada, ['verify-region']), [])
    assert.deepEqual(await seenBy(root), [verify, copy])
    await place.app.users.attach(root, 'ada', 'look')
    assert.deepEqual(await seenBy(ada, ['verify-region']), [verify])
  })

  test('whoever has no right in its project is not told that a task is there, and may not change it without', async () => {
    const { keyId } = await place.app.users.create(root, 'ada')
    const ada = await place.caller(keyId)
    const id = await begin('copy-image')
    const changes = [() => tasks.change(ada, id, { paused: true }), () => tasks.retry(ada, id)]
    for (const change of changes) await assert.rejects(change(), fault('absent', 'task'))
    const listed = { Effect: 'Allow', Action: 'calotype:ListTasks', Resource: '*' }
    await place.app.users.putPolicy(root, 'look', { Version: '1', Statement: [listed] })
    await place.app.users.attach(root, 'ada', 'look', projectId)
    for (const change of changes) await assert.rejects(change(), fault('denied', 'policy'))
    assert.equal(await stateOf(id), 'running')
    await tasks.change(root, id, { paused: true })
    const records = await place.catalog.rows
      .selectFrom('audit')
      .select(['action', 'outcome'])
      .where('action', '=', 'calotype:ChangeTask')
      .orderBy('id')
      .execute()
    assert.deepEqual(
      records.map(({ outcome }) => outcome),
      ['denied project', 'denied policy', 'done'],
    )
  })
})
