import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { memoryDisk } from '../src/disk/memory-disk.ts'
import { openNbd } from '../src/disk/nbd-client.ts'
import { type NbdServer, serveNbd } from '../src/disk/nbd-server.ts'
import { PLAIN_CONFIG } from '../src/image/config.ts'
import type { Digest, DomainId, RegionId } from '../src/image/ids.ts'
import { type ObjectsPlace, openObjects, shareLimits } from '../src/objects/open.ts'
import { listUploads, makeBucket, newPlace, type S3Place } from '../src/objects/s3.fixture.ts'
import type { StoreJobs, WriteJob } from '../src/tasks/store-jobs.ts'
import { createJobs } from '../src/tasks/threads/jobs.ts'
import { type Ceph, startCeph } from './ceph/ceph.ts'

const [FOLDER, BUCKET, BACK] = ['folder', 'bucket', 'back'] as [RegionId, RegionId, RegionId]
const CHUNK_BYTES = 256 * 1024
const never = () => new AbortController().signal

let ceph: Ceph
let folder: string
let place: S3Place
let server: NbdServer
let jobs: StoreJobs
const placeOf = (regionId: RegionId, objects: ObjectsPlace) => ({
  regionId,
  objects: shareLimits(objects),
  indexPath: join(folder, regionId, 'index.db'),
  domainsKey,
  regionKey: new Uint8Array(32).fill(regionId.length),
  isEncrypting: true,
})
const domainsKey = new Uint8Array(randomBytes(32))
// Several packs, with holes and a short last chunk.
const disk = Buffer.concat([
  randomBytes(40 << 20),
  Buffer.alloc(8 << 20),
  randomBytes(30 << 20),
  Buffer.alloc(512, 9),
])

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 's3-region-'))
  ceph = await startCeph()
  await makeBucket(ceph, 'images')
  place = { ...newPlace(ceph, 'images'), limits: { callsMax: 6, bytesPerSecond: 1e12 } }
  server = await serveNbd({
    listen: { socketPath: source().socketPath },
    resolve: async () => memoryDisk(disk),
  })
  await open()
})
after(async () => {
  await jobs?.close()
  await server?.close()
  await ceph?.stop()
  await rm(folder, { recursive: true, force: true })
})

const inFolder = (regionId: RegionId): ObjectsPlace => ({
  kind: 'directory',
  folder: join(folder, regionId, 'objects'),
})
async function open(): Promise<void> {
  jobs = createJobs({
    places: [placeOf(FOLDER, inFolder(FOLDER)), placeOf(BUCKET, place), placeOf(BACK, inFolder(BACK))],
    bundleSeed: new Uint8Array(32),
    threadCount: 2,
    nbdSocketPath: join(folder, 'images.sock'),
    log: () => {},
  })
  await jobs.prepare()
}

const source = () => ({
  ...{ sizeBytes: disk.length, bus: 'virtio-blk' as const, exportName: 'a', mapName: 'a' },
  socketPath: join(folder, 'disk.sock'),
})
const write = (regionId: RegionId, sessionId: string): WriteJob => ({
  ...{ regionId, sessionId, domain: 'org-a' as DomainId, disks: [source()], consistency: 'crash' },
  images: [
    {
      ...{ disks: [0], config: PLAIN_CONFIG, os: { type: 'linux', name: '' }, parent: undefined },
      ref: { holder: `image-${sessionId}`, label: {} },
    },
  ],
})
const writeOne = async (job: WriteJob, signal: AbortSignal) => {
  const [made] = await jobs.write(job, () => {}, signal)
  assert(made !== undefined)
  return made
}
const copy = (digest: Digest, sourceRegionId: RegionId, targetRegionId: RegionId, sessionId: string) =>
  jobs.pull(
    {
      ...{ digest, source: { is: 'region', regionId: sourceRegionId }, targetRegionId, sessionId },
      ...{ ref: { holder: `copy-${sessionId}`, label: {} }, isShared: false },
    },
    () => {},
    never(),
  )

async function assertWhole(regionId: RegionId, imageCount: number): Promise<void> {
  const report = await jobs.verify(regionId, true, () => {}, never())
  assert.deepEqual(report.problems, [])
  assert.equal(report.imageCount, imageCount)
  assert.deepEqual(await listUploads(place), [])
}

async function assertReads(regionId: RegionId, digest: Digest): Promise<void> {
  await jobs.serve()
  const client = await openNbd({
    socketPath: join(folder, 'images.sock'),
    exportName: `${regionId}/${digest}/0`,
  })
  assert.ok((await client.read(0, CHUNK_BYTES)).equals(disk.subarray(0, CHUNK_BYTES)))
  const last = disk.length - CHUNK_BYTES
  assert.ok((await client.read(last, CHUNK_BYTES)).equals(disk.subarray(last)))
  await client.close()
}

test('an image goes from a directory to a bucket and back, and a machine reads it from the bucket', async () => {
  const { digest } = await writeOne(write(FOLDER, 's1'), never())
  await copy(digest, FOLDER, BUCKET, 's2')
  await copy(digest, BUCKET, BACK, 's3')
  for (const regionId of [FOLDER, BUCKET, BACK]) await assertWhole(regionId, 1)
  await assertReads(BUCKET, digest)
  await assertReads(BACK, digest)
  // All of it is known already.
  assert.equal((await copy(digest, BUCKET, FOLDER, 's4')).movedBytes, 0)
})

test('a capture into a bucket that is cancelled leaves nothing after the undo, and works when run again', async () => {
  const objects = await openObjects(place, { clean: false })
  const packs = async () => (await Array.fromAsync(objects.list('packs/'))).sort()
  const known = await packs()
  randomBytes(disk.length / 2).copy(disk)
  const abort = new AbortController()
  const cancelled = writeOne(write(BUCKET, 's5'), abort.signal)
  while ((await packs()).length === known.length);
  abort.abort(new Error('cancelled'))
  await assert.rejects(cancelled, /cancelled/)
  await jobs.abort(BUCKET, 's5')
  assert.deepEqual(await packs(), known)
  const { digest } = await writeOne(write(BUCKET, 's6'), never())
  await assertWhole(BUCKET, 2)
  await assertReads(BUCKET, digest)
})

test('the index of a bucket that is lost is made anew', async () => {
  await jobs.close()
  for (const end of ['', '-wal', '-shm']) await rm(join(folder, BUCKET, `index.db${end}`), { force: true })
  await open()
  await assertWhole(BUCKET, 2)
  const again = await writeOne(write(BUCKET, 's7'), never())
  assert.equal(again.storedBytes, 0)
})
