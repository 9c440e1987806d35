import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { CopyPlan } from '../../src/image/copy.ts'
import { calotypeJson } from '../clean/command.ts'
import {
  beginCopy,
  bringIn,
  change,
  copy,
  done,
  HOME,
  MIB,
  newDisk,
  newFlowPlace,
  newProject,
  taskOf,
  until,
} from './flow-place.ts'

test('a copy that was held says of all its runs together how much they moved', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const source = await bringIn(place, 'source', newDisk(80 * MIB))
  const { taskId } = await beginCopy(place, source.id, { targetRegions: ['hk'], bytesPerSecond: 24 * MIB })
  await until('a pack', async () => (await taskOf(place, taskId)).doneBytes > 0 || undefined)
  await change(place, taskId, { paused: true })
  await until('held', async () => (await taskOf(place, taskId)).state === 'paused' || undefined)
  const before = await taskOf(place, taskId)
  await change(place, taskId, { paused: false })
  const task = await done(place, taskId)
  const said = `${task.movedBytes} moved of ${task.totalBytes}, ${task.savedBytes} saved; ${before.movedBytes} before`
  t.diagnostic(said)
  // The target had nothing, so all of it crossed the line.
  assert.ok(task.movedBytes + task.savedBytes >= task.totalBytes, said)
})

test('a small image with new keys moves what its plan says', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const source = await bringIn(place, 'source', newDisk(4 * MIB))
  const targetProject = await newProject(place, 'strangers')
  const words = ['image', 'copy', source.id, '--region', HOME, '--to-project', targetProject, '--rekey']
  const plan = await calotypeJson<CopyPlan>(place, ...words, '--dry-run')
  const { task } = await copy(place, source.id, { targetProject, rekey: true })
  const said = `moved ${task.movedBytes}, planned ${plan.moveBytes}`
  t.diagnostic(said)
  assert.ok(Math.abs(task.movedBytes - plan.moveBytes) <= plan.moveBytes * 0.02, said)
})
