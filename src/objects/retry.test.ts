import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { FaultyObjects, fromCall, onCall, type Plan, seededPlan, seededRandom } from './failing.fixture.ts'
import { MemoryObjects } from './memory.ts'
import { type ObjectName, parseObjectName } from './names.ts'
import { RetryingObjects, type RetryOptions } from './retry.ts'
import { objectStoreSuite } from './suite.ts'

const name = parseObjectName('packs/ab/abcdef')
const isUnavailable = (error: unknown) => isFault(error, 'unavailable')

/** Waits are noted instead of waited for. */
function retrying(plan: Plan | undefined, options: RetryOptions = {}) {
  const inner = new MemoryObjects()
  const faulty = new FaultyObjects(inner, plan)
  const waits: number[] = []
  const objects = new RetryingObjects(faulty, {
    random: () => 1,
    pause: async (ms) => void waits.push(ms),
    ...options,
  })
  return { inner, faulty, objects, waits }
}

objectStoreSuite('retry over memory', async () => {
  const { inner, objects } = retrying(undefined)
  return { objects, again: async () => new RetryingObjects(inner), dispose: async () => {} }
})

for (const seed of [1, 2, 3]) {
  // Random troubles do not come eight times in a row, so every call gets through in the end.
  objectStoreSuite(`retry over a store that fails a third of its calls, seed ${seed}`, async () => {
    const { inner, objects } = retrying(seededPlan(seed, 1 / 3, ['unavailable', 'lost']), { attemptsMax: 50 })
    return {
      objects,
      again: async () => new RetryingObjects(inner),
      dispose: async () => {},
    }
  })
}

test('retry: waits grow, are drawn at random, have a bound, and the last failure is the answer', async () => {
  const { objects, faulty, waits } = retrying(fromCall(0, 'unavailable'), { waitMsMax: 1000 })
  await assert.rejects(objects.get(name, 0, 1), isUnavailable)
  assert.equal(faulty.callCount, 8)
  assert.deepEqual(waits, [100, 200, 400, 800, 1000, 1000, 1000])
  const random = seededRandom(7)
  const jittered = retrying(fromCall(0, 'unavailable'), { attemptsMax: 4, random })
  await assert.rejects(jittered.objects.size(name), isUnavailable)
  for (const [index, boundMs] of [100, 200, 400].entries()) {
    const ms = jittered.waits[index] ?? 0
    assert.ok(ms >= boundMs / 2 && ms < boundMs, `wait ${index}: ${ms}`)
  }
  assert.equal(new Set(jittered.waits).size, 3)
})

test('retry: what is not unavailable is answered at once', async () => {
  const { objects, waits, faulty } = retrying(onCall(0, 'full', 'put'))
  await assert.rejects(objects.put(name, Buffer.from('x')), (error) => isFault(error, 'full'))
  await assert.rejects(objects.get(name, 0, 1), (error) => isFault(error, 'absent'))
  await objects.put(name, Buffer.from('x'))
  await assert.rejects(objects.get(name, 0, 2), (error) => isFault(error, 'corrupt'))
  assert.deepEqual([waits, faulty.callCount], [[], 4])
})

test('retry: a put whose answer was lost is its own; one that somebody else made is not', async () => {
  const mine = retrying(onCall(0, 'lost', 'put'))
  assert.equal(await mine.objects.put(name, Buffer.from('x')), 'stored')
  assert.equal(await mine.objects.put(name, Buffer.from('x')), 'present')
  const other = retrying(onCall(0, 'unavailable', 'put'))
  await other.inner.put(name, Buffer.from('x'))
  assert.equal(await other.objects.put(name, Buffer.from('x')), 'present')
  const both = retrying(onCall(0, 'lost', 'put'))
  await both.inner.put(name, Buffer.from('x'))
  assert.equal(await both.objects.put(name, Buffer.from('x')), 'present')
})

test('retry: a list that breaks off goes on without repeating a name, as long as it gets on', async () => {
  const names = Array.from({ length: 40 }, (_, index) => `packs/aa/${index}` as ObjectName)
  // Each attempt gets half of the list, so only the first brings anything new.
  const stuck = retrying(fromCall(0, 'lost', 'list'))
  for (const each of names) await stuck.inner.put(each, Buffer.alloc(1))
  const seen: string[] = []
  await assert.rejects(async () => {
    for await (const each of stuck.objects.list('packs/')) seen.push(each)
  }, isUnavailable)
  assert.deepEqual(seen, names.slice(0, 20))
  assert.equal(stuck.faulty.callCount, 8)
  stuck.faulty.plan = ({ number }) => (number < 10 ? 'lost' : undefined)
  assert.deepEqual(await Array.fromAsync(stuck.objects.list('packs/')), names)
})

test('retry: an abort ends the wait, and nothing is tried after it', async () => {
  const abort = new AbortController()
  const { objects, faulty } = retrying(fromCall(0, 'unavailable'), {
    pause: (_, signal) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(new Error('the pause was cut')), { once: true })
        abort.abort(new Error('enough'))
      }),
  })
  await assert.rejects(objects.put(name, Buffer.from('x'), abort.signal), /enough/)
  assert.equal(faulty.callCount, 1)
  const late = retrying(() => {
    during.abort(new Error('too late'))
    return 'unavailable'
  })
  const during = new AbortController()
  await assert.rejects(late.objects.size(name, during.signal), /too late/)
  assert.deepEqual([late.faulty.callCount, late.waits], [1, []])
})
