import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { CopyAsk } from './copy-thread.ts'
import { CopyThreads } from './copy-threads.ts'
import type { EchoAsk } from './lasting-echo-thread.fixture.ts'

const ECHO = new URL('./lasting-echo-thread.fixture.ts', import.meta.url)
const signal = new AbortController().signal

/** What is done by threads that say which one each of them is. */
async function withThreads(
  body: (
    plan: (isPullNext: boolean, ask?: EchoAsk) => Promise<number>,
    pull: (ask?: EchoAsk) => Promise<number>,
    threads: CopyThreads,
  ) => Promise<void>,
): Promise<void> {
  const threads = new CopyThreads(ECHO)
  const asked = (ask: EchoAsk) => ask as CopyAsk
  try {
    await body(
      (isPullNext, ask = {}) => threads.plan<number>(asked(ask), isPullNext, { signal }),
      (ask = {}) => threads.pull<number>(asked(ask), { signal }),
      threads,
    )
  } finally {
    await threads.close()
  }
}

test('a pull is made by the thread of the plan before it, and the next one by another', () =>
  withThreads(async (plan, pull) => {
    const planned = await plan(true)
    assert.equal(await pull(), planned)
    assert.notEqual(await pull(), planned)
  }))

test('a thread is not kept where no pull comes, nor after a fault', () =>
  withThreads(async (plan, pull) => {
    const planned = await plan(false)
    assert.notEqual(await pull(), planned)
    await assert.rejects(plan(true, { fail: 'no room' }), (error) => isFault(error, 'full'))
    await assert.rejects(pull({ fail: 'no room' }), (error) => isFault(error, 'full'))
    const next = await plan(true)
    await assert.rejects(pull({ fail: 'no room' }), (error) => isFault(error, 'full'))
    assert.notEqual(await pull(), next)
  }))

test('four are kept at most', () =>
  withThreads(async (plan, pull) => {
    const planned = new Set(await Promise.all(Array.from({ length: 6 }, () => plan(true))))
    assert.equal(planned.size, 6)
    const pulled = await Promise.all(Array.from({ length: 6 }, () => pull()))
    assert.equal(pulled.filter((id) => planned.has(id)).length, 4)
    assert.equal(new Set(pulled).size, 6)
  }))

test('a thread whose pull does not come is dropped after a while', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  await withThreads(async (plan, pull) => {
    const planned = await plan(true)
    t.mock.timers.tick(9_999)
    assert.equal(await pull(), planned)
    const forgotten = await plan(true)
    t.mock.timers.tick(10_000)
    assert.notEqual(await pull(), forgotten)
  })
})

test('nothing is kept once they are closed', () =>
  withThreads(async (plan, pull, threads) => {
    const planned = await plan(true)
    await threads.close()
    assert.notEqual(await pull(), planned)
    const late = await plan(true)
    assert.notEqual(await pull(), late)
  }))
