import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turns } from './turns.ts'

const never = new AbortController().signal

test('who is given a turn and gives up at once takes no other out of the queue', async () => {
  const turns = new Turns(1)
  const end = await turns.take(never)
  const abort = new AbortController()
  const second = turns.take(abort.signal)
  const third = turns.take(never)
  end()
  abort.abort(new Error('too late'))
  const endSecond = await second
  endSecond()
  const endThird = await third
  endThird()
  assert.ok(await turns.take(never))
})
