import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../image/fault.ts'
import { readPatiently } from './lost-disk.ts'

const fault = (reason?: string) =>
  new Fault('unavailable', 'The disk failed.', {
    subject: 'disk',
    ...(reason === undefined ? {} : { reason }),
  })
const never = new AbortController().signal
const soon = { forMs: 60_000, againMs: 1 }

test('a read that ends with an I/O error is run again until it succeeds', async () => {
  let runCount = 0
  const read = async () => {
    runCount++
    if (runCount < 3) throw fault('EIO')
    return 'read'
  }
  assert.equal(await readPatiently(read, never, soon), 'read')
  assert.equal(runCount, 3)
})

test('patience ends, and no other failure is waited for', async () => {
  const failing = (error: Error) => {
    const seen = { runCount: 0 }
    const read = async () => {
      seen.runCount++
      throw error
    }
    return { seen, read }
  }
  for (const error of [
    fault(),
    fault('EINVAL'),
    new Fault('full', 'No space is left.'),
    new Error('a bug'),
  ]) {
    const { seen, read } = failing(error)
    await assert.rejects(readPatiently(read, never, soon), error)
    assert.equal(seen.runCount, 1)
  }
  const lasting = failing(fault('EIO'))
  await assert.rejects(readPatiently(lasting.read, never, { forMs: -1, againMs: 1 }), { reason: 'EIO' })
  assert.equal(lasting.seen.runCount, 1)
})

test('after an I/O error a base may be found away by who connects to it', async () => {
  const errors = [fault('EIO'), fault(), fault(), fault('EIO')]
  const read = async () => {
    const error = errors.shift()
    if (error !== undefined) throw error
    return 'read'
  }
  assert.equal(await readPatiently(read, never, soon), 'read')
})

test('patience begins with the first error, not with the reading', async () => {
  let runCount = 0
  const read = async () => {
    if (runCount++ > 0) return 'read'
    await delay(200)
    throw fault('EIO')
  }
  assert.equal(await readPatiently(read, never, { forMs: 100, againMs: 1 }), 'read')
})

test('a cancel does not wait for patience', async () => {
  const cancel = new AbortController()
  const read = async () => {
    cancel.abort(new Error('cancelled'))
    throw fault('EIO')
  }
  await assert.rejects(readPatiently(read, cancel.signal, { forMs: 60_000, againMs: 60_000 }), {
    name: 'AbortError',
  })
})
