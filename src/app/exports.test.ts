import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId } from '../image/ids.ts'
import type { StoreJobs } from '../tasks/store-jobs.ts'
import type { Caller } from './contract.ts'
import { type AppPlace, HOME, newAppPlace } from './fixture.ts'

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

describe('the right to a bundle', () => {
  const golden = 'a'.repeat(64) as Digest
  const domains = new Map<Digest, string>()
  let place: AppPlace
  let imageId: ImageId
  beforeEach(async () => {
    const jobs = { domainOf: async (_region: string, digest: Digest) => domains.get(digest) }
    place = await newAppPlace({ jobs: jobs as unknown as StoreJobs })
    imageId = await place.availableImage('golden')
    await place.catalog.rows.updateTable('image').set({ digest: golden }).where('id', '=', imageId).execute()
    domains.set(golden, place.root.defaultProjectId)
  })
  afterEach(() => place.close())

  const bundle = (caller: Caller) => {
    const what = { is: 'bundle', inventory: '{}' } as const
    return place.app.exports.create(caller, { regionId: HOME, imageId, what, withDigest: false })
  }
  /** A policy of somebody, everywhere or in one project alone. */
  const give = async (name: string, effect: 'Allow' | 'Deny', projectId?: ProjectId) => {
    const { app, root } = place
    const policy = `${name}-${effect}`
    const Statement = [{ Effect: effect, Action: 'calotype:ExportBundle', Resource: '*' }]
    await app.users.putPolicy(root, policy, { Version: '1', Statement })
    await app.users.attach(root, name, policy, projectId)
  }
  const create = async (name: string) => (await place.app.users.create(place.root, name)).keyId

  test('reaches beyond one project', async () => {
    const keyId = await create('ada')
    await give('ada', 'Allow', place.root.defaultProjectId)
    await assert.rejects(bundle(await place.caller(keyId)), (error) => isFault(error, 'denied'))
    await give('ada', 'Allow')
    assert.match((await bundle(await place.caller(keyId))).fileName, /\.calotype$/)
  })

  test('has to hold where the keys are from', async () => {
    const { projectId: other } = await place.app.projects.create(place.root, 'other')
    const keyId = await create('eve')
    await give('eve', 'Allow')
    await give('eve', 'Deny', other)
    const eve = await place.caller(keyId)
    for (const domain of [place.root.defaultProjectId, 'public', `foreign-${'ab'.repeat(16)}`]) {
      domains.set(golden, domain)
      await bundle(eve)
    }
    for (const domain of [other, 'org-gone']) {
      domains.set(golden, domain)
      await assert.rejects(bundle(eve), (error) => {
        assert.ok(isFault(error, 'denied') && error.subject === 'bundle')
        assert.ok(error.message.includes(domain) && error.message.includes('--rekey'))
        return true
      })
      await bundle(place.root)
    }
  })

  test('is refused by a policy of the project itself', async () => {
    const keyId = await create('bob')
    await give('bob', 'Allow')
    await give('bob', 'Deny', place.root.defaultProjectId)
    await assert.rejects(
      bundle(await place.caller(keyId)),
      (error) => isFault(error, 'denied') && error.subject === 'policy' && error.reason === 'explicit',
    )
  })
})
