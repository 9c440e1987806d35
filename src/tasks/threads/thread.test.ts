import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { runThread, startThread } from './thread.ts'

const ECHO = new URL('./echo-thread.fixture.ts', import.meta.url)
const never = new AbortController().signal

test('a thread gets its data, tells news and answers', async () => {
  const news: string[] = []
  const answer = await runThread(ECHO, { say: 'a' }, { signal: never, onNews: (one) => news.push(one) })
  assert.deepEqual(answer, { said: 'a' })
  assert.deepEqual(news, ['a'])
})

test("a thread's fault is the caller's", async () => {
  await assert.rejects(runThread(ECHO, { fail: 'no room' }, { signal: never }), (error) => {
    assert.ok(isFault(error, 'full'))
    return error.message === 'no room' && error.subject === 'store'
  })
})

test('a thread that was started before its work was known is run, or dropped', async () => {
  const [first, second, third] = [startThread(ECHO), startThread(ECHO), startThread(ECHO)]
  await third.drop()
  const answer = first.run({ say: 'later' }, { signal: never })
  // Of one that runs a drop takes nothing away.
  await first.drop()
  assert.deepEqual(await answer, { said: 'later' })
  await second.drop()
})

test('a thread is told to stop, and then the reason is that of the signal', async () => {
  const stop = new AbortController()
  const started = Promise.withResolvers<void>()
  const running = runThread(
    ECHO,
    { say: 'up', wait: true },
    { signal: stop.signal, onNews: () => started.resolve() },
  )
  await started.promise
  stop.abort(new Error('enough'))
  await assert.rejects(running, /enough/)
})

test('a thread is not run when the signal has fired, nor with data that cannot be sent', async () => {
  const fired = AbortSignal.abort(new Error('too late'))
  await assert.rejects(runThread(ECHO, {}, { signal: fired }), /too late/)
  await assert.rejects(startThread(ECHO).run({}, { signal: fired }), /too late/)
  await assert.rejects(startThread(ECHO).run({ say: () => {} }, { signal: never }), /could not be cloned/)
})

test('a thread whose file is missing fails the run, however late it comes', async () => {
  const thread = startThread(new URL('./missing-thread.ts', import.meta.url))
  await new Promise((resolve) => setImmediate(resolve))
  await assert.rejects(thread.run({}, { signal: never }), /missing-thread/)
})
