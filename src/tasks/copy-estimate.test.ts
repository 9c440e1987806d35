import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CopySource } from '../image/copy.ts'
import type { Digest, RegionId } from '../image/ids.ts'
import { lookAtTargets } from './copy-estimate.ts'

const digest = 'd'.repeat(64) as Digest
const targets = Array.from({ length: 10 }, (_, i) => ({
  regionId: `r${i}` as RegionId,
  way: 'pull' as const,
}))

test('of any number of plans few look at once, and those of a source that hangs hold up no others', async () => {
  const hangs = Promise.withResolvers<void>()
  const counts = { now: 0, most: 0 }
  const jobs: Parameters<typeof lookAtTargets>[0] = {
    async planPull({ source }) {
      counts.most = Math.max(counts.most, ++counts.now)
      if (source.is === 'peer') await hangs.promise
      else await new Promise(setImmediate)
      counts.now--
      return { missingBytes: 1, savedBytes: 0, resumedBytes: 0 }
    },
  }
  const look = (source: CopySource) =>
    lookAtTargets(jobs, { source, digest }, targets, new AbortController().signal)
  const home = 'home' as RegionId
  const away = Array.from({ length: 5 }, () => look({ is: 'peer', peer: 'mars', regionId: home }))
  const near = await Promise.all(Array.from({ length: 5 }, () => look({ is: 'region', regionId: home })))
  assert.equal(near.flat().length, 50)
  assert.ok(counts.most <= 8, `${counts.most} at once`)
  hangs.resolve()
  assert.equal((await Promise.all(away)).flat().length, 50)
})
