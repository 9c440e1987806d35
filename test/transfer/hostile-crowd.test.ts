import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Place } from '../e2e/harness.ts'
import { packed, zeros } from './hostile-bombs.ts'
import { allHostileFiles } from './hostile-more.ts'
import { assertHoldsAsBefore, heldAfterHarmless, newHostilePlace } from './hostile-place.ts'
import { type Brought, createUpload, sendPart, whyRefused } from './hostile-ways.ts'
import { newListCaller } from './list-caller.ts'

const UPLOAD_COUNT = 50
const CALMLY = 200
/** On a machine that others use at the same time, its disk above all; what it really is, is printed. */
const P50_MS_MAX = 100
const P99_MS_MAX = 800
const SLOW_PIECE_COUNT = 20
const SLOW_PIECE_MS = 50
const AGAIN_MS = 1000

const at = (sorted: readonly number[], part: number) => sorted[Math.floor(sorted.length * part)] ?? 0
const told = (sorted: readonly number[]) =>
  `p50 ${at(sorted, 0.5).toFixed(1)} ms, p99 ${at(sorted, 0.99).toFixed(1)} ms of ${sorted.length} calls`

/** In small pieces, with pauses between them. */
function slowly(bytes: Buffer): ReadableStream<Uint8Array> {
  const pieceBytes = Math.ceil(bytes.length / SLOW_PIECE_COUNT)
  let offset = 0
  return new ReadableStream({
    async pull(controller) {
      await delay(SLOW_PIECE_MS)
      controller.enqueue(new Uint8Array(bytes.subarray(offset, offset + pieceBytes)))
      offset += pieceBytes
      if (offset >= bytes.length) controller.close()
    },
  })
}

/** As different as they come, and bombs among them. */
function crowd(path: string): Brought[] {
  const all = allHostileFiles()
  const bombs = [
    zeros('zstd'),
    packed('gzip', packed('zstd', Buffer.alloc(2 ** 26))),
    packed('gzip', packed('gzip', Buffer.alloc(2 ** 26))),
  ]
  return Array.from({ length: UPLOAD_COUNT }, (_, index) => {
    const name = `crowd-${index}`
    if (index % 10 === 0) return { name, bytes: bombs[(index / 10) % bombs.length] ?? assert.fail() }
    const file = all[Math.floor((index * all.length) / UPLOAD_COUNT)] ?? assert.fail()
    return { name, bytes: file.make(path), declared: file.declared }
  })
}

/** Why it was refused; tried again while the server takes no more at the same time. */
async function sendWhole(place: Place, file: Brought, isSlow: boolean): Promise<string> {
  const { declared: format, name, bytes } = file
  const url = await createUpload(place, name, bytes.length, format === undefined ? {} : { format })
  for (;;) {
    const sent = await sendPart(url, 0, isSlow ? slowly(bytes) : bytes)
    if (sent.is === 'begun') return whyRefused(place, file, sent)
    assert(sent.is === 'refused', name)
    if (sent.kind !== 'unavailable') {
      assert.deepEqual([sent.kind, sent.status], ['invalid', 400], `${name}: ${sent.reason}`)
      return sent.reason
    }
    await delay(AGAIN_MS)
  }
}

test('fifty hostile uploads at once are all refused, while others are answered as ever', async (t) => {
  const place = await newHostilePlace(t)
  const before = await heldAfterHarmless(place)
  const files = crowd(place.canary.pipe)
  const caller = await newListCaller(t, place)
  const calm = await caller.timed((count) => count === CALMLY)

  let isOver = false
  const asked = caller.timed(() => isOver)
  const reasons = await Promise.all(files.map((file, index) => sendWhole(place, file, index % 3 === 0)))
  isOver = true
  const busy = await asked
  await caller.close()
  t.diagnostic(`before: ${told(calm)}; meanwhile: ${told(busy)}`)
  assert.equal(reasons.length, UPLOAD_COUNT)
  for (const reason of reasons) assert.match(reason, /^[A-Z].*\.$/s)
  assert.deepEqual(await place.tools.startedQemu(), [])
  await place.canary.assertUnread()
  await assertHoldsAsBefore(place, before)
  assert.ok(at(busy, 0.5) < P50_MS_MAX && at(busy, 0.99) < P99_MS_MAX, told(busy))
})
