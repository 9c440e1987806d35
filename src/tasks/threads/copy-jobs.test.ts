import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { isFault } from '../../image/fault.ts'
import type { Digest, DomainId, RegionId } from '../../image/ids.ts'
import type { StoreJobs } from '../store-jobs.ts'
import { type CopyLimit, shareCopyLimit } from './copy-limits.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'

const [HOME, AWAY, SLOW] = ['cn-hangzhou', 'hk', 'slow'] as [RegionId, RegionId, RegionId]
const CHUNK_BYTES = 256 * 1024
const DISK = randomBytes(12 * CHUNK_BYTES)
const never = () => new AbortController().signal
const from = { is: 'region', regionId: HOME } as const

let folder: string
let server: NbdServer
let jobs: StoreJobs
let digest: Digest
let limit: CopyLimit

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'copies-'))
  const socketPath = join(folder, 'disk.sock')
  server = await serveNbd({ listen: { socketPath }, resolve: async () => memoryDisk(DISK) })
  const domainsKey = new Uint8Array(randomBytes(32))
  limit = shareCopyLimit(4 * DISK.length)
  const placeOf = (regionId: RegionId) => ({
    regionId,
    objects: { kind: 'directory' as const, folder: join(folder, regionId, 'objects') },
    indexPath: join(folder, regionId, 'index.db'),
    domainsKey,
    regionKey: new Uint8Array(randomBytes(32)),
    isEncrypting: true,
  })
  jobs = createJobs({
    places: [placeOf(HOME), placeOf(AWAY), { ...placeOf(SLOW), copyLimit: limit }],
    bundleSeed: new Uint8Array(32),
    threadCount: 1,
    nbdSocketPath: join(folder, 'images.sock'),
    cacheFolder: join(folder, 'cache'),
    log: () => {},
  })
  await jobs.prepare()
  const disk = {
    sizeBytes: DISK.length,
    bus: 'virtio-blk' as const,
    socketPath,
    exportName: 'a',
    mapName: 'a',
  }
  digest = (await writeOne(jobs, imageJob(HOME, 's1', [disk]))).digest
})
after(async () => {
  await jobs.close()
  await server.close()
  await rm(folder, { recursive: true })
})

const pullTo = (targetRegionId: RegionId, sessionId: string, more: object = {}) => ({
  ...{ source: from, targetRegionId, digest, sessionId, isShared: true },
  ...{ ref: { holder: sessionId, label: {} }, ...more },
})

test('a plan says what the copy then moves, and afterwards that all of it is saved', async () => {
  const plan = await jobs.planPull({ source: from, targetRegionId: AWAY, digest }, never())
  assert.equal(plan.savedBytes, 0)
  assert.ok(plan.missingBytes > DISK.length)
  const moved = await jobs.pull(pullTo(AWAY, 'p1'), () => {}, never())
  assert.equal(moved.savedBytes, 0)
  assert.ok(moved.movedBytes >= plan.missingBytes && moved.movedBytes <= plan.missingBytes * 1.02)
  const after = await jobs.planPull(
    { source: from, targetRegionId: AWAY, digest, sessionId: 'unknown' },
    never(),
  )
  assert.equal(after.missingBytes, 0)
  assert.ok(after.savedBytes >= DISK.length)
  // Files of this host need no cache.
  assert.deepEqual(await readdir(join(folder, 'cache')).catch(() => []), [])
})

test('what comes into a region is counted for it, whoever copies', async () => {
  const begunNs = process.hrtime.bigint()
  const { movedBytes } = await jobs.pull(pullTo(SLOW, 'p2'), () => {}, never())
  const [outFreeNs, intoFreeNs] = new BigInt64Array(limit.memory)
  assert.equal(outFreeNs, 0n)
  const takenNs = ((movedBytes - 2000) / limit.bytesPerSecond) * 1e9
  assert.ok(Number((intoFreeNs ?? 0n) - begunNs) >= takenNs)
  const back = { source: { is: 'region', regionId: SLOW } as const, bytesPerSecond: 100 * DISK.length }
  const made = await jobs.rekey(
    { ...pullTo(AWAY, 'p3'), ...back, domain: 'org-c' as DomainId },
    () => {},
    never(),
  )
  assert.ok((new BigInt64Array(limit.memory)[0] ?? 0n) > begunNs)
  assert.ok(made.movedBytes > DISK.length)
})

test('written with other keys it is another image of the same disks', async () => {
  const reports: number[] = []
  const job = { ...pullTo(HOME, 'r1'), domain: 'org-b' as DomainId }
  const made = await jobs.rekey(job, ({ doneBytes }) => reports.push(doneBytes), never())
  assert.notEqual(made.digest, digest)
  assert.deepEqual([made.dataBytes, reports.at(-1)], [DISK.length, DISK.length])
  assert.equal(await jobs.domainOf(HOME, made.digest), 'org-b')
  assert.deepEqual(await jobs.diskSizes(HOME, made.digest), [DISK.length])
  for (const regionId of [HOME, AWAY, SLOW]) {
    assert.deepEqual((await jobs.verify(regionId, true, () => {}, never())).problems, [])
  }
})

test('a peer that the settings do not name, a region that is gone, an image that is not there', async () => {
  const peer = { is: 'peer', peer: 'nobody', regionId: 'x' } as const
  await assert.rejects(
    jobs.pull(pullTo(AWAY, 'p4', { source: peer }), () => {}, never()),
    (error) => isFault(error, 'absent') && error.subject === 'peer',
  )
  const gone = { is: 'region', regionId: 'gone' as RegionId } as const
  await assert.rejects(
    jobs.planPull({ source: gone, targetRegionId: AWAY, digest }, never()),
    (error) => isFault(error, 'absent') && error.subject === 'region',
  )
  await assert.rejects(
    jobs.pull(pullTo(AWAY, 'p5', { digest: 'ab'.repeat(32) }), () => {}, never()),
    (error) => isFault(error, 'absent') && error.subject === 'image',
  )
})
