import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { EchoAsk } from './lasting-echo-thread.fixture.ts'
import { LastingThread } from './lasting-thread.ts'

const ECHO = new URL('./lasting-echo-thread.fixture.ts', import.meta.url)
const never = new AbortController().signal

async function withThread(body: (thread: LastingThread) => Promise<void>): Promise<void> {
  const thread = new LastingThread(ECHO)
  try {
    await body(thread)
  } finally {
    await thread.close()
  }
}

const ask = (thread: LastingThread, what: EchoAsk, signal = never) => thread.run<number>(what, { signal })

test('one thread does one work after the other, and tells each the news of its own', () =>
  withThread(async (thread) => {
    const news: string[] = []
    const onNews = (one: string) => news.push(one)
    const first = await thread.run({ say: 'a' }, { signal: never, onNews })
    assert.deepEqual(news, ['a'])
    assert.equal(await ask(thread, { say: 'b' }), first)
    assert.deepEqual(news, ['a'])
  }))

test('after a fault, data that cannot be sent and a work that was stopped it goes on', () =>
  withThread(async (thread) => {
    const id = await ask(thread, {})
    await assert.rejects(
      ask(thread, { fail: 'no room' }),
      (error) => isFault(error, 'full') && error.subject === 'store',
    )
    await assert.rejects(thread.run({ say: () => {} }, { signal: never }), /could not be cloned/)
    const stop = new AbortController()
    const started = Promise.withResolvers<void>()
    const onNews = () => started.resolve()
    const running = thread.run({ say: 'up', wait: true }, { signal: stop.signal, onNews })
    await started.promise
    await assert.rejects(ask(thread, {}), /has work to do/)
    stop.abort(new Error('enough'))
    await assert.rejects(running, /enough/)
    await assert.rejects(ask(thread, {}, AbortSignal.abort(new Error('too late'))), /too late/)
    assert.equal(await ask(thread, {}), id)
    assert.equal(thread.isOver, false)
  }))

test('one that ends answers nothing any more, whatever it was doing', async () => {
  const gone = new LastingThread(ECHO)
  await assert.rejects(ask(gone, { exit: true }), /ended without an answer/)
  assert.equal(gone.isOver, true)
  await assert.rejects(ask(gone, {}), /ended without an answer/)
  const closed = new LastingThread(ECHO)
  const running = assert.rejects(ask(closed, { wait: true }), /ended without an answer/)
  await closed.close()
  await running
  await closed.close()
})

test('one whose file is missing fails the work', async () => {
  const thread = new LastingThread(new URL('./missing-thread.ts', import.meta.url))
  await assert.rejects(ask(thread, {}), /missing-thread/)
})
