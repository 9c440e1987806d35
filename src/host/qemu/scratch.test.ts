import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFaultOf, MEBIBYTE } from '../suite.ts'
import { scratchBounds } from './scratch.ts'

const GIBIBYTE = 1024 ** 3

test('scratch files hold whole disks where there is room, and together never more than half of what is free', () => {
  const sizes = [20 * GIBIBYTE, 4 * GIBIBYTE, 512]
  const roomy = scratchBounds(sizes, 1024 * GIBIBYTE)
  for (const [at, bound] of roomy.entries()) assert.ok(bound > (sizes[at] ?? 0))
  for (const freeBytes of [48 * GIBIBYTE, 10 * GIBIBYTE, 2.3 * GIBIBYTE + 1]) {
    const bounds = scratchBounds(sizes.slice(0, 2), freeBytes)
    assert.ok(bounds.reduce((sum, bound) => sum + bound, 0) <= freeBytes / 2)
    assert.ok(bounds.every((bound) => bound % (256 * 1024) === 0))
  }
  assert.throws(() => scratchBounds([GIBIBYTE], 7 * MEBIBYTE), isFaultOf('full'))
  assert.throws(() => scratchBounds([GIBIBYTE], 0), isFaultOf('full'))
})
