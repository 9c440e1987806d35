import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createGate } from './gates.ts'

const { signal } = new AbortController()

test('no project has all places of a gate, and its waiting ones are passed by', async () => {
  const gate = createGate(4, 2)
  const came: string[] = []
  const enter = async (who: string) => {
    const leave = await gate.enter(signal, who)
    came.push(who)
    return leave
  }
  const [first] = await Promise.all([enter('a'), enter('a')])
  const third = enter('a')
  const [other] = await Promise.all([enter('b'), enter('b')])
  assert.deepEqual(came, ['a', 'a', 'b', 'b'])
  const late = enter('c')
  // There is a place again, and it is for none of 'a'.
  other?.()
  await late
  assert.deepEqual(came, ['a', 'a', 'b', 'b', 'c'])
  first?.()
  first?.()
  await third
  assert.deepEqual(came, ['a', 'a', 'b', 'b', 'c', 'a'])
  const never = enter('d')
  await turn()
  assert.equal(came.length, 6)
  ;(await third)()
  await never
})

test('who gives up waiting takes no place', async () => {
  const gate = createGate(1)
  const leave = await gate.enter(signal)
  const left = new AbortController()
  const waiting = gate.enter(left.signal)
  left.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
  const next = gate.enter(signal)
  leave()
  ;(await next)()
})
