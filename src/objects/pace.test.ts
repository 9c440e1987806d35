import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PACE_BYTES, Pace } from './pace.ts'

/** A clock that goes on when somebody waits. */
function fakeTime() {
  let nowNs = 1_000_000_000n
  const waiting: { atNs: bigint; wake: () => void }[] = []
  return {
    clock: () => nowNs,
    pause: (ms: number) =>
      new Promise<void>((wake) => waiting.push({ atNs: nowNs + BigInt(Math.round(ms * 1e6)), wake })),
    get nowMs() {
      return Number(nowNs / 1_000_000n)
    },
    /** Lets time pass until nobody waits any more. */
    async run() {
      for (let idle = 0; idle < 3; ) {
        await new Promise(setImmediate)
        const next = waiting.sort((a, b) => Number(a.atNs - b.atNs)).shift()
        if (next === undefined) idle++
        else {
          idle = 0
          if (next.atNs > nowNs) nowNs = next.atNs
          next.wake()
        }
      }
    },
  }
}

test('pace: many readers that share a line get its rate together, within 5 %', async () => {
  const time = fakeTime()
  const freeAt = new BigInt64Array(new SharedArrayBuffer(PACE_BYTES))
  const bytesPerSecond = 20_000_000
  let doneBytes = 0
  const reader = async () => {
    const pace = new Pace({ bytesPerSecond, freeAt, clock: time.clock, pause: time.pause })
    for (let i = 0; i < 20; i++) {
      await pace.take(2 * 1024 * 1024, undefined)
      doneBytes += 2 * 1024 * 1024
    }
  }
  const beginMs = time.nowMs
  const done = Promise.all([reader(), reader(), reader()])
  await time.run()
  await done
  const rate = doneBytes / ((time.nowMs - beginMs) / 1000)
  assert.ok(Math.abs(rate / bytesPerSecond - 1) < 0.05, `${rate} bytes a second`)
})

test('pace: who gives up leaves his place to the others', async () => {
  const time = fakeTime()
  const pace = new Pace({
    bytesPerSecond: 1000,
    clock: time.clock,
    pause: (ms, signal) =>
      new Promise((resolve, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
        void time.pause(ms).then(resolve)
      }),
  })
  await pace.take(1000, undefined)
  const abort = new AbortController()
  const given = pace.take(50_000, abort.signal)
  abort.abort(new Error('enough'))
  await assert.rejects(given, /enough/)
  const beginMs = time.nowMs
  const next = pace.take(1000, undefined)
  await time.run()
  await next
  assert.ok(time.nowMs - beginMs <= 2000)
  assert.equal(await pace.take(0, undefined), undefined)
})
