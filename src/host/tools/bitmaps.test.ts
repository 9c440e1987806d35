import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  BITMAP_GRANULARITY_BYTES,
  type Bitmap,
  type BitmapStep,
  bitmapName,
  stepsAfter,
  stepsBefore,
  tellChanges,
} from './bitmaps.ts'

interface Model extends Bitmap {
  readonly pieces: ReadonlySet<number>
}

function bitmap(name: string, pieces: readonly number[], more: Partial<Bitmap> = {}): Model {
  const rest = { granularityBytes: BITMAP_GRANULARITY_BYTES, isRecording: true, isIntact: true }
  return { name, ...rest, pieces: new Set(pieces), ...more }
}

function done(bitmaps: readonly Model[], step: BitmapStep): Model[] {
  const at = bitmaps.find((one) => one.name === step.name)
  if (step.do === 'add') return [...bitmaps, bitmap(step.name, [])]
  assert.ok(at)
  if (step.do === 'remove') return bitmaps.filter((one) => one !== at)
  if (step.do !== 'merge') return bitmaps.map((one) => (one === at ? { ...one, isRecording: true } : one))
  const from = bitmaps.find((one) => one.name === step.from)
  assert.ok(from?.isIntact && at.isIntact, 'QEMU merges only what is intact')
  return bitmaps.map((one) => (one === at ? { ...one, pieces: one.pieces.union(from.pieces) } : one))
}

const knows = (bitmaps: readonly Bitmap[], since: string) =>
  tellChanges(bitmaps, 'next', since).changes !== undefined

/** Every way in which a capture can leave the bitmaps: of 'old' with piece 1, and of its own with piece 2. */
function* endings(): Generator<Model[]> {
  const spoilt = { isRecording: false, isIntact: false }
  const olds = [undefined, {}, { isRecording: false }, spoilt, { granularityBytes: 65_536 }]
  const owns = [undefined, {}, { isRecording: false }, spoilt]
  for (const old of olds)
    for (const own of owns)
      yield [
        bitmap('theirs', [9]),
        ...(old ? [bitmap('c-old', [1], old)] : []),
        ...(own ? [bitmap('c-new', [2], own)] : []),
      ]
}

test('however a capture left the bitmaps and wherever its end is interrupted, what can be told is told whole', () => {
  for (const start of endings())
    for (const first of ['taken', 'given-up'] as const)
      for (const second of ['taken', 'given-up'] as const) {
        const steps = stepsAfter(start, 'new', 'old', first)
        for (let count = 0; count <= steps.length; count++) {
          let now = steps.slice(0, count).reduce(done, start)
          now = stepsAfter(now, 'new', 'old', second).reduce(done, now)
          assert.ok(now.some((one) => one.name === 'theirs'))
          assert.deepEqual(stepsAfter(now, 'new', 'old', second), [])
          const [old, own] = ['c-old', 'c-new'].map((name) => now.find((one) => one.name === name))
          const oldBefore = start.find((one) => one.name === 'c-old')
          const ownBefore = start.find((one) => one.name === 'c-new')
          if (second === 'given-up') {
            assert.equal(own, undefined)
            // What stopped at the moment is worth something only with what came after it.
            if (old !== undefined && knows(now, 'old'))
              assert.ok(ownBefore === undefined ? oldBefore?.isRecording : old.pieces.has(2))
          } else {
            assert.equal(old, undefined)
            if (own !== undefined) assert.ok(knows(now, 'new') && own.pieces.has(2))
          }
        }
      }
})

test('wherever the end of a capture stops for good, what is trusted is whole', () => {
  for (const start of endings())
    for (const outcome of ['taken', 'given-up'] as const) {
      const own = start.find((one) => one.name === 'c-new')
      const old = start.find((one) => one.name === 'c-old')
      // It stopped at the moment at which the new one began; that both record is only after it got what it missed.
      if (own !== undefined && old?.isRecording) continue
      const steps = stepsAfter(start, 'new', 'old', outcome)
      for (let count = 0; count <= steps.length; count++) {
        const now = steps.slice(0, count).reduce(done, start)
        if (own !== undefined && knows(now, 'old'))
          assert.ok(
            now.find((one) => one.name === 'c-old')?.pieces.has(2),
            `${count} of ${steps.length} steps`,
          )
      }
    }
})

test('a whole capture keeps what is needed: the new one when taken, the old one with all pieces when given up', () => {
  const start = [bitmap('c-old', [1], { isRecording: false }), bitmap('c-new', [2])]
  const taken = stepsAfter(start, 'new', 'old', 'taken').reduce(done, start)
  assert.deepEqual(
    taken.map((one) => one.name),
    ['c-new'],
  )
  const given = stepsAfter(start, 'new', 'old', 'given-up').reduce(done, start)
  assert.deepEqual(
    given.map((one) => [one.name, one.isRecording, [...one.pieces]]),
    [['c-old', true, [1, 2]]],
  )
  // One that was not asked about goes on recording all the while.
  const other = [bitmap('c-old', [1, 2]), bitmap('c-new', [2])]
  assert.deepEqual(stepsAfter(other, 'new', undefined, 'given-up'), [{ do: 'remove', name: 'c-new' }])
})

test('before a capture goes what nobody can trust, and why is told', () => {
  const bitmaps = [
    bitmap('theirs', [], { isIntact: false }),
    bitmap('c-good', []),
    bitmap('c-spoilt', [], { isIntact: false, isRecording: false }),
    bitmap('c-stopped', [], { isRecording: false }),
    bitmap('c-next', []),
  ]
  const removed = stepsBefore(bitmaps, 'next').map((step) => step.name)
  assert.deepEqual(removed, ['c-spoilt', 'c-stopped', 'c-next'])
  const why = (since: string) => tellChanges(bitmaps, 'next', since).changesWhy
  assert.equal(why('good'), '')
  assert.match(why('spoilt'), /killed/)
  assert.match(why('stopped'), /not recorded/)
  assert.match(why('next'), /Nothing tells/)
  assert.match(why('none'), /Nothing tells/)
  assert.deepEqual(tellChanges(bitmaps, 'next', 'good').changes, {
    name: `qemu:dirty-bitmap:${bitmapName('good')}`,
    most: 1,
  })
  assert.deepEqual(tellChanges(bitmaps, 'next', undefined), { changesWhy: '' })
})
