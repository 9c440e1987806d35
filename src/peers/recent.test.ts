import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Digest } from '../image/ids.ts'
import { recently } from './recent.ts'

const [A, B] = ['a'.repeat(64), 'b'.repeat(64)] as [Digest, Digest]

test('a yes is asked for once in five seconds, for each region, content and reader', async () => {
  let nowMs = 1_000_000
  let askedCount = 0
  let answer = true
  const ask = async () => {
    askedCount++
    return answer
  }
  const mayRead = recently(ask, () => nowMs)
  const asked = async (...words: Parameters<typeof mayRead>) => {
    const before = askedCount
    return [await mayRead(...words), askedCount - before]
  }
  assert.deepEqual(await asked('hk', A, ['org-a']), [true, 1])
  assert.deepEqual(await asked('hk', A, ['org-a']), [true, 0])
  assert.deepEqual(await asked('hk', B, ['org-a']), [true, 1])
  assert.deepEqual(await asked('bj', A, ['org-a']), [true, 1])
  assert.deepEqual(await asked('hk', A, ['org-b']), [true, 1])
  assert.deepEqual(await asked('hk', A, 'all'), [true, 1])
  answer = false
  nowMs += 4999
  assert.deepEqual(await asked('hk', A, ['org-a']), [true, 0])
  nowMs += 1
  assert.deepEqual(await asked('hk', A, ['org-a']), [false, 1])
  // A no is not kept, nor is what came before it.
  assert.deepEqual(await asked('hk', A, ['org-a']), [false, 1])
  answer = true
  assert.deepEqual(await asked('hk', A, ['org-a']), [true, 1])
})

test('a clock that is set back keeps no yes for longer', async () => {
  let nowMs = 1_000_000_000
  let askedCount = 0
  const mayRead = recently(
    async () => {
      askedCount++
      return true
    },
    () => nowMs,
  )
  await mayRead('hk', A, 'all')
  nowMs -= 60_000
  await mayRead('hk', A, 'all')
  assert.equal(askedCount, 2)
})

test('what fails is asked again', async () => {
  let askedCount = 0
  const mayRead = recently(async () => {
    if (askedCount++ === 0) throw new Error('away')
    return true
  })
  await assert.rejects(mayRead('hk', A, 'all'), /away/)
  assert.equal(await mayRead('hk', A, 'all'), true)
})
