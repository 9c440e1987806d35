import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Extent } from './contract.ts'
import { dataOfEither } from './extents.ts'

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
