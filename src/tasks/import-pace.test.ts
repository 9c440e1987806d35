import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '../image/fault.ts'
import { isSlow, signalUntil, steady } from './import-pace.ts'

/** Takes a body whose pieces each come after `waitMs`, and are each dealt with in `takeMs`. */
async function taken(pieceBytes: number, waitMs: number, takeMs: number): Promise<number> {
  let nowMs = 0
  async function* body() {
    for (let i = 0; i < 1000; i++) {
      nowMs += waitMs
      yield new Uint8Array(pieceBytes)
    }
  }
  let bytes = 0
  for await (const piece of steady(body(), () => nowMs)) {
    bytes += piece.length
    nowMs += takeMs
  }
  return bytes
}

test('a body that drips is ended, and one that only we are too slow for is not', async () => {
  assert.equal(await taken(16 * 1024, 1000, 0), 1000 * 16 * 1024)
  assert.equal(await taken(1024, 1, 60_000), 1000 * 1024)
  for (const [pieceBytes, waitMs] of [
    [1, 1000],
    [16 * 1024 - 1, 1000],
    [1024 * 1024, 119_000],
  ] as const) {
    await assert.rejects(taken(pieceBytes, waitMs, 0), (error) => {
      assert.ok(error instanceof Fault && isSlow(error))
      assert.deepEqual([error.kind, error.subject], ['unavailable', 'file'])
      return true
    })
  }
})

test('a signal ends with the time, or with the one that it is of', async () => {
  const late = () => new Fault('unavailable', 'It is over.', { subject: 'file' })
  const over = signalUntil(new AbortController().signal, -1, late)
  await new Promise((resolve) => over.signal.addEventListener('abort', resolve, { once: true }))
  assert.match(String(over.signal.reason), /It is over/)
  // Longer than any timer: not over at once.
  const outer = new AbortController()
  const long = signalUntil(outer.signal, 720 * 3_600_000, late)
  await new Promise((resolve) => setTimeout(resolve, 5))
  assert.equal(long.signal.aborted, false)
  outer.abort(new Error('cancelled'))
  assert.match(String(long.signal.reason), /cancelled/)
  long.end()
})
