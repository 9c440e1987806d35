import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createGate, createGates, type Order } from './gates.ts'

const { signal } = new AbortController()

test('no project has all places of a gate, and its waiting ones are passed by', async () => {
  const gate = createGate(4, { placesEach: 2 })
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

/** Who comes in, in the order, each with one place: it leaves once the next is to come. */
async function orderOf(
  asking: readonly { readonly name: string; readonly order?: Order }[],
  places = 1,
): Promise<string[]> {
  const gate = createGate(places)
  const came: string[] = []
  const ways: (() => void)[] = []
  const entering = asking.map(async ({ name, order }) => {
    const leave = await gate.enter(signal, '', order)
    came.push(name)
    ways.push(leave)
  })
  await turn()
  for (let leave = ways.shift(); leave !== undefined; leave = ways.shift()) {
    leave()
    await turn()
  }
  await Promise.all(entering)
  return came
}

const order = (priority: number, more: Partial<Order> = {}): Order => ({ priority: () => priority, ...more })

test('first goes the highest priority, then the earliest deadline, then who came first', async () => {
  const came = await orderOf([
    { name: 'inside' },
    { name: 'a', order: order(5) },
    { name: 'b', order: order(4, { deadlineAtMs: 1 }) },
    { name: 'c', order: order(5, { deadlineAtMs: 9 }) },
    { name: 'd', order: order(5, { deadlineAtMs: 3 }) },
    { name: 'e', order: order(6) },
    { name: 'f' },
  ])
  assert.deepEqual(came, ['inside', 'e', 'd', 'c', 'a', 'f', 'b'])
})

test('of tasks alike the source with the fewest inside goes first, so that one with many does not keep the others out', async () => {
  const many = Array.from({ length: 6 }, (_, n) => ({ name: `big${n}`, order: order(5, { source: 'big' }) }))
  const few = Array.from({ length: 2 }, (_, n) => ({
    name: `small${n}`,
    order: order(5, { source: 'small' }),
  }))
  const came = await orderOf([...many, ...few], 2)
  assert.deepEqual(came.slice(0, 5), ['big0', 'big1', 'small0', 'big2', 'small1'])
  assert.equal(came.length, 8)
})

test('a priority that changes while its task waits counts', async () => {
  const gate = createGate(1)
  const leave = await gate.enter(signal)
  const came: string[] = []
  let late = 5
  const enter = async (name: string, priority: () => number) => {
    const out = await gate.enter(signal, '', { priority })
    came.push(name)
    out()
  }
  const all = [enter('a', () => 5), enter('b', () => 5), enter('c', () => late)]
  late = 6
  leave()
  await Promise.all(all)
  assert.deepEqual(came, ['c', 'a', 'b'])
})

test('a fair gate takes first of the project with the fewest inside, whatever the others say of themselves', async () => {
  const { copies } = createGates({ copies: 4 })
  const came: string[] = []
  const ways = new Map<string, (() => void)[]>()
  const enter = async (who: string, name: string, wanted: Order) => {
    const leave = await copies.enter(signal, who, wanted)
    came.push(name)
    ways.set(who, [...(ways.get(who) ?? []), leave])
  }
  const leave = async (who: string) => {
    ways.get(who)?.shift()?.()
    await turn()
  }
  const loud = Array.from({ length: 8 }, (_, n) => enter('loud', `loud${n}`, order(9, { deadlineAtMs: 0 })))
  const quiet = ['low', 'plain', 'high'].map((name, n) => enter('quiet', name, order(n, {})))
  const late = enter('late', 'late', order(0))
  await turn()
  assert.deepEqual(came.splice(0), ['loud0', 'loud1', 'loud2', 'loud3'])
  // First those who have none, then, where all have as many, who was let in longest ago.
  for (let i = 0; i < 4; i++) await leave('loud')
  assert.deepEqual(came.splice(0), ['high', 'late', 'loud4', 'plain'])
  await leave('quiet')
  assert.deepEqual(came.splice(0), ['loud5'])
  await leave('loud')
  assert.deepEqual(came.splice(0), ['low'])
  for (let i = 0; i < 4; i++) for (const who of ['loud', 'quiet', 'late']) await leave(who)
  await Promise.all([...loud, ...quiet, late])
  assert.deepEqual(came.toSorted(), ['loud6', 'loud7'])
})
