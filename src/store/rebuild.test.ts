import assert from 'node:assert/strict'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { assertHolds, captureDisks, noise, writeDisks } from './disks.fixture.ts'
import { collectGarbage } from './gc.ts'
import { directoryRegion, objectNames, TEST_CHUNK_BYTES, TEST_DOMAIN, withRegions } from './region.fixture.ts'
import { verifyRegion } from './verify.ts'

const CHUNK = TEST_CHUNK_BYTES
const domain = TEST_DOMAIN
const disksOf = (seed: number) => [{ bytes: noise(9 * CHUNK, seed), chunkBytes: CHUNK }]

test('a lost index is made anew from the packs when the store is opened', () =>
  withRegions([directoryRegion], async (region) => {
    const first = await captureDisks({ region: region.store, sessionId: 's1', domain, disks: disksOf(1) })
    region.store.close()
    for (const end of ['', '-wal', '-shm'])
      await rm(join(region.folder, `index.sqlite${end}`), { force: true })
    await region.reopen()
    assert.deepEqual(region.store.listImages(), [first.digest])
    await assertHolds(region.store, first.digest, disksOf(1))
    assert.deepEqual((await verifyRegion({ region: region.store, deep: true })).problems, [])
    const again = await captureDisks({ region: region.store, sessionId: 's2', domain, disks: disksOf(1) })
    assert.equal(again.counts.newBytes, 0)
  }))

test('after a lost index an undo never takes what was there before', () =>
  withRegions([directoryRegion], async (region) => {
    const first = await captureDisks({ region: region.store, sessionId: 's1', domain, disks: disksOf(1) })
    const names = await objectNames(region.objects)
    region.store.close()
    await rm(join(region.folder, 'index.sqlite'), { force: true })
    await region.reopen()
    await writeDisks({ region: region.store, sessionId: 's2', domain, disks: [...disksOf(1), ...disksOf(2)] })
    await region.store.abortSession('s2')
    assert.deepEqual(await objectNames(region.objects), names)
    await assertHolds(region.store, first.digest, disksOf(1))
  }))

test('a rebuild in the middle of a session leaves the session what is its own', () =>
  withRegions([directoryRegion], async (region) => {
    await captureDisks({ region: region.store, sessionId: 's1', domain, disks: disksOf(1) })
    const names = await objectNames(region.objects)
    await writeDisks({ region: region.store, sessionId: 's2', domain, disks: disksOf(2) })
    await region.store.rebuildIndex()
    const stranger = await writeDisks({ region: region.store, sessionId: 's3', domain, disks: disksOf(2) })
    assert.equal(stranger.counts.newBytes, 9 * CHUNK)
    await region.store.abortSession('s3')
    const own = await writeDisks({ region: region.store, sessionId: 's2', domain, disks: disksOf(2) })
    assert.equal(own.counts.resumedBytes, 9 * CHUNK)
    await region.store.abortSession('s2')
    assert.deepEqual(await objectNames(region.objects), names)
  }))

test('a damaged pack does not stop a rebuild: it is named and left out', () =>
  withRegions([directoryRegion], async (region) => {
    await captureDisks({ region: region.store, sessionId: 's1', domain, disks: disksOf(1) })
    const name = (await objectNames(region.objects)).find((one) => one.startsWith('packs/'))
    const path = join(region.folder, String(name))
    await writeFile(path, (await readFile(path)).subarray(0, -1))
    const report = await region.store.rebuildIndex()
    // The pack, and each chunk-bearing page of the image that needs it.
    assert.equal(report.damaged[0]?.name, name)
    assert.match(report.damaged[1]?.message ?? '', /^Image [0-9a-f]{64}: Chunk [0-9a-f]{64} is in no pack/)
    assert.ok(report.chunkCount > 0)
    // Nobody can tell what is needless until that is mended.
    const collected = await collectGarbage({
      region: region.store,
      graceMs: 0,
      isDryRun: false,
      deadSessions: [],
    })
    assert.deepEqual([collected.removedCount, collected.items[0]?.step], [0, 'wait'])
  }))
