import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Catalog } from '../catalog/contract.ts'
import { openSqliteCatalog } from '../catalog/sqlite.ts'
import { Fault } from '../image/fault.ts'
import type { ProjectId, RegionId, TaskId } from '../image/ids.ts'
import { createRunner, type Runner, type Step, type TaskDefinition } from './runner.ts'

type Input = { readonly word: string }

describe('the step runner', () => {
  let folder: string
  let catalog: Catalog
  const runners: Runner[] = []

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'runner-'))
    catalog = await openSqliteCatalog(join(folder, 'catalog.db'))
  })
  afterEach(async () => {
    await Promise.all(runners.splice(0).map((runner) => runner.close()))
    await catalog.close()
    await rm(folder, { recursive: true })
  })

  function runnerOf(steps: Step<Input>[], undo: TaskDefinition<Input>['undo'] = async () => {}): Runner {
    const definition: TaskDefinition<Input> = { kind: 'verify-region', gate: 'bytes', steps, undo }
    const runner = createRunner({
      catalog,
      definitions: [definition as TaskDefinition<never>],
      clock: Date.now,
      log: () => {},
    })
    runners.push(runner)
    return runner
  }
  const add = (runner: Runner, word = 'w') =>
    runner.add(catalog.rows, {
      kind: 'verify-region',
      projectId: 'org-a' as ProjectId,
      regionId: 'hk' as RegionId,
      input: { word },
    })
  const rowOf = (id: TaskId) =>
    catalog.rows.selectFrom('task').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  async function ended(runner: Runner, id: TaskId) {
    for (;;) {
      const row = await rowOf(id)
      if (row.endedAtMs !== null) return row
      await runner.changed(id, 50, new AbortController().signal)
    }
  }

  test('runs the steps in order, each with what the ones before saved', async () => {
    const seen: string[] = []
    const runner = runnerOf([
      {
        name: 'one',
        async run(context) {
          seen.push(`one ${context.input.word}`)
          await context.save({ a: 1 })
        },
      },
      {
        name: 'two',
        async run(context) {
          seen.push(`two ${JSON.stringify(context.checkpoint())}`)
          await context.finish({ answer: 42 }, async () => {})
        },
      },
    ])
    const id = await add(runner)
    runner.kick(id)
    const row = await ended(runner, id)
    assert.deepEqual(seen, ['one w', 'two {"a":1}'])
    assert.equal(row.state, 'done')
    assert.equal(row.output, '{"answer":42}')
  })

  test('a failing step is undone, and the row says why in the words of the fault', async () => {
    const undone: string[] = []
    const runner = runnerOf(
      [
        {
          name: 'break',
          run: async () => {
            throw new Fault('full', 'No space is left. Make room.', { subject: 'store' })
          },
        },
      ],
      async (_context, reason) => void undone.push(reason),
    )
    const id = await add(runner)
    runner.kick(id)
    const row = await ended(runner, id)
    assert.equal(row.state, 'failed')
    assert.equal(row.faultKind, 'full')
    assert.deepEqual(undone, ['No space is left. Make room.'])
  })

  test('a bug is not shown to the caller', async () => {
    const runner = runnerOf([{ name: 'bug', run: async () => assert.fail('secret detail') }])
    const id = await add(runner)
    runner.kick(id)
    const row = await ended(runner, id)
    assert.equal(row.state, 'failed')
    assert.ok(!row.reason?.includes('secret detail'))
  })

  test('finish is one commit: when its work throws, the task has not ended as done', async () => {
    const runner = runnerOf([
      {
        name: 'commit',
        run: (context) =>
          context.finish({}, async (rows) => {
            await rows.deleteFrom('task').execute()
            throw new Fault('conflict', 'The image was deleted.')
          }),
      },
    ])
    const id = await add(runner)
    runner.kick(id)
    assert.equal((await ended(runner, id)).state, 'failed')
  })

  test('what a closed runner left is taken up by the next, with its checkpoint, and counted', async () => {
    let release = () => {}
    const first = runnerOf([
      {
        name: 'long',
        async run(context) {
          await context.save({ done: 'half' })
          await new Promise<void>((resolve, reject) => {
            release = resolve
            context.signal.addEventListener('abort', () => reject(context.signal.reason), { once: true })
          })
        },
      },
    ])
    const id = await add(first)
    first.kick(id)
    while ((await rowOf(id)).checkpoint === '{}') await first.changed(id, 20, new AbortController().signal)
    await first.close()
    release()
    assert.equal((await rowOf(id)).endedAtMs, null, 'a shutdown is no end of a task')

    const seen: unknown[] = []
    const second = runnerOf([{ name: 'long', run: async (context) => void seen.push(context.checkpoint()) }])
    assert.equal(await second.resume(), 1)
    const row = await ended(second, id)
    assert.deepEqual(seen, [{ done: 'half' }])
    assert.equal(row.state, 'done')
    assert.equal(row.attemptCount, 2)
    assert.equal(await second.resume(), 0)
  })

  test('cancel ends a running task at once, undoes it, and holds for one that was not running', async () => {
    let undoneCount = 0
    const runner = runnerOf(
      [
        {
          name: 'wait',
          run: ({ signal }) =>
            new Promise((_, reject) =>
              signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
            ),
        },
      ],
      async () => void undoneCount++,
    )
    const running = await add(runner)
    runner.kick(running)
    while ((await rowOf(running)).step !== 'wait') {
      await runner.changed(running, 20, new AbortController().signal)
    }
    await runner.cancel(running)
    assert.equal((await rowOf(running)).state, 'cancelled')
    assert.equal(undoneCount, 1)

    const waiting = await add(runner)
    await runner.cancel(waiting)
    runner.kick(waiting)
    assert.equal((await ended(runner, waiting)).state, 'cancelled')
  })

  test('an undo that fails is run again, and by the next runner, with the reason of the failure', async () => {
    const reasons: string[] = []
    let failures = 2
    const undo = async (_context: unknown, reason: string) => {
      reasons.push(reason)
      if (failures-- > 0) throw new Fault('unavailable', 'The host does not answer.')
    }
    const step: Step<Input> = {
      name: 'one',
      async run() {
        throw new Fault('full', 'No space is left.')
      },
    }
    const first = runnerOf([step], undo)
    const id = await add(first)
    first.kick(id)
    while (reasons.length < 1) await first.changed(id, 20, new AbortController().signal)
    await first.close()
    assert.equal((await rowOf(id)).endedAtMs, null)
    assert.equal((await rowOf(id)).step, 'undo')

    const second = runnerOf(
      [{ name: 'one', run: () => assert.fail('a task being undone runs no step') }],
      undo,
    )
    assert.equal(await second.resume(), 1)
    const row = await ended(second, id)
    assert.deepEqual(reasons, ['No space is left.', 'No space is left.', 'No space is left.'])
    assert.deepEqual(
      [row.state, row.step, row.faultKind, row.reason],
      ['failed', '', 'full', 'No space is left.'],
    )
  })

  test('an undo that does the rest instead ends the task as done, with nothing against it', async () => {
    const undo: TaskDefinition<Input>['undo'] = async (context, reason) => {
      assert.equal(reason, 'No space is left.')
      await context.finish({ answer: 42 }, async () => {})
    }
    const step: Step<Input> = {
      name: 'one',
      async run() {
        throw new Fault('full', 'No space is left.')
      },
    }
    const runner = runnerOf([step], undo)
    const id = await add(runner)
    runner.kick(id)
    const { state, step: at, faultKind, reason, output } = await ended(runner, id)
    assert.deepEqual([state, at, faultKind, reason, output], ['done', '', null, null, '{"answer":42}'])
  })

  test('progress is shown by everything that the task makes', async () => {
    const shown = (noun: 'image' | 'snapshot') =>
      catalog.rows.selectFrom(noun).select(['id', 'progressPermille']).orderBy('id').execute()
    const runner = runnerOf([
      {
        name: 'half',
        async run(context) {
          const common = {
            ...{
              projectId: 'org-a',
              regionId: 'hk',
              name: 'n',
              description: '',
              osType: 'Linux',
              osName: '',
            },
            ...{
              digest: null,
              reason: null,
              progressPermille: 0,
              dataBytes: 0,
              storedBytes: 0,
              movedBytes: 0,
            },
            ...{ config: '{}', consistency: null, createdAtMs: 0, updatedAtMs: 0, taskId: context.id },
          }
          const image = {
            ...{ ...common, kind: 'custom', origin: 'capture', tag: '', disks: '[]', parent: null },
            ...{ sourceMachineId: null, sourceImageId: null, state: 'creating' },
          }
          const snapshot = {
            ...{ ...common, machineId: 'm', machineName: '', diskId: 'd', disk: '{}', creator: '' },
            ...{ policyId: null, imageId: null, state: 'creating', reservedBytes: 0 },
          }
          await catalog.rows
            .insertInto('image')
            .values([
              { ...image, id: 'i1' },
              { ...image, id: 'i2', taskId: 'other' },
            ])
            .execute()
          await catalog.rows
            .insertInto('snapshot')
            .values([
              { ...snapshot, id: 's1' },
              { ...snapshot, id: 's2' },
              { ...snapshot, id: 's3', state: 'failed' },
            ])
            .execute()
          context.progress({ doneBytes: 50, totalBytes: 100 })
        },
      },
    ])
    const id = await add(runner)
    runner.kick(id)
    assert.equal((await ended(runner, id)).state, 'done')
    const permille = async (noun: 'image' | 'snapshot') =>
      (await shown(noun)).map((row) => [row.id, row.progressPermille])
    assert.deepEqual(await permille('image'), [
      ['i1', 500],
      ['i2', 0],
    ])
    assert.deepEqual(await permille('snapshot'), [
      ['s1', 500],
      ['s2', 500],
      ['s3', 0],
    ])
  })

  test('progress rises only, and is 100 % only at the end', async () => {
    const runner = runnerOf([
      {
        name: 'count',
        async run(context) {
          for (const doneBytes of [10, 100, 50, 100]) {
            context.progress({ doneBytes, totalBytes: 100 })
            await runner.changed(context.id, 1000, context.signal)
            const row = await rowOf(context.id)
            assert.ok(row.doneBytes <= 100)
          }
        },
      },
    ])
    const id = await add(runner)
    runner.kick(id)
    const row = await ended(runner, id)
    assert.equal(row.state, 'done', row.reason ?? '')
    assert.equal(row.doneBytes, 100)
  })
})
