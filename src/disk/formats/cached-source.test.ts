import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sparseContent } from '../fixture.ts'
import { cachedSource } from './cached-source.ts'
import { refused } from './checks.fixture.ts'
import { Claims } from './claims.ts'
import { readInside, uint64BE, uint64LE } from './numbers.ts'
import { bufferSource, countingSource } from './source.ts'

const BLOCK_BYTES = 256 * 1024

test('a cached source answers what the source has, whole, across blocks and at the end', async () => {
  const content = sparseContent(BLOCK_BYTES * 3 + 100)
  const cached = cachedSource(bufferSource(content))
  const reads: [number, number][] = [
    [0, 1],
    [BLOCK_BYTES - 1, 2],
    [BLOCK_BYTES * 3 - 10, 110],
    [10, BLOCK_BYTES * 2 + 50],
    [content.length, 0],
    [0, content.length],
  ]
  for (const [offset, lengthBytes] of reads) {
    const bytes = await cached.read(offset, lengthBytes)
    assert.ok(bytes.equals(content.subarray(offset, offset + lengthBytes)), `${offset} ${lengthBytes}`)
  }
})

test('small reads close together cost one read of a block', async () => {
  const counted = countingSource(bufferSource(sparseContent(BLOCK_BYTES * 20)))
  const cached = cachedSource(counted)
  for (let offset = 0; offset < BLOCK_BYTES * 20; offset += 4096) await cached.read(offset, 12)
  assert.equal(counted.count.calls, 20)
  assert.equal(counted.count.longestBytes, BLOCK_BYTES)
})

test('a long walk lets go when its signal says so', async () => {
  const cached = cachedSource(bufferSource(sparseContent(BLOCK_BYTES * 40)))
  const control = new AbortController()
  setImmediate(() => control.abort(new Error('enough')))
  const walk = async () => {
    for (let offset = 0; offset < BLOCK_BYTES * 40; offset += 4096)
      await cached.read(offset, 12, control.signal)
  }
  await assert.rejects(walk, /enough/)
})

test('numbers that no file can mean are refused, and so are places outside of it', async () => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(2n ** 53n - 1n)
  assert.equal(uint64LE(bytes, 0), Number.MAX_SAFE_INTEGER)
  bytes.writeBigUInt64LE(2n ** 53n)
  await refused('tables', async () => uint64LE(bytes, 0))
  bytes.writeBigUInt64BE(2n ** 64n - 1n)
  await refused('tables', async () => uint64BE(bytes, 0))
  const source = bufferSource(Buffer.alloc(10))
  for (const [offset, lengthBytes] of [
    [-1, 1],
    [9, 2],
    [Number.MAX_SAFE_INTEGER, 10],
  ] as const) {
    await refused('truncated', () => readInside(source, offset, lengthBytes, undefined))
  }
})

test('a unit is claimed once, and only where there is one', async () => {
  const claims = new Claims(20)
  assert.ok(claims.claim(3, 10))
  assert.ok(!claims.claim(12))
  assert.ok(claims.claim(13, 7))
  assert.ok(!claims.claim(20))
  assert.ok(!claims.claim(-1))
  assert.ok(!claims.claim(0, 21))
  assert.ok(claims.claim(0, 3))
  await refused('tables', async () => new Claims(2 ** 28 + 1))
})
