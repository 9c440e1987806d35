import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rate } from './run-rate.ts'

const sample = (atMs: number, doneBytes: number, movedBytes = 0) => ({ atMs, doneBytes, movedBytes })

test('the rate is that of the last ten seconds, of nothing but one sample there is none', () => {
  const rate = new Rate()
  assert.equal(rate.add(sample(0, 500)), null)
  assert.equal(rate.add(sample(0, 600)), null)
  assert.equal(rate.add(sample(1000, 1500)), 1000)
  for (let second = 2; second <= 30; second++) rate.add(sample(second * 1000, 1500 + second * 100))
  assert.equal(rate.add(sample(31_000, 1500 + 3100)), 100, 'the quick start is forgotten')
  assert.equal(rate.add(sample(91_000, 4600 + 3000)), Math.round(3_000_000 / 60_000), 'a long silence counts')
})

test('bytes moved go before bytes done, where they rise', () => {
  const rate = new Rate()
  rate.add(sample(0, 0, 1000))
  assert.equal(rate.add(sample(1000, 64, 1000)), 64)
  assert.equal(rate.add(sample(2000, 64, 1500)), 250)
})

test('what falls begins it anew, and a clock that is set back', () => {
  const rate = new Rate()
  rate.add(sample(0, 5000))
  rate.add(sample(1000, 9000))
  assert.equal(rate.add(sample(2000, 100)), null)
  assert.equal(rate.add(sample(3000, 300)), 200)
  assert.equal(rate.add(sample(10, 400)), null)
  assert.equal(rate.add(sample(1010, 500)), 100)
})
