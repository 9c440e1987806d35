import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DomainId, PackId } from '../image/ids.ts'
import { mergeRanges } from './ranges.ts'
import type { PackRef } from './source.ts'

const packs: PackRef[] = ['a', 'b', 'c'].map((id) => ({ id: id as PackId, domain: 'public' as DomainId }))
const limits = { gapBytesMax: 50, overReadShareMax: 0.12, rangeBytesMax: 1000 }

test('ranges bring every chunk once, within the limits', () =>
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(2), fc.nat(60), fc.integer({ min: 1, max: 300 })), { maxLength: 60 }),
      (steps) => {
        const ends = [0, 0, 0]
        const wanted = steps.map(([p, gap, storedBytes], position) => {
          const offset = (ends[p] as number) + gap
          ends[p] = offset + storedBytes
          return { pack: packs[p] as PackRef, offset, storedBytes, position }
        })
        const ranges = mergeRanges(wanted, limits)
        const positions = ranges.flatMap((range) => range.chunks.map((chunk) => chunk.position))
        assert.deepEqual(
          positions.sort((a, b) => a - b),
          steps.map((_, i) => i),
        )
        for (const range of ranges) {
          const useful = range.chunks.reduce((sum, chunk) => sum + chunk.storedBytes, 0)
          assert.ok(range.lengthBytes - useful <= useful * limits.overReadShareMax)
          assert.ok(range.lengthBytes <= limits.rangeBytesMax)
          let end = range.offset
          for (const chunk of range.chunks) {
            assert.equal(chunk.pack, range.pack)
            assert.ok(chunk.offset >= end && chunk.offset - end <= limits.gapBytesMax)
            end = chunk.offset + chunk.storedBytes
          }
          assert.equal(end, range.offset + range.lengthBytes)
        }
      },
    ),
  ))

test('neighbours are one read', () => {
  const [pack] = packs
  assert(pack !== undefined)
  const wanted = [300, 100, 200, 0].map((offset, position) => ({ pack, offset, storedBytes: 100, position }))
  assert.deepEqual(
    mergeRanges(wanted, limits).map(({ offset, lengthBytes }) => [offset, lengthBytes]),
    [[0, 400]],
  )
})

test('at the beginning they rise to their size', () => {
  const [pack] = packs
  assert(pack !== undefined)
  const wanted = Array.from({ length: 60 }, (_, position) => {
    return { pack, offset: position * 50, storedBytes: 50, position }
  })
  assert.deepEqual(
    mergeRanges(wanted, { ...limits, risingCount: 4 }).map(({ lengthBytes }) => lengthBytes),
    [250, 500, 750, 1000, 500],
  )
})
