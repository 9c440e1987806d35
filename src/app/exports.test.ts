import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { StoreJobs } from '../tasks/store-jobs.ts'
import { HOME, newAppPlace } from './fixture.ts'

/** More than a reader may let us wait. */
const LONG_MS = 130_000
const never = () => new AbortController().signal

/** A link to an image whose file comes in three small pieces; `making` is called before each of them. */
async function linkOf(making: () => void) {
  async function* body() {
    for (let piece = 0; piece < 3; piece++) {
      making()
      yield new Uint8Array(100)
    }
  }
  const jobs = {
    exportSize: async () => 300,
    exportBytes: async () => ({ sha256: undefined, body: body() }),
  } as unknown as StoreJobs
  const place = await newAppPlace({ jobs })
  const imageId = await place.availableImage('golden')
  const what = { is: 'disk', diskIndex: 0, format: 'raw', compress: undefined } as const
  const wish = { regionId: HOME, imageId, what, withDigest: false }
  const { token } = await place.app.exports.create(place.root, wish)
  const open = () => place.app.exports.open(token, { wantsRangeDigest: false, headOnly: false }, never())
  return { place, open }
}

test('a file that takes long to make is handed out whole', async () => {
  const link = await linkOf(() => {
    link.place.nowMs += LONG_MS
  })
  try {
    let takenBytes = 0
    for await (const piece of (await link.open()).body) takenBytes += piece.length
    assert.equal(takenBytes, 300)
  } finally {
    await link.place.close()
  }
})

test('a reader that takes nothing for long is ended, and its place is free again', async () => {
  const { place, open } = await linkOf(() => {})
  try {
    // More than one link may have at once.
    for (let reader = 0; reader < 10; reader++) {
      const read = async () => {
        for await (const _piece of (await open()).body) place.nowMs += LONG_MS
      }
      await assert.rejects(read, (error) => isFault(error, 'unavailable') && /too slow/.test(error.message))
    }
  } finally {
    await place.close()
  }
})
