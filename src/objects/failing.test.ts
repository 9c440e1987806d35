import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { FaultyObjects, flipStoredBit, onCall, seededPlan, type Trouble } from './failing.fixture.ts'
import { MemoryObjects } from './memory.ts'
import type { ObjectName } from './names.ts'
import { objectStoreSuite } from './suite.ts'

const [a, b, c] = ['a', 'b', 'c'] as [ObjectName, ObjectName, ObjectName]
const text = (value: string) => Buffer.from(value)

objectStoreSuite('faulty without a plan', async () => {
  const inner = new MemoryObjects()
  return { objects: new FaultyObjects(inner), again: async () => inner, dispose: async () => {} }
})

test('faulty: each trouble does what it says', async () => {
  const inner = new MemoryObjects()
  const objects = new FaultyObjects(inner)
  const next = (trouble: Trouble) => {
    objects.plan = onCall(objects.callCount, trouble)
  }
  next('unavailable')
  await assert.rejects(objects.put(a, text('abcd')), (error) => isFault(error, 'unavailable'))
  assert.equal(await inner.size(a), undefined)
  next('lost')
  await assert.rejects(objects.put(a, text('abcd')), (error) => isFault(error, 'unavailable'))
  assert.equal(await inner.size(a), 4)
  assert.equal(await objects.put(a, text('abcd')), 'stored')
  assert.equal(await objects.put(a, text('abcd')), 'present')
  next('full')
  await assert.rejects(objects.put(b, text('x')), (error) => isFault(error, 'full'))
  next('truncated')
  await assert.rejects(objects.get(a, 0, 4), (error) => isFault(error, 'corrupt'))
  next('flipped')
  assert.notDeepEqual(await objects.get(a, 0, 4), text('abcd'))
  assert.deepEqual(await objects.get(a, 0, 4), text('abcd'))
  next('hanging')
  const abort = new AbortController()
  const hanging = objects.get(a, 0, 4, abort.signal)
  abort.abort(new Error('enough'))
  await assert.rejects(hanging, /enough/)
  assert.deepEqual(
    objects.troubles.map(({ trouble, name }) => `${trouble} ${name}`),
    ['unavailable a', 'lost a', 'full b', 'truncated a', 'flipped a', 'hanging a'],
  )
  await flipStoredBit(objects, a, 9)
  assert.deepEqual(await inner.get(a, 0, 4), Buffer.from([0x61, 0x62 ^ 2, 0x63, 0x64]))
})

test('faulty: an old list misses what is new and shows what is gone', async () => {
  const objects = new FaultyObjects(new MemoryObjects(), ({ kind }) =>
    kind === 'list' ? 'stale' : undefined,
  )
  const list = async () => (await Array.fromAsync(objects.list(''))).sort()
  for (const each of [a, b]) await objects.put(each, text(each))
  assert.deepEqual(await list(), [])
  objects.settle()
  await objects.remove(a)
  await objects.put(c, text('c'))
  assert.deepEqual(await list(), [a, b])
  await objects.remove(c)
  await objects.put(a, text('a'))
  assert.deepEqual(await list(), [a, b])
  await objects.remove(a)
  objects.settle()
  assert.deepEqual(await list(), [b])
})

test('faulty: a seed gives the same troubles again', async () => {
  const call = { kind: 'get', name: 'a', number: 0, numberOfKind: 0 } as const
  const draw = (seed: number) => {
    const plan = seededPlan(seed, 0.5, ['unavailable', 'lost'])
    return Array.from({ length: 40 }, () => plan(call))
  }
  assert.deepEqual(draw(4), draw(4))
  assert.notDeepEqual(draw(4), draw(5))
  assert.equal(new Set(draw(4)).size, 3)
})
