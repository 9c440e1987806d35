import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refused } from './checks.fixture.ts'
import type { RefusalReason } from './contract.ts'
import { buildQed, type QedRecipe } from './qed.fixture.ts'
import { inspectQed, qedInspector } from './qed.ts'
import { bufferSource } from './source.ts'

const MIB = 1024 * 1024
const OPTIONS = { virtualBytesMax: 1024 * 1024 * MIB }

const PLAIN: QedRecipe = {
  virtualBytes: 4 * MIB,
  clusters: new Map<number, Buffer | 'zero'>([
    [0, Buffer.alloc(4096, 'a')],
    [1, 'zero'],
    [3, Buffer.alloc(4096, 'b')],
  ]),
}

const field32 = (offset: number, value: number) => (file: Buffer) => {
  file.writeUInt32LE(value, offset)
}
const field64 = (offset: number, value: number | bigint) => (file: Buffer) => {
  file.writeBigUInt64LE(BigInt(value), offset)
}

const CASES: readonly (readonly [RefusalReason, string, Partial<QedRecipe>])[] = [
  ['backing-file', 'a backing file', { backingName: '/etc/passwd' }],
  ['backing-file', 'the bit alone', { features: 1n }],
  ['backing-file', 'the bit of its format alone', { features: 4n }],
  ['backing-file', 'a name without the bit', { patch: field32(60, 8) }],
  ['unclean', 'not closed', { features: 2n }],
  ['feature-bits', 'an unknown feature', { features: 8n }],
  ['feature-bits', 'an unknown feature at the top', { features: 1n << 63n }],
  ['feature-bits', 'a compatible feature', { compatible: 1n }],
  ['feature-bits', 'a feature that clears itself', { autoclear: 1n }],
  ['tables', 'clusters of no power of two', { patch: field32(4, 4097) }],
  ['tables', 'clusters too small', { patch: field32(4, 2048) }],
  ['tables', 'clusters too large', { patch: field32(4, 2 ** 27) }],
  ['tables', 'tables of no power of two', { patch: field32(8, 3) }],
  ['tables', 'tables too large', { patch: field32(8, 32) }],
  ['tables', 'tables of 1 GiB', { patch: (file) => [field32(4, 2 ** 26)(file), field32(8, 16)(file)] }],
  ['tables', 'no header', { patch: field32(12, 0) }],
  ['truncated', 'a header longer than the file', { patch: field32(12, 0xffff_ffff) }],
  ['tables', 'a header over the tables', { patch: field32(12, 2) }],
  ['size', 'no size', { patch: field64(48, 0) }],
  ['size', 'half a sector', { patch: field64(48, 4 * MIB - 1) }],
  ['too-large', '16 EiB', { patch: field64(48, 2n ** 64n - 512n) }],
  ['too-large', 'over the limit', { patch: field64(48, 2n ** 50n) }],
  ['tables', 'larger than its tables', { tableClusterCount: 1, patch: field64(48, 2 ** 30 + 512) }],
  ['tables', 'the L1 table at no cluster', { patch: field64(40, 4097) }],
  ['tables', 'the L1 table in the header', { patch: field64(40, 0) }],
  ['truncated', 'the L1 table far away', { patch: field64(40, 2n ** 52n) }],
  ['tables', 'an L2 table at no cluster', { patch: (file, { l1 }) => field64(l1 + 8, 1)(file) }],
  ['tables', 'an L2 table in the L1 table', { patch: (file, { l1 }) => field64(l1 + 8, l1)(file) }],
  ['truncated', 'an L2 table far away', { patch: (file, { l1 }) => field64(l1 + 8, 2n ** 52n)(file) }],
  ['tables', 'one L2 table twice', { patch: (file, { l1, l2 }) => field64(l1 + 8, l2[0] ?? 0)(file) }],
  [
    'tables',
    'data twice',
    { patch: (file, { l2, data }) => field64((l2[0] ?? 0) + 72, data.get(0) ?? 0)(file) },
  ],
  ['tables', 'data in a table', { patch: (file, { l2, l1 }) => field64((l2[0] ?? 0) + 72, l1)(file) }],
  ['tables', 'data at no cluster', { patch: (file, { l2 }) => field64((l2[0] ?? 0) + 72, 2)(file) }],
  ['truncated', 'data far away', { patch: (file, { l2 }) => field64((l2[0] ?? 0) + 72, 2n ** 40n)(file) }],
]

test('a QED file that is not as it should be is refused with its reason', async (t) => {
  for (const [reason, name, recipe] of CASES) {
    await t.test(`${reason}: ${name}`, async () => {
      const file = buildQed({ ...PLAIN, ...recipe })
      assert.equal(await qedInspector.matches(bufferSource(file)), true)
      await refused(reason, () => inspectQed(bufferSource(file), OPTIONS))
    })
  }
})

test('a QED file cut anywhere is refused', async () => {
  const file = buildQed(PLAIN)
  assert.equal((await inspectQed(bufferSource(file), OPTIONS)).virtualBytes, 4 * MIB)
  for (let lengthBytes = 4; lengthBytes < file.length; lengthBytes += 100) {
    await refused('truncated', () => inspectQed(bufferSource(file.subarray(0, lengthBytes)), OPTIONS))
  }
})
