import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBackoff } from './backoff.ts'

const MINUTE_MS = 60_000

test('what fails again and again is held for longer and longer, up to an hour', () => {
  let nowMs = 0
  const backoff = createBackoff(() => nowMs)
  assert.equal(backoff.isHeld('a'), false)
  for (const minutes of [1, 2, 4, 8, 16, 32, 60, 60]) {
    backoff.fail('a')
    nowMs += minutes * MINUTE_MS - 1
    assert.equal(backoff.isHeld('a'), true, `${minutes}`)
    nowMs += 1
    assert.equal(backoff.isHeld('a'), false, `${minutes}`)
  }
  assert.equal(backoff.countOf('a'), 8)
  assert.equal(backoff.isHeld('b'), false)
  backoff.clear('a')
  assert.equal(backoff.countOf('a'), 0)
})

test('it counts from when it failed, survives a clock that is set back, and forgets', () => {
  let nowMs = 10 * MINUTE_MS
  const backoff = createBackoff(() => nowMs)
  backoff.fail('a', nowMs - MINUTE_MS)
  assert.equal(backoff.isHeld('a'), false)
  backoff.fail('b')
  nowMs = -1000 * MINUTE_MS
  assert.equal(backoff.isHeld('b'), false)
  nowMs = 100 * MINUTE_MS
  backoff.sweep()
  assert.equal(backoff.countOf('b'), 1)
  nowMs = 1000 * MINUTE_MS
  backoff.sweep()
  assert.deepEqual([backoff.countOf('a'), backoff.countOf('b')], [0, 0])
})
