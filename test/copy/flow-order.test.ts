import assert from 'node:assert/strict'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ShownTask } from '../../src/wire/native/show.ts'
import type { ShownEvent } from '../../src/wire/native/show-events.ts'
import { calotype, calotypeJson } from '../clean/command.ts'
import {
  type Asked,
  api,
  beginCopy,
  bringIn,
  change,
  contentOf,
  done,
  exportedSha256,
  HOME,
  imageOf,
  MIB,
  newDisk,
  newFlowPlace,
  SLOWEST,
  sha256,
  taskOf,
  until,
  untilPulling,
} from './flow-place.ts'

/** Of what pulls: 32 MiB packs, of which only those that are written count. */
const SIZE_BYTES = 80 * MIB

test('one place: the highest priority goes first, a held copy makes room, and goes on where it was after a restart', async (t: TestContext) => {
  const place = await newFlowPlace(t, { environment: { CALOTYPE_COPIES_AT_ONCE: '1' } })
  const disk = newDisk(SIZE_BYTES)
  const packsOf = async (region: string) =>
    (await contentOf(place, region)).filter((name) => name.startsWith('packs/'))
  const large = await bringIn(place, 'large', disk)
  const small = await bringIn(place, 'small', newDisk(MIB))
  const { lastId } = await api<{ lastId: number }>(place, 'GET', '/v1/events')

  const held = await beginCopy(place, large.id, { targetRegions: ['hk'], bytesPerSecond: 24 * MIB })
  await until(
    'a pack of the large copy',
    async () => (await taskOf(place, held.taskId)).doneBytes > 0 || undefined,
  )
  // They come in the order of their names, and wait.
  const waiting = new Map<string, Asked>()
  for (const [name, priority] of [
    ['low', 2],
    ['high', 7],
    ['usual', undefined],
    ['raised', 1],
  ] as const) {
    waiting.set(name, await beginCopy(place, small.id, { targetRegions: ['cn-bj2'], name, priority }))
  }
  const idOf = (name: string) => waiting.get(name)?.taskId ?? ''
  assert.equal((await taskOf(place, idOf('high'))).step, 'queue')
  await change(place, idOf('raised'), { priority: 9 })
  await change(place, held.taskId, { paused: true })
  for (const { taskId } of waiting.values()) await done(place, taskId)
  const { events } = await api<{ events: ShownEvent[] }>(place, 'GET', '/v1/events', {
    query: { afterId: lastId, limit: 500, kinds: ['copy-image'] },
  })
  const pulling = events.filter(({ step, doneBytes }) => step === 'pull' && doneBytes === 0)
  const order = [...new Set(pulling.map(({ taskId }) => taskId))]
  assert.deepEqual(order, [held.taskId, ...['raised', 'high', 'usual', 'low'].map(idOf)])

  const before = await taskOf(place, held.taskId)
  assert.equal(before.state, 'paused')
  const kept = await packsOf('hk')
  assert.ok(before.doneBytes > 0 && kept.length > 0)
  await place.restart()
  const after = await taskOf(place, held.taskId)
  assert.deepEqual([after.state, after.doneBytes], ['paused', before.doneBytes])
  await change(place, held.taskId, { paused: false })
  await done(place, held.taskId)
  const packs = await packsOf('hk')
  t.diagnostic(
    `${before.doneBytes} done in ${kept.length} packs when it was held, in the end ${packs.length} packs`,
  )
  assert.deepEqual(
    kept.filter((name) => !packs.includes(name)),
    [],
    'what it had is part of the image',
  )
  const image = await imageOf(place, 'hk', held.copies[0]?.imageId ?? '')
  assert.deepEqual([image.state, image.digest], ['available', large.digest])
  assert.equal(await exportedSha256(place, 'hk', image.id), sha256(disk))
})

test('a limit is kept, and a time that cannot be kept is refused', async (t: TestContext) => {
  const place = await newFlowPlace(t, { regions: { slow: { copyBytesPerSecond: 2 * MIB } } })
  const source = await bringIn(place, 'source', newDisk(20 * MIB))
  const wish = { targetRegions: ['slow'], within: 5 }
  await assert.rejects(beginCopy(place, source.id, wish), { kind: 'conflict', message: /5 s are allowed/ })
  const ran = await calotype(
    place,
    ...['image', 'copy', source.id, '--region', HOME, '--to', 'slow', '--within', '5s'],
  )
  assert.equal(ran.exitCode, 1)
  assert.match(ran.stderr, /5 s are allowed/)
  const { total } = await api<{ total: number }>(place, 'GET', '/v1/images', { query: { region: 'slow' } })
  assert.equal(total, 0, 'what is refused is not listed')

  const asked = await beginCopy(place, source.id, { ...wish, within: 60 })
  const task = await done(place, asked.taskId)
  assert.ok(task.deadlineAtMs !== null && task.deadlineAtMs > task.createdAtMs + 59_000)
  const { pullMs } = task.output as { pullMs: number }
  const share = task.movedBytes / (pullMs / 1000) / (2 * MIB)
  t.diagnostic(`${task.movedBytes} bytes in ${pullMs} ms: ${(share * 100).toFixed(1)} % of the limit`)
  assert.ok(share > 0.8 && share < 1.1, `${share} of the limit`)
})

test('a batch of forty, one of which cannot: the others come, and only that one is begun again', async (t: TestContext) => {
  const ids = Array.from({ length: 40 }, (_, i) => `far-${i}`)
  const place = await newFlowPlace(t, {
    regions: Object.fromEntries(ids.map((id) => [id, {}])),
    environment: { CALOTYPE_COPIES_ATTEMPTS: '1' },
  })
  const disk = newDisk(2 * MIB)
  const source = await bringIn(place, 'source', disk)
  const packs = join(place.data, 'regions', 'far-7', 'objects', 'packs')
  await rename(packs, `${packs}-away`).catch(() => mkdir(`${packs}-away`, { recursive: true }))
  await writeFile(packs, 'a file where the store has a folder')
  const words = ['image', 'copy', source.id, '--region', HOME, '--to', ...ids, '--wait', '--json']
  const running = calotype(place, ...words)
  await until('the end of what cannot be', async () => {
    const query = { kind: 'copy-image', limit: 100 }
    const { tasks } = await api<{ tasks: ShownTask[] }>(place, 'GET', '/v1/tasks', { query })
    return tasks.find(({ region, step }) => region === 'far-7' && step === 'undo')
  })
  // It has failed already. What it wrote can be taken away only where the store answers.
  await rm(packs)
  await rename(`${packs}-away`, packs)
  const ran = await running
  assert.equal(ran.exitCode, 1, ran.stdout)
  const { batch, tasks } = JSON.parse(ran.stdout) as Asked & { batch: ShownTask; tasks: ShownTask[] }
  assert.equal(tasks.length, 40)
  const failed = tasks.filter(({ state }) => state !== 'done')
  assert.deepEqual(
    failed.map(({ region, state }) => [region, state]),
    [['far-7', 'failed']],
  )
  t.diagnostic(`why: ${failed[0]?.faultKind} ${failed[0]?.reason}`)
  assert.equal(batch.state, 'failed')
  const lost = await imageOf(place, 'far-7', failed[0]?.imageId ?? '')
  assert.deepEqual([lost.state, lost.reason], ['failed', failed[0]?.reason])

  const retried = await calotypeJson<Asked & { tasks: ShownTask[] }>(
    place,
    'task',
    'retry',
    batch.id,
    '--wait',
  )
  assert.deepEqual(
    retried.copies.map(({ region, imageId }) => [region, imageId]),
    [['far-7', lost.id]],
  )
  for (const { region, imageId } of tasks.map((one) => ({ ...one, imageId: one.imageId ?? '' }))) {
    const image = await imageOf(place, region, imageId)
    assert.deepEqual([image.state, image.digest], ['available', source.digest], region)
  }
  assert.equal(await exportedSha256(place, 'far-7', lost.id), sha256(disk))
  const { total } = await api<{ total: number }>(place, 'GET', '/v1/tasks', { query: { kind: 'copy-image' } })
  assert.equal(total, 41)
})

test('what waits is cancelled at once, and a batch can be held as a whole', async (t: TestContext) => {
  const place = await newFlowPlace(t, { environment: { CALOTYPE_COPIES_AT_ONCE: '1' } })
  const source = await bringIn(place, 'source', newDisk(2 * MIB))
  const slow = await beginCopy(place, source.id, { targetRegions: ['hk'], bytesPerSecond: SLOWEST })
  await untilPulling(place, slow.taskId)
  const batch = await beginCopy(place, source.id, { targetRegions: ['cn-bj2', 'cn-shanghai'] })
  await change(place, batch.taskId, { paused: true })
  await api(place, 'DELETE', `/v1/tasks/${slow.taskId}`)
  await until(
    'the end of what is cancelled',
    async () => (await taskOf(place, slow.taskId)).state === 'cancelled' || undefined,
  )
  for (const { taskId } of batch.copies) assert.equal((await taskOf(place, taskId)).state, 'paused')
  await change(place, batch.taskId, { paused: false })
  for (const { taskId } of batch.copies) await done(place, taskId)
  await done(place, batch.taskId)
})
