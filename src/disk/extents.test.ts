import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Extent, StatusExtent } from './contract.ts'
import { appendStatus, changedOf, dataOfEither, intersect, without } from './extents.ts'

const disk = fc.array(fc.boolean(), { minLength: 1, maxLength: 64 })
const extentsOf = (blocks: readonly boolean[]): Extent[] =>
  blocks.map((isData, i) => ({ offset: i * 512, lengthBytes: 512, holds: isData ? 'data' : 'zero' }))

test('data of either answer is data of both together, in rising runs that do not touch', () => {
  fc.assert(
    fc.property(disk, disk, (a, b) => {
      const runs = dataOfEither(extentsOf(a), extentsOf(b))
      const covered = new Set<number>()
      let lastEnd = -1
      for (const { offset, lengthBytes } of runs) {
        assert(offset > lastEnd)
        lastEnd = offset + lengthBytes
        for (let at = offset; at < lastEnd; at += 512) covered.add(at / 512)
      }
      const length = Math.max(a.length, b.length)
      for (let i = 0; i < length; i++) assert.equal(covered.has(i), (a[i] ?? false) || (b[i] ?? false))
    }),
  )
})

/** The blocks that runs cover. */
const blocksOf = (runs: readonly Extent[]): Set<number> => {
  const blocks = new Set<number>()
  for (const { offset, lengthBytes } of runs)
    for (let at = offset; at < offset + lengthBytes; at += 512) blocks.add(at / 512)
  return blocks
}

test('what changed is every run whose status is from one to the most, and nothing else', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(4), { minLength: 1, maxLength: 64 }), fc.nat(4), (blocks, most) => {
      const statuses: StatusExtent[] = []
      for (const status of blocks) appendStatus(statuses, 512, status, 1024)
      const runs = changedOf(statuses, most)
      const changed = blocksOf(runs)
      for (const [i, status] of blocks.entries())
        assert.equal(changed.has(i + 2), status >= 1 && status <= most)
      for (const [i, run] of runs.entries()) {
        const last = runs[i - 1]
        assert(last === undefined || run.offset > last.offset + last.lengthBytes)
      }
    }),
  )
})

test('the intersection of two lists is the data of both', () => {
  const runs = fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 4 }), fc.boolean()), { maxLength: 20 })
  const listOf = (steps: readonly (readonly [number, number, boolean])[]): Extent[] => {
    let at = 0
    return steps.map(([gap, count, isData]) => {
      const offset = at + gap * 512
      at = offset + count * 512
      return { offset, lengthBytes: count * 512, holds: isData ? 'data' : 'zero' }
    })
  }
  const dataOf = (list: readonly Extent[]) => blocksOf(list.filter(({ holds }) => holds === 'data'))
  fc.assert(
    fc.property(runs, runs, (a, b) => {
      const [first, second] = [listOf(a), listOf(b)]
      const both = intersect(first, second)
      assert.deepEqual(blocksOf(both), dataOf(first).intersection(dataOf(second)))
      let end = 0
      for (const run of both) {
        assert(run.offset >= end && run.lengthBytes > 0)
        end = run.offset + run.lengthBytes
      }
    }),
  )
})

test('without leaves exactly the bytes that only the first list covers', () => {
  const size = 64
  const lists = fc.array(fc.boolean(), { minLength: size, maxLength: size })
  const runsOf = (bits: readonly boolean[]) => {
    const runs: Extent[] = []
    bits.forEach((is, at) => {
      const last = runs.at(-1)
      if (!is) return
      if (last !== undefined && last.offset + last.lengthBytes === at && at % 7 !== 0)
        runs[runs.length - 1] = { ...last, lengthBytes: last.lengthBytes + 1 }
      else runs.push({ offset: at, lengthBytes: 1, holds: 'data' })
    })
    return runs
  }
  fc.assert(
    fc.property(lists, lists, (first, second) => {
      const bits = new Array<boolean>(size).fill(false)
      for (const { offset, lengthBytes } of without(runsOf(first), runsOf(second))) {
        for (let at = offset; at < offset + lengthBytes; at++) {
          assert(!bits[at])
          bits[at] = true
        }
      }
      assert.deepEqual(
        bits,
        first.map((is, at) => is && !second[at]),
      )
    }),
  )
})
