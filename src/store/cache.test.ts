import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChunkCache } from './cache.ts'

test('the cache loads a chunk once, keeps to its bytes and drops the longest unused', async () => {
  const cache = new ChunkCache(30)
  let loads = 0
  const load = async () => {
    loads++
    return Buffer.alloc(10)
  }
  assert.equal(cache.has('a'), false)
  const both = Promise.all([cache.get('a', load), cache.get('a', load)])
  assert.ok(cache.has('a') && cache.find('a') === undefined, 'it is on its way')
  await both
  assert.ok(cache.has('a'))
  assert.equal(loads, 1)
  await cache.get('b', load)
  await cache.get('c', load)
  assert.ok(cache.find('a'))
  await cache.get('d', load)
  assert.equal(cache.find('b'), undefined)
  assert.ok(cache.find('a') && cache.find('c') && cache.find('d'))
  await cache.get('huge', async () => Buffer.alloc(31))
  assert.equal(cache.find('huge'), undefined)
  assert.ok(cache.find('a'))
})

test('a load that fails is not kept, and fails for all who wait', async () => {
  const cache = new ChunkCache(30)
  const fail = async (): Promise<Buffer> => {
    throw new Error('no')
  }
  const both = await Promise.allSettled([cache.get('a', fail), cache.get('a', fail)])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  assert.equal((await cache.get('a', async () => Buffer.alloc(1))).length, 1)
})
