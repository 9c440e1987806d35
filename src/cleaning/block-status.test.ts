import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Extent } from '../disk/contract.ts'
import type { Run } from '../volume/contract.ts'
import { BlockStatus, type Marked } from './block-status.ts'

const BLOCK = 4096
const WINDOW = 8 * BLOCK
const SIZE_BYTES = 3 * WINDOW - 512

/** A status of a disk whose answers come when the test gives them. */
function scriptedStatus(underWay: readonly Marked[] = []) {
  const waiting: {
    offset: number
    lengthBytes: number
    answer: (extents: Extent[]) => void
    fail: () => void
  }[] = []
  const ask = (offset: number, lengthBytes: number) =>
    new Promise<Extent[]>((resolve, reject) => {
      waiting.push({ offset, lengthBytes, answer: resolve, fail: () => reject(new Error('no answer')) })
    })
  const status = new BlockStatus(SIZE_BYTES, ask, () => underWay, WINDOW)
  const data = (window: number, first: number, count: number): void => {
    const offset = window * WINDOW + first * BLOCK
    const at = waiting.findIndex((one) => one.offset === window * WINDOW)
    const extent: Extent = { offset, lengthBytes: count * BLOCK, holds: 'data' }
    waiting.splice(at, 1)[0]?.answer(count === 0 ? [] : [extent])
  }
  return { status, waiting, data }
}

async function runsOf(status: BlockStatus, offset: number, lengthBytes: number): Promise<Run[]> {
  return await Array.fromAsync(status.runs(offset, lengthBytes))
}

test('whoever needs one window waits for one answer', async () => {
  const { status, waiting, data } = scriptedStatus()
  const both = Promise.all([runsOf(status, 0, WINDOW), runsOf(status, BLOCK, 100)])
  assert.deepEqual(
    waiting.map(({ offset, lengthBytes }) => [offset, lengthBytes]),
    [[0, WINDOW]],
  )
  data(0, 1, 2)
  assert.deepEqual(await both, [
    [{ offset: BLOCK, lengthBytes: 2 * BLOCK }],
    [{ offset: BLOCK, lengthBytes: 100 }],
  ])
  assert.deepEqual(status.knownRuns(0, BLOCK), [])
  assert.equal(status.knownRuns(WINDOW, BLOCK), undefined)
})

test('what changes while an answer is on its way counts, in its order', async () => {
  const begun: Marked = { from: 7 * BLOCK, to: WINDOW, isData: true }
  const { status, data } = scriptedStatus([begun])
  const runs = runsOf(status, 0, WINDOW)
  status.mark({ from: 0, to: 3 * BLOCK, isData: true })
  status.mark({ from: BLOCK, to: 2 * BLOCK + 5, isData: false })
  status.mark({ from: 5 * BLOCK, to: 2 * WINDOW, isData: false })
  data(0, 5, 1)
  assert.deepEqual(await runs, [
    { offset: 0, lengthBytes: BLOCK },
    { offset: 2 * BLOCK, lengthBytes: BLOCK },
  ])
})

test('the end of a disk is inside of its last block', async () => {
  const { status, data, waiting } = scriptedStatus()
  const runs = runsOf(status, 2 * WINDOW, WINDOW - 512)
  assert.equal(waiting[0]?.lengthBytes, WINDOW - 512)
  data(2, 7, 1)
  assert.deepEqual(await runs, [{ offset: 2 * WINDOW + 7 * BLOCK, lengthBytes: BLOCK - 512 }])
  status.mark({ from: 2 * WINDOW + 7 * BLOCK, to: SIZE_BYTES, isData: false })
  assert.deepEqual(await runsOf(status, 0, 0), [])
  assert.deepEqual(status.knownRuns(2 * WINDOW, WINDOW - 512), [])
})

test('an answer that was asked for before all was forgotten is not kept', async () => {
  const { status, data, waiting } = scriptedStatus()
  const runs = runsOf(status, 0, WINDOW)
  status.forget()
  data(0, 1, 1)
  while (waiting.length === 0) await new Promise((resolve) => setImmediate(resolve))
  data(0, 2, 1)
  assert.deepEqual(await runs, [{ offset: 2 * BLOCK, lengthBytes: BLOCK }])
})

test('a range is asked for ahead; what fails then is asked again', async () => {
  const { status, data, waiting } = scriptedStatus()
  const runs = runsOf(status, 0, SIZE_BYTES)
  assert.deepEqual(
    waiting.map(({ offset }) => offset),
    [WINDOW, 2 * WINDOW, 0],
  )
  waiting.shift()?.fail()
  data(2, 0, 1)
  await new Promise((resolve) => setImmediate(resolve))
  data(0, 0, 0)
  while (waiting.length === 0) await new Promise((resolve) => setImmediate(resolve))
  data(1, 0, 0)
  assert.deepEqual(await runs, [{ offset: 2 * WINDOW, lengthBytes: BLOCK }])
  const failing = runsOf(scripted(), 0, 1)
  await assert.rejects(failing, /no answer/)

  function scripted(): BlockStatus {
    const { status: another, waiting: its } = scriptedStatus()
    setImmediate(() => its[0]?.fail())
    return another
  }
})
