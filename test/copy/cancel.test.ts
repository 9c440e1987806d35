import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { findId, spellId } from '../../src/image/ids.ts'
import { AWAY, HOME, until } from '../e2e/failure-steps.ts'
import {
  assertNoOrphans,
  beginCopy,
  type CopyPlace,
  call,
  getImage,
  getTask,
  importDisk,
  newCopyPlace,
  sessionsOf,
} from './copy-place.ts'

const MIB = 1024 ** 2
const OTHER = 'hk'
const THIRD = 'cn-shanghai'
/** The lowest limit that there is: a copy of a few megabytes lasts a minute. */
const SLOWEST = 65_536

const isOver = ({ state, step }: { state: string; step: string | null }) =>
  state === 'cancelled' || step === 'undo'

/** Asks for the end of a task; looks at it all the while, and answers after how long it was first seen to be over. */
async function cancelSeen(place: CopyPlace, taskId: string, cancel: () => Promise<unknown>): Promise<number> {
  const askedMs = performance.now()
  const seen = until(`the end of ${taskId}`, async () =>
    isOver(await getTask(place, taskId)) ? performance.now() - askedMs : undefined,
  )
  await cancel()
  // The next answer after that of the call says it, however slow the machine is.
  assert.equal((await getTask(place, taskId)).state, 'cancelled')
  return seen
}

const moves = (place: CopyPlace, taskId: string) =>
  until(`${taskId} moves bytes`, async () =>
    (await getTask(place, taskId)).movedBytes > 0 ? true : undefined,
  )

const waits = (place: CopyPlace, taskId: string, wanted: string) =>
  until(`${taskId} is ${wanted}`, async () => {
    const { state, step } = await getTask(place, taskId)
    return state === wanted || step === wanted ? true : undefined
  })

test('a copy that is cancelled is seen to be over as soon as the call is answered, wherever it was', async (t) => {
  const place = await newCopyPlace(t, { CALOTYPE_COPIES_AT_ONCE: '1' })
  const source = await importDisk(place, 'golden', randomBytes(4 * MIB))
  const begin = async (region: string, more: object = {}) => {
    const made = await beginCopy(place, source.id, {
      targetRegions: [region],
      bytesPerSecond: SLOWEST,
      ...more,
    })
    const [copy] = made.copies
    assert(copy !== undefined)
    return copy
  }
  const cancelTask = (id: string) => () => call(place, 'DELETE', `/v1/tasks/${id}`)
  const assertFailed = async (region: string, imageId: string) => {
    const image = await getImage(place, region, imageId)
    assert.equal(image.state, 'failed')
    assert.match(image.reason ?? '', /cancelled/)
  }

  await t.test('in the middle of its bytes, and one that waits for its place', async () => {
    const first = await begin(AWAY)
    await moves(place, first.taskId)
    const second = await begin(OTHER)
    await waits(place, second.taskId, 'queue')
    const waitingMs = await cancelSeen(place, second.taskId, cancelTask(second.taskId))
    await assertFailed(OTHER, second.imageId)
    const runningMs = await cancelSeen(place, first.taskId, cancelTask(first.taskId))
    await assertFailed(AWAY, first.imageId)
    assert.deepEqual(sessionsOf(place, AWAY), [])
    t.diagnostic(`seen after ${Math.round(waitingMs)} ms (waiting) and ${Math.round(runningMs)} ms (running)`)
  })

  await t.test('while it is held', async () => {
    const copy = await begin(AWAY)
    await moves(place, copy.taskId)
    await call(place, 'PATCH', `/v1/tasks/${copy.taskId}`, { body: { paused: true } })
    assert.equal((await getTask(place, copy.taskId)).state, 'paused')
    assert.equal(sessionsOf(place, AWAY).length, 1)
    const heldMs = await cancelSeen(place, copy.taskId, cancelTask(copy.taskId))
    await assertFailed(AWAY, copy.imageId)
    assert.deepEqual(sessionsOf(place, AWAY), [])
    t.diagnostic(`seen after ${Math.round(heldMs)} ms`)
  })

  await t.test('a batch, of which one is moved, one waits and one is held', async () => {
    const targetRegions = [AWAY, OTHER, THIRD]
    const made = await beginCopy(place, source.id, { targetRegions, bytesPerSecond: SLOWEST })
    const running = await until('one of them moves bytes', async () => {
      for (const copy of made.copies) if ((await getTask(place, copy.taskId)).movedBytes > 0) return copy
      return undefined
    })
    const held = made.copies.find(({ taskId }) => taskId !== running.taskId)
    assert(held !== undefined)
    await waits(place, held.taskId, 'queue')
    await call(place, 'PATCH', `/v1/tasks/${held.taskId}`, { body: { paused: true } })
    const seenMs = await cancelSeen(place, made.taskId, cancelTask(made.taskId))
    for (const { region, imageId, taskId } of made.copies) {
      assert.equal((await getTask(place, taskId)).state, 'cancelled')
      await assertFailed(region, imageId)
      assert.deepEqual(sessionsOf(place, region), [])
    }
    t.diagnostic(`seen after ${Math.round(seenMs)} ms`)
  })

  await t.test('by WUYING CancelCopyImage, which takes its image off the lists', async () => {
    const copy = await begin(AWAY)
    await moves(place, copy.taskId)
    const id = findId('image', copy.imageId)
    assert(id !== undefined)
    const ImageId = spellId('image', id, 'wuying')
    const list = async () =>
      (
        (await place.server.wuying('DescribeImages', { RegionId: AWAY, ImageId: [ImageId] })) as {
          Images: unknown[]
        }
      ).Images.length
    assert.equal(await list(), 1)
    const askedMs = performance.now()
    await place.server.wuying('CancelCopyImage', { RegionId: AWAY, ImageId })
    assert.equal(await list(), 0)
    const seenMs = performance.now() - askedMs
    assert.equal((await getTask(place, copy.taskId)).state, 'cancelled')
    await assert.rejects(getImage(place, AWAY, copy.imageId), { kind: 'absent' })
    assert.deepEqual(sessionsOf(place, AWAY), [])
    t.diagnostic(`off the list after ${Math.round(seenMs)} ms`)
  })

  await t.test('afterwards the same image is copied as ever, and nothing else is there', async () => {
    const copy = await begin(AWAY, { bytesPerSecond: 100 * MIB })
    await until('it is available', async () => {
      const { state, digest } = await getImage(place, AWAY, copy.imageId)
      assert.notEqual(state, 'failed')
      return state === 'available' && digest === source.digest ? true : undefined
    })
    assert.equal((await getImage(place, HOME, source.id)).state, 'available')
    await assertNoOrphans(place)
  })
})
