import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { Room } from './room.ts'

const NEVER_MET = Number.POSITIVE_INFINITY

test('two cleanings at once are not promised the same room', async () => {
  const room = new Room()
  const alone = await room.promise('a', tmpdir(), NEVER_MET)
  const second = await room.promise('b', tmpdir(), NEVER_MET)
  // Others may use the same file system meanwhile.
  assert.ok(second < 0.75 * alone, `${second} of ${alone}`)
  room.giveBack('a')
  const third = await room.promise('c', tmpdir(), NEVER_MET)
  assert.ok(third > 1.2 * second, `${third} of ${second}`)
})

test('who asks again has no less for it; a limit of his own is kept', async () => {
  const room = new Room()
  const first = await room.promise('a', tmpdir(), NEVER_MET)
  assert.ok((await room.promise('a', tmpdir(), NEVER_MET)) > 0.75 * first)
  assert.equal(await room.promise('a', tmpdir(), 1000), 1000)
})

test('when all is promised the next is told how to get some', async () => {
  const room = new Room()
  await assert.rejects(
    async () => {
      for (let index = 0; index < 64; index++) await room.promise(`k${index}`, tmpdir(), NEVER_MET)
    },
    (error) =>
      isFault(error, 'full') && /other cleanings/.test(error.message) && !/limit/.test(error.message),
  )
})
