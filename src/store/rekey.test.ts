import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PLAIN_CONFIG } from '../image/config.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, DomainId } from '../image/ids.ts'
import { FillingObjects } from '../objects/failing.fixture.ts'
import { commitImage } from './capture.ts'
import { assertHolds, captureDisks, type TestDisk, writeDisks } from './disks.fixture.ts'
import { PUBLIC_DOMAIN } from './names.ts'
import { bareSource } from './paced.ts'
import { pullDisk, pullSeeds } from './pull-suite.ts'
import { memoryRegion, objectNames, TEST_DOMAIN, type TestRegion, withRegions } from './region.fixture.ts'
import { type RekeyProgress, rekeyImage } from './rekey.ts'
import type { ReadOnlyRegion } from './source.ts'
import { verifyRegion } from './verify.ts'

const OTHER = 'org-other' as DomainId
const DISKS = [pullDisk([...pullSeeds(1, 20), 0, 0, 3, 3]), pullDisk([5, 0, 90])]

const capture = (region: TestRegion, sessionId: string, disks: readonly TestDisk[], domain = TEST_DOMAIN) =>
  captureDisks({ region: region.store, sessionId, domain, disks })

const rekey = (source: ReadOnlyRegion, target: TestRegion, digest: Digest, sessionId = 'r') =>
  rekeyImage({ source, target: target.store, digest, sessionId, domain: OTHER })

async function packDomains({ store }: TestRegion): Promise<unknown[]> {
  const rows = store.database.prepare('SELECT DISTINCT domain FROM object WHERE domain IS NOT NULL').all()
  return rows.map((row) => row.domain)
}

test('an image in another region and domain: equal disks, nothing in common, told as it goes', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const { digest } = await capture(one, 's', DISKS)
    const reports: RekeyProgress[] = []
    const made = await rekeyImage({
      ...{ source: one.store, target: two.store, digest, sessionId: 'r', domain: OTHER },
      ref: { holder: 'img-1', label: { name: 'copy' } },
      onProgress: (report) => reports.push(report),
    })
    assert.notEqual(made.digest, digest)
    await assertHolds(two.store, made.digest, DISKS)
    const [before, after] = [await one.store.getImage(digest), await two.store.getImage(made.digest)]
    assert.equal(after.domain, OTHER)
    assert.deepEqual([after.config, after.os, after.parent], [before.config, before.os, before.parent])
    assert.deepEqual(await packDomains(two), [OTHER])
    const pages = new Set(before.disks.flatMap((disk) => disk.pages))
    assert.ok(after.disks.every((disk) => disk.pages.every((page) => !pages.has(page))))
    assert.deepEqual(two.store.listRefs()[0]?.digests, [made.digest])
    assert.equal(made.diskDataBytes.length, 2)
    const dataBytes = made.diskDataBytes.reduce((sum, one) => sum + one, 0)
    assert.deepEqual([reports.at(-1)?.doneBytes, reports.at(-1)?.totalBytes], [dataBytes, dataBytes])
    reports.reduce((last, now) => {
      assert.ok(now.doneBytes >= last.doneBytes && now.movedBytes >= last.movedBytes)
      return now
    })
    assert.deepEqual((await verifyRegion({ region: two.store, deep: true })).problems, [])
    assert.deepEqual(two.store.listSessions(), [])
  }))

test('in the same region; what the other domain or the public one has is not written again', () =>
  withRegions([memoryRegion], async (one) => {
    await capture(one, 'p', [pullDisk([1, 2, 3])], PUBLIC_DOMAIN)
    const first = await capture(one, 's', [pullDisk(pullSeeds(1, 12))])
    const made = await rekey(one.store, one, first.digest)
    await assertHolds(one.store, made.digest, [pullDisk(pullSeeds(1, 12))])
    const again = await rekey(one.store, one, first.digest, 'r2')
    assert.deepEqual([again.digest, again.storedBytes], [made.digest, 0])
    // The chunks of seeds 4 to 12: half of them do not compress.
    assert.ok(made.storedBytes > 0 && made.storedBytes < 5 * 64 * 1024)
    assert.deepEqual((await verifyRegion({ region: one.store, deep: true })).problems, [])
  }))

test('the report is sealed for the new domain, the parent kept', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const { image } = await writeDisks({
      region: one.store,
      sessionId: 's',
      domain: TEST_DOMAIN,
      disks: [pullDisk([1, 2])],
    })
    const parent = 'ab'.repeat(32) as Digest
    const told = { ...image, parent, report: '{"removed":["anna"]}', config: PLAIN_CONFIG }
    const { digest } = await commitImage(one.store, 's', told)
    const made = await rekey(one.store, two, digest)
    const content = await two.store.getImage(made.digest)
    assert.equal(content.parent, parent)
    const sealed = content.report
    assert.ok(sealed !== null)
    assert.equal((await two.store.getDomain(OTHER)).openReport(sealed), '{"removed":["anna"]}')
    assert.equal((await one.store.getDomain(TEST_DOMAIN)).openReport(sealed), undefined)
  }))

test('whichever put finds the target full, a second run of the session ends it, and an undo leaves nothing', async () => {
  for (const way of ['again', 'undo'] as const) {
    let failed = true
    for (let n = 2; failed; n += 3) {
      await withRegions([memoryRegion, memoryRegion], async (one, two) => {
        const { digest } = await capture(one, 's', DISKS)
        await two.reopen(new FillingObjects(two.objects, n))
        failed = await rekey(one.store, two, digest).then(
          () => false,
          (error) => isFault(error, 'full'),
        )
        if (!failed) return assert.ok(n > 3)
        await two.reopen(two.objects)
        if (way === 'undo') {
          await two.store.abortSession('r')
          assert.deepEqual(await objectNames(two.objects), [])
        }
        const made = await rekey(one.store, two, digest)
        await assertHolds(two.store, made.digest, DISKS)
        assert.deepEqual((await verifyRegion({ region: two.store, deep: true })).problems, [])
      })
    }
  }
})

test('a bit that flips on the way is read again, one that is wrong at the source is named', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    const { digest } = await capture(one, 's', DISKS)
    const flipping = (isBad: (count: number) => boolean): ReadOnlyRegion => {
      let count = 0
      const { objects } = one
      return {
        ...bareSource(one.store),
        objects: {
          traits: objects.traits,
          size: (name, signal) => objects.size(name, signal),
          async get(name, offset, lengthBytes, signal) {
            const bytes = Buffer.from(await objects.get(name, offset, lengthBytes, signal))
            if (name.startsWith('packs/') && isBad(count++)) bytes[100] = (bytes[100] ?? 0) ^ 1
            return bytes
          },
        },
      }
    }
    await assert.rejects(
      rekey(
        flipping(() => true),
        two,
        digest,
      ),
      (error) => isFault(error, 'corrupt') && /^Chunk [0-9a-f]{64} at byte/.test(error.message),
    )
    await two.store.abortSession('r')
    assert.deepEqual(await objectNames(two.objects), [])
    const made = await rekey(
      flipping((count) => count === 0),
      two,
      digest,
    )
    await assertHolds(two.store, made.digest, DISKS)
  }))

test('an image that is not there; a copy that is stopped', () =>
  withRegions([memoryRegion, memoryRegion], async (one, two) => {
    await assert.rejects(rekey(one.store, two, 'ab'.repeat(32) as Digest), (error) =>
      isFault(error, 'absent'),
    )
    const { digest } = await capture(one, 's', DISKS)
    const abort = new AbortController()
    await assert.rejects(
      rekeyImage({
        ...{ source: one.store, target: two.store, digest, sessionId: 'r', domain: OTHER },
        signal: abort.signal,
        onProgress: () => abort.abort(new Error('enough')),
      }),
      /enough/,
    )
    await two.store.abortSession('r')
    assert.deepEqual(await objectNames(two.objects), [])
  }))
