import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turns } from './turns.ts'

const never = new AbortController().signal
const settle = () => new Promise(setImmediate)

test('so much goes through at once, in the order in which it came', async () => {
  const turns = new Turns(10)
  const order: string[] = []
  const take = async (name: string, size: number, signal = never) => {
    const giveBack = await turns.take(size, signal)
    order.push(name)
    return giveBack
  }
  const first = await take('a', 6)
  const second = take('b', 6)
  // It would fit, and still waits behind the one that came before it.
  const third = take('c', 4)
  await settle()
  assert.deepEqual(order, ['a'])
  first()
  // Given back twice is given back once.
  first()
  await second
  await third
  assert.deepEqual(order, ['a', 'b', 'c'])
  const fourth = take('d', 1)
  await settle()
  assert.deepEqual(order, ['a', 'b', 'c'])
  ;(await third)()
  await fourth
  assert.deepEqual(order, ['a', 'b', 'c', 'd'])
})

test('who no longer waits is in nobody’s way', async () => {
  const turns = new Turns(10)
  const first = await turns.take(6, never)
  const leaves = new AbortController()
  const large = turns.take(10, leaves.signal)
  const small = turns.take(4, never)
  leaves.abort(new Error('enough'))
  await assert.rejects(large, /enough/)
  ;(await small)()
  first()
  await assert.rejects(turns.take(1, leaves.signal), /enough/)
  ;(await turns.take(10, never))()
})
