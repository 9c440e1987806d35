import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { Digest, RegionId } from '../../image/ids.ts'
import type { Lane } from './export-lane.ts'
import { cutAtRuns, extentsOf, runsOf, SLAB_BYTES } from './export-runs.ts'
import { ExportSlabs } from './export-slabs.ts'
import { ExportStream } from './export-stream.ts'
import type { ExportAsk } from './export-thread.ts'
import type { RegionPlace } from './region.ts'

const MIB = 1024 * 1024
const SIZE_BYTES = 100 * MIB

/** What the thread answers when it has filled it. */
const slabOf = ({ ask }: { ask: ExportAsk }) => (ask.is === 'make' ? ask.slab : undefined)

/** A stream over a thread that answers when the test says so. */
function stand(
  zeroes: readonly { offset: number; lengthBytes: number }[] = [],
  slabs: ExportSlabs = new ExportSlabs(),
) {
  const asked: { ask: ExportAsk; answer: PromiseWithResolvers<unknown> }[] = []
  const thread = {
    isOver: false,
    ask(ask: ExportAsk) {
      const answer = Promise.withResolvers<unknown>()
      asked.push({ ask, answer })
      return answer.promise
    },
  }
  const lane = { thread, load: 0 } as unknown as Lane
  const abort = new AbortController()
  const stream = new ExportStream({
    place: {} as RegionPlace,
    job: { regionId: 'r' as RegionId, digest: '' as Digest, diskIndex: 0, format: 'raw' },
    plan: { sizeBytes: SIZE_BYTES, dataRuns: runsOf([]), zeroRuns: runsOf(zeroes), cutsAt: 0 },
    slabs,
    laneFor: () => lane,
    signal: abort.signal,
  })
  const made = () => asked.filter(({ ask }) => ask.is === 'make' || ask.is === 'pack')
  const closes = () => asked.filter(({ ask }) => ask.is === 'close').length
  return { stream, made, closes, abort, lane }
}

describe('a stream of an export', () => {
  test('asks for 20 MiB, what a reader that stands still has in hand among them, and no more', async () => {
    const { stream, made } = stand()
    const body = stream.range(0, SIZE_BYTES)[Symbol.asyncIterator]()
    const first = body.next()
    await turn()
    assert.equal(made().length, 5)
    for (const one of made()) one.answer.resolve(slabOf(one))
    await first
    await turn()
    assert.equal(made().length, 5)
    await body.next()
    assert.equal(made().length, 6)
  })

  test('zeroes do not count as what is asked ahead, but not all of many are asked for', async () => {
    const every = Array.from({ length: 10 }, (_, i) => ({ offset: (10 * i + 1) * MIB, lengthBytes: 9 * MIB }))
    const { stream, made } = stand(every)
    const body = stream.range(0, SIZE_BYTES)[Symbol.asyncIterator]()
    const first = body.next()
    await turn()
    // One MiB before each run of zeroes: all of it is less than what may wait.
    assert.equal(made().length, 10)
    for (const one of made()) one.answer.resolve(slabOf(one))
    assert.equal((await first).value?.length, MIB)
    await body.return?.()

    const stepBytes = MIB + 4096
    const many = Array.from({ length: 1000 }, (_, i) => ({ offset: i * stepBytes + 4096, lengthBytes: MIB }))
    const long = stand(many)
    const reading = long.stream.range(0, 1000 * stepBytes)[Symbol.asyncIterator]()
    const next = reading.next()
    await turn()
    // Every other piece of 64: there may be millions.
    assert.equal(long.made().length, 32)
    for (const one of long.made()) one.answer.resolve(slabOf(one))
    await next
    await reading.return?.()
  })

  test('hands pieces out in their order, and a failure at its place', async () => {
    const { stream, made, closes } = stand()
    const failure = new Error('the third')
    const got: number[] = []
    const reading = (async () => {
      for await (const bytes of stream.range(0, 4 * SLAB_BYTES)) got.push(bytes[0] as number)
    })()
    await turn()
    for (const [i, one] of [...made().entries()].reverse()) {
      new Uint8Array(slabOf(one) ?? assert.fail()).fill(i)
      if (i === 2) one.answer.reject(failure)
      else one.answer.resolve(slabOf(one))
    }
    await assert.rejects(reading, failure)
    assert.deepEqual(got, [0, 1])
    assert.equal(closes(), 1)
  })

  test('a slab is used again once the next piece is asked for, and never for two pieces at once', async () => {
    const { stream, made } = stand()
    const body = stream.range(0, SIZE_BYTES)[Symbol.asyncIterator]()
    const open = new Set<ArrayBuffer>()
    let answered = 0
    for (let count = 0; count < SIZE_BYTES / SLAB_BYTES; count++) {
      const next = body.next()
      await turn()
      for (const one of made().slice(answered)) {
        const slab = slabOf(one) ?? assert.fail()
        assert.ok(!open.has(slab))
        open.add(slab)
        new Uint8Array(slab)[0] = answered++
        one.answer.resolve(slabOf(one))
      }
      const bytes = (await next).value as Uint8Array
      assert.equal(bytes[0], count)
      // The reader is done with it when it comes again.
      open.delete(bytes.buffer as ArrayBuffer)
    }
    assert.equal((await body.next()).done, true)
    assert.equal(new Set(made().map(slabOf)).size, 5)
  })

  test('what was made for a reader who left is used for the next, but not what he had in hand', async () => {
    const slabs = new ExportSlabs()
    const first = stand([], slabs)
    const body = first.stream.range(0, 2 * SLAB_BYTES)[Symbol.asyncIterator]()
    const next = body.next()
    await turn()
    const [inHand, ahead] = first.made()
    assert(inHand !== undefined && ahead !== undefined)
    inHand.answer.resolve(slabOf(inHand))
    await next
    await body.return?.()
    ahead.answer.resolve(slabOf(ahead))
    await turn()
    assert.equal(slabs.take(), slabOf(ahead))
    assert.notEqual(slabs.take(), slabOf(inHand))
  })

  test('is cancelled while its thread says nothing', async () => {
    const { stream, abort, closes } = stand()
    const reason = new Error('cancelled')
    const reading = Array.fromAsync(stream.range(0, SIZE_BYTES))
    await turn()
    abort.abort(reason)
    await assert.rejects(reading, reason)
    assert.equal(closes(), 1)
  })

  test('leaves its thread when it is left', async () => {
    const { stream, made, closes, lane } = stand()
    const reading = (async () => {
      for await (const _bytes of stream.range(0, SIZE_BYTES)) break
    })()
    await turn()
    assert.equal(lane.load, 5)
    made()[0]?.answer.resolve(slabOf(made()[0] ?? assert.fail()))
    await reading
    assert.equal(closes(), 1)
  })

  test('asks nobody for long runs of zeroes, and packs one frame of them once', async () => {
    const zeroes = { offset: MIB, lengthBytes: SIZE_BYTES - 2 * MIB }
    const plain = stand([zeroes])
    const reading = Array.fromAsync(plain.stream.range(0, SIZE_BYTES))
    await turn()
    plain.made()[0]?.answer.resolve(slabOf(plain.made()[0] ?? assert.fail()))
    while (plain.made().length < 2) await turn()
    plain.made()[1]?.answer.resolve(slabOf(plain.made()[1] ?? assert.fail()))
    const lengths = (await reading).map(({ length }) => length)
    // A MiB, 24 slabs of zeroes, what is left of them, a MiB.
    assert.deepEqual(lengths, [MIB, ...Array(24).fill(SLAB_BYTES), 2 * MIB, MIB])

    const packed = stand([zeroes])
    const packing = Array.fromAsync(packed.stream.packed())
    for (let answered = 0; answered < 4; await turn()) {
      for (const { answer } of packed.made().slice(answered)) {
        answer.resolve(new Uint8Array(1))
        answered++
      }
    }
    // A MiB, 24 frames of zeroes that are one, what is left of them, a MiB.
    assert.equal((await packing).length, 27)
    assert.equal(packed.made().length, 4)
  })
})

describe('runs', () => {
  test('a range is cut where runs begin and end', () => {
    const runs = runsOf([
      { offset: 10, lengthBytes: 10 },
      { offset: 30, lengthBytes: 5 },
    ])
    const cuts = (offset: number, end: number, cutsAt = 0) =>
      [...cutAtRuns(runs, offset, end, 8, cutsAt)].map((item) => [
        item.offset,
        item.lengthBytes,
        item.isInRun,
      ])
    assert.deepEqual(cuts(0, 40), [
      [0, 8, false],
      [8, 2, false],
      [10, 8, true],
      [18, 2, true],
      [20, 4, false],
      [24, 6, false],
      [30, 5, true],
      [35, 5, false],
    ])
    assert.deepEqual(cuts(15, 16), [[15, 1, true]])
    assert.deepEqual(cuts(20, 21), [[20, 1, false]])
    assert.deepEqual(cuts(35, 36), [[35, 1, false]])
    assert.deepEqual(cuts(5, 5), [])
    assert.deepEqual(cuts(20, 30, 3), [
      [20, 7, false],
      [27, 3, false],
    ])
    assert.deepEqual(cuts(0, 10, 3), [
      [0, 3, false],
      [3, 7, false],
    ])
  })

  test('runs of data tell the extents of their disk', () => {
    assert.deepEqual(extentsOf(runsOf([]), 1024), [{ offset: 0, lengthBytes: 1024, holds: 'zero' }])
    assert.deepEqual(extentsOf(runsOf([{ offset: 512, lengthBytes: 512 }]), 2048), [
      { offset: 0, lengthBytes: 512, holds: 'zero' },
      { offset: 512, lengthBytes: 512, holds: 'data' },
      { offset: 1024, lengthBytes: 1024, holds: 'zero' },
    ])
  })
})
