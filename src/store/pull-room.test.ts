import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PullRoom } from './pull-room.ts'

const room = (readsMax: number) =>
  new PullRoom({ unsafeBytes: () => 0, bytesMax: () => Number.POSITIVE_INFINITY, readsMax })

test('so many reads are under way, the others follow in their order, also after one that failed', async () => {
  const one = room(2)
  const begun: number[] = []
  const ends = Array.from({ length: 5 }, () => Promise.withResolvers<number>())
  const reads = ends.map(({ promise }, index) =>
    one.read(() => {
      begun.push(index)
      return promise
    }),
  )
  const results = Promise.allSettled(reads)
  assert.deepEqual(begun, [0, 1])
  ends[1]?.reject(new Error('lost'))
  await assert.rejects(reads[1] as Promise<number>, /lost/)
  assert.deepEqual(begun, [0, 1, 2])
  for (const [index, { resolve }] of ends.entries()) resolve(index)
  assert.deepEqual(
    (await results).map((result) => (result.status === 'fulfilled' ? result.value : 'lost')),
    [0, 'lost', 2, 3, 4],
  )
  assert.deepEqual(begun, [0, 1, 2, 3, 4])
  // All places were given back.
  assert.deepEqual(await Promise.all([one.read(async () => 7), one.read(async () => 8)]), [7, 8])
})

test('once it is closed nothing is read any more, also by those who wait', async () => {
  const one = room(1)
  const end = Promise.withResolvers<string>()
  const under = one.read(() => end.promise)
  const waiting = one.read(() => assert.fail('it was closed'))
  one.close(new Error('stopped'))
  await assert.rejects(waiting, /stopped/)
  await assert.rejects(
    one.read(() => assert.fail('it was closed')),
    /stopped/,
  )
  end.resolve('done')
  assert.equal(await under, 'done')
})
