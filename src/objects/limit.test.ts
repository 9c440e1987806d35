import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { FaultyObjects, fromCall } from './failing.fixture.ts'
import { LimitedObjects, newLimitMemory } from './limit.ts'
import { MemoryObjects } from './memory.ts'
import { type ObjectName, parseObjectName } from './names.ts'
import { SharedSlots } from './shared-slots.ts'
import { objectStoreSuite } from './suite.ts'

const name = parseObjectName('packs/ab/abcdef')
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

objectStoreSuite('limit over memory', async () => {
  const inner = new MemoryObjects()
  const limits = { callsMax: 2, bytesPerSecond: 1e12 }
  const memory = newLimitMemory(limits)
  return {
    objects: new LimitedObjects(inner, { ...limits, memory }),
    again: async () => new LimitedObjects(inner, { ...limits, memory }),
    dispose: async () => {},
  }
})

/** Each `size` waits until it is let go; `running` are the names it waits for. */
class GatedObjects extends MemoryObjects {
  readonly running = new Map<ObjectName, () => void>()
  override async size(each: ObjectName): Promise<number | undefined> {
    await new Promise<void>((resolve) => this.running.set(each, resolve))
    this.running.delete(each)
    return 0
  }
}

test('limit: only so many calls run at once, in the order of asking, and an abort leaves the line', async () => {
  const inner = new GatedObjects()
  const objects = new LimitedObjects(inner, { callsMax: 2 })
  assert.equal(objects.traits.callsMax, 2)
  const abort = new AbortController()
  const ask = (each: string) =>
    objects.size(each as ObjectName, each === 'c' ? abort.signal : undefined).then(
      () => each,
      (error: Error) => error.message,
    )
  const answers = ['a', 'b', 'c', 'd', 'e'].map(ask)
  while (inner.running.size < 2) await turn()
  abort.abort(new Error('c left'))
  assert.equal(await answers[2], 'c left')
  for (const each of ['a', 'b', 'd', 'e']) {
    assert.ok(inner.running.size <= 2)
    while (!inner.running.has(each as ObjectName)) await turn()
    inner.running.get(each as ObjectName)?.()
  }
  assert.deepEqual(await Promise.all(answers), ['a', 'b', 'c left', 'd', 'e'])
})

test('limit: stores with the same memory share the calls; a failed call gives its place back', async () => {
  const limits = { callsMax: 1, memory: newLimitMemory({ callsMax: 1 }) }
  const inner = new GatedObjects()
  const [one, two] = [new LimitedObjects(inner, limits), new LimitedObjects(inner, limits)]
  const first = one.size('a' as ObjectName)
  const second = two.size('b' as ObjectName)
  while (!inner.running.has('a' as ObjectName)) await turn()
  assert.ok(!inner.running.has('b' as ObjectName))
  inner.running.get('a' as ObjectName)?.()
  await first
  while (!inner.running.has('b' as ObjectName)) await turn()
  inner.running.get('b' as ObjectName)?.()
  await second
  const failing = new LimitedObjects(new FaultyObjects(inner, fromCall(0, 'unavailable')), limits)
  for (let n = 0; n < 3; n++) await assert.rejects(failing.get(name, 0, 1))
  await one.put(name, Buffer.from('abc'))
  assert.equal((await one.get(name, 0, 3)).length, 3)
})

test('limit: the walker of a list may call the store for each name', async () => {
  const objects = new LimitedObjects(new MemoryObjects(), { callsMax: 1 })
  for (const each of ['a', 'b', 'c']) await objects.put(each as ObjectName, Buffer.from(each))
  for await (const each of objects.list('')) await objects.remove(each)
  assert.deepEqual(await Array.fromAsync(objects.list('')), [])
  for await (const _ of objects.list('')) break
})

test('limit: a slot of a thread that ended comes free, one that is renewed does not', async () => {
  const slots = new Int32Array(new SharedArrayBuffer(8))
  let now = 1000
  const open = () => new SharedSlots(slots, () => now)
  const [dead, alive] = [open(), open()]
  await dead.take(undefined)
  const kept = await alive.take(undefined)
  let taken: number | undefined
  const next = open()
    .take(undefined)
    .then((slot) => {
      taken = slot
    })
  now += 20
  alive.renew()
  for (let n = 0; n < 3; n++) await turn()
  assert.equal(taken, undefined)
  now += 11
  await next
  assert.deepEqual([taken, kept], [0, 1])
  // What came back too late must not free the slot of the one who has it now.
  dead.give(0)
  assert.ok((slots[0] ?? 0) > now)
  alive.give(kept)
  assert.equal(slots[1], 0)
})

test('limit: bytes are paced in each direction, over all that share, and an abort gives its time back', async () => {
  const inner = new MemoryObjects()
  let now = 5_000_000_000n
  const waits: number[] = []
  const limits = { bytesPerSecond: 1000, memory: newLimitMemory({}) }
  const open = () =>
    new LimitedObjects(inner, {
      ...limits,
      clock: () => now,
      pause: async (ms, signal) => {
        signal?.throwIfAborted()
        waits.push(ms)
      },
    })
  const [one, two] = [open(), open()]
  await one.put('a' as ObjectName, Buffer.alloc(500))
  await two.put('b' as ObjectName, Buffer.alloc(1000))
  await one.put('c' as ObjectName, Buffer.alloc(1))
  assert.deepEqual(waits, [500, 1500])
  await two.get('b' as ObjectName, 0, 1000)
  assert.deepEqual(waits, [500, 1500], 'reading has a line of its own')
  await assert.rejects(two.get('b' as ObjectName, 0, 1000, AbortSignal.abort()))
  await one.get('b' as ObjectName, 0, 10)
  assert.deepEqual(waits.slice(2), [1000])
  now += 60_000_000_000n
  await one.get('b' as ObjectName, 0, 10)
  assert.equal(waits.length, 3, 'a line that is free does not wait, and saves nothing up')
  await two.get('b' as ObjectName, 0, 10)
  assert.deepEqual(waits.slice(3), [10])
})

test('limit: an abort while it waits for bandwidth gives the time back', async () => {
  const waits: number[] = []
  const abort = new AbortController()
  const objects = new LimitedObjects(new MemoryObjects(), {
    bytesPerSecond: 1000,
    clock: () => 1n,
    pause: async (ms) => {
      waits.push(ms)
      if (waits.length > 1) return
      abort.abort(new Error('enough'))
      throw abort.signal.reason
    },
  })
  await objects.put('a' as ObjectName, Buffer.alloc(1000))
  await assert.rejects(objects.put('b' as ObjectName, Buffer.alloc(5000), abort.signal), /enough/)
  await objects.put('c' as ObjectName, Buffer.alloc(1))
  assert.deepEqual(waits, [1000, 1000])
})

test('limit: a thread shares through the memory alone', async () => {
  const limits = { callsMax: 1, memory: newLimitMemory({ callsMax: 1 }) }
  const script = `
    const { workerData, parentPort } = require('node:worker_threads')
    const { limits, limit, memory } = workerData
    Promise.all([import(limit), import(memory)]).then(async ([{ LimitedObjects }, { MemoryObjects }]) => {
      class Asking extends MemoryObjects {
        async size() {
          parentPort.postMessage('in')
          await new Promise((resolve) => parentPort.once('message', resolve))
        }
      }
      await new LimitedObjects(new Asking(), limits).size('a')
      parentPort.postMessage('out')
    })`
  const file = (path: string) => new URL(path, import.meta.url).href
  const workerData = { limits, limit: file('./limit.ts'), memory: file('./memory.ts') }
  const worker = new Worker(script, { eval: true, workerData })
  const news: string[] = []
  const heard = (count: number) =>
    new Promise<void>((resolve) => {
      const look = () => (news.length >= count ? resolve() : worker.once('message', () => setImmediate(look)))
      look()
    })
  worker.on('message', (each) => news.push(each))
  await heard(1)
  const here = new LimitedObjects(new MemoryObjects(), limits)
  const abort = new AbortController()
  const blocked = here.size(name, abort.signal)
  await turn()
  abort.abort(new Error('the thread has it'))
  await assert.rejects(blocked, /the thread has it/)
  worker.postMessage('go')
  await heard(2)
  assert.equal(await here.size(name), undefined)
})
