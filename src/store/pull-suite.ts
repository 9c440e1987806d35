import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import { assertHolds, type CapturedImage, captureDisks, noise, type TestDisk } from './disks.fixture.ts'
import { type PullProgress, planPull, pullImage } from './pull.ts'
import { objectNames, TEST_CHUNK_BYTES, TEST_DOMAIN, type TestRegion } from './region.fixture.ts'
import type { ReadOnlyRegion } from './source.ts'
import { verifyRegion } from './verify.ts'

/** Two regions, and the first as the second one's copies read it, which may be over a network. */
export interface PullPair {
  readonly source: TestRegion
  readonly target: TestRegion
  /** As `source` is read for one image. To be closed by the pair. */
  open(digest: Digest): Promise<ReadOnlyRegion>
  /** Options of the pulls: how much is checked. */
  readonly options: { readonly check?: 'whole' | 'seal'; readonly takesPacks?: boolean }
  dispose(): Promise<void>
}

const CHUNK = TEST_CHUNK_BYTES

/** A chunk for each seed, 0 for one of zeroes; even seeds compress well, odd ones not at all. */
export function pullDisk(layout: readonly number[]): TestDisk {
  const bytes = Buffer.alloc(layout.length * CHUNK)
  layout.forEach((seed, i) => {
    if (seed > 0) noise(CHUNK, seed, seed % 2 === 0 ? 64 : 1).copy(bytes, i * CHUNK)
  })
  return { bytes, chunkBytes: CHUNK }
}

export const pullSeeds = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

/** What a pull promises whatever two regions it joins. */
export function pullSuite(name: string, make: () => Promise<PullPair>): void {
  const withPair = async (body: (pair: PullPair, tools: Tools) => Promise<void>) => {
    const pair = await make()
    try {
      await body(pair, toolsOf(pair))
    } finally {
      await pair.dispose()
    }
  }

  describe(`pull, ${name}`, () => {
    test('a copy has the same digest and bytes; of the next version what changed is moved', () =>
      withPair(async ({ target }, { capture, pull, plan }) => {
        const version1 = [pullDisk([...pullSeeds(1, 20), 0, 0, 3]), pullDisk([5, 0, 90])]
        const { digest } = await capture('s1', version1)
        const planned = await plan(digest)
        assert.deepEqual([planned.missingChunkCount, planned.reusedBytes, planned.resumedBytes], [21, 0, 0])
        const first = await pull(digest, 'p1')
        assert.equal(first.chunksMoved, 21)
        assert.ok(first.bytesMoved <= (planned.missingBytes + planned.missingPageBytes) * 1.02 + 2000)
        await assertHolds(target.store, digest, version1)
        const version2 = [pullDisk([...pullSeeds(1, 18), 70, 71, 0, 0, 3]), pullDisk([5, 0, 90])]
        const next = await capture('s2', version2)
        const second = await pull(next.digest, 'p2')
        assert.equal(second.chunksMoved, 2)
        assert.ok(second.bytesReused > 0)
        await assertHolds(target.store, next.digest, version2)
        assert.equal((await pull(next.digest, 'p3')).bytesMoved, 0)
        assert.deepEqual((await verifyRegion({ region: target.store, deep: true })).problems, [])
        assert.deepEqual(target.store.listSessions(), [])
      }))

    test('progress never falls, says what is saved, and ends where it is all there', () =>
      withPair(async (_pair, { capture, pull }) => {
        await pull((await capture('s1', [pullDisk(pullSeeds(1, 12))])).digest, 'p1')
        const { digest } = await capture('s2', [pullDisk(pullSeeds(7, 25))])
        const reports: PullProgress[] = []
        const moved = await pull(digest, 'p2', { onProgress: (report) => reports.push(report) })
        reports.reduce((before, now) => {
          assert.ok(now.doneBytes >= before.doneBytes && now.movedBytes >= before.movedBytes)
          assert.equal(now.totalBytes, before.totalBytes)
          assert.ok(now.doneBytes <= now.totalBytes)
          return now
        })
        const last = reports.at(-1)
        assert.equal(last?.doneBytes, last?.totalBytes)
        assert.equal(last?.savedBytes, moved.bytesReused)
        assert.ok((last?.savedBytes ?? 0) > 0)
      }))

    test('a chunk here and a chunk there: next to nothing is read in vain', () =>
      withPair(async (_pair, { capture, pull, plan }) => {
        const every = pullSeeds(1, 60)
        await pull((await capture('s1', [pullDisk(every.filter((seed) => seed % 3 > 0))])).digest, 'p1')
        const { digest } = await capture('s2', [pullDisk(every)])
        const planned = await plan(digest)
        assert.equal(planned.missingChunkCount, 20)
        const { bytesMoved } = await pull(digest, 'p2')
        const fixed = planned.missingPageBytes + 2000
        assert.ok(bytesMoved - fixed <= planned.missingBytes * 1.02, `${bytesMoved}`)
      }))

    test('an image that the source never had, and one that was stopped: nothing is left', () =>
      withPair(async ({ target }, { capture, pull }) => {
        const { digest } = await capture('s1', [pullDisk(pullSeeds(1, 30))])
        const before = await objectNames(target.objects)
        const abort = new AbortController()
        const onProgress = ({ movedBytes }: PullProgress) => {
          if (movedBytes > 0) abort.abort(new Error('enough'))
        }
        await assert.rejects(pull(digest, 'p', { signal: abort.signal, onProgress }), /enough/)
        await target.store.abortSession('p')
        assert.deepEqual(await objectNames(target.objects), before)
        await assert.rejects(
          pull('ab'.repeat(32) as Digest, 'q'),
          (error) => isFault(error) && ['absent', 'denied'].includes(error.kind),
        )
      }))
  })
}

type Tools = ReturnType<typeof toolsOf>

function toolsOf({ source, target, open, options }: PullPair) {
  return {
    capture: (sessionId: string, disks: readonly TestDisk[]): Promise<CapturedImage> =>
      captureDisks({ region: source.store, sessionId, domain: TEST_DOMAIN, disks }),
    pull: async (
      digest: Digest,
      sessionId: string,
      more: { signal?: AbortSignal; onProgress?: (progress: PullProgress) => void } = {},
    ) =>
      pullImage({ ...options, ...more, source: await open(digest), target: target.store, digest, sessionId }),
    plan: async (digest: Digest) => planPull({ source: await open(digest), target: target.store, digest }),
  }
}
