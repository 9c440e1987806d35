import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { PLAIN_CONFIG } from '../../image/config.ts'
import { isFault } from '../../image/fault.ts'
import type { DomainId, RegionId } from '../../image/ids.ts'
import type { StoreJobs, WriteJob, WrittenImage } from '../store-jobs.ts'
import { chunkedBytes } from './chunked-bytes.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'

const HOME = 'cn-hangzhou' as RegionId
const AWAY = 'hk' as RegionId
const CHUNK_BYTES = 256 * 1024
const never = () => new AbortController().signal
const ignore = () => {}

describe('the upkeep of stores in threads', () => {
  let folder: string
  let server: NbdServer
  let jobs: StoreJobs
  let places: RegionPlace[]
  const disks = new Map<string, Buffer>()

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'upkeep-'))
    disks.set('a', Buffer.concat([randomBytes(3 * CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES), randomBytes(512)]))
    disks.set(
      'b',
      Buffer.concat([disks.get('a')?.subarray(0, CHUNK_BYTES) as Buffer, randomBytes(CHUNK_BYTES)]),
    )
    server = await serveNbd({
      listen: { socketPath: join(folder, 'disk.sock') },
      resolve: async (name) => memoryDisk(disks.get(name) ?? Buffer.alloc(512)),
    })
    const domainsKey = new Uint8Array(randomBytes(32))
    places = [HOME, AWAY].map((regionId) => ({
      regionId,
      objects: { kind: 'directory' as const, folder: join(folder, regionId, 'objects') },
      indexPath: join(folder, regionId, 'index.db'),
      domainsKey,
      regionKey: new Uint8Array(randomBytes(32)),
      isEncrypting: true,
    }))
    await start()
  })
  afterEach(async () => {
    await jobs.close()
    await server.close()
    await rm(folder, { recursive: true })
  })

  async function start(): Promise<void> {
    jobs = createJobs({
      places,
      bundleSeed: new Uint8Array(32),
      threadCount: 1,
      nbdSocketPath: join(folder, 'images.sock'),
      log: ignore,
    })
    await jobs.prepare()
  }
  const source = (name: string): WriteJob['disks'][number] => ({
    sizeBytes: disks.get(name)?.length ?? 0,
    bus: 'virtio-blk',
    socketPath: join(folder, 'disk.sock'),
    exportName: name,
    mapName: name,
  })
  const write = (name: string): Promise<WrittenImage> => {
    const job = imageJob(HOME, `task-${name}`, [source(name)])
    const ref = { holder: `image-${name}`, label: { is: 'image', name } }
    return writeOne(jobs, { ...job, images: job.images.map((image) => ({ ...image, ref })) })
  }
  const packsOf = async (regionId: RegionId) =>
    (await readdir(join(folder, regionId, 'objects', 'packs'), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
  const collect = (isDryRun: boolean, deadSessions: string[] = []) =>
    jobs.collect(HOME, { isDryRun, graceMs: 0, deadSessions }, ignore, never())

  test('what is measured is never less than what an image then holds', async () => {
    const plans = await jobs.measure(imageJob(HOME, 'plan', [source('a'), source('b')]), never())
    const measured = plans.reduce((sum, { dataBytes }) => sum + dataBytes, 0)
    const made = [await write('a'), await write('b')]
    const data = made.reduce((sum, { dataBytes }) => sum + dataBytes, 0)
    assert.ok(measured >= data, `${measured} for ${data}`)
    assert.equal(data, 5 * CHUNK_BYTES + 512)
    const extent = (offset: number, lengthBytes: number) => ({ offset, lengthBytes, holds: 'data' as const })
    // Two runs in one chunk count it once; the last chunk is as long as the disk.
    assert.equal(chunkedBytes([extent(10, 10), extent(60, 10), extent(205, 3)], 210, 100), 110)
    assert.equal(chunkedBytes([], 210, 100), 0)
  })

  test('a collection takes what no ref needs, and nothing else', async () => {
    await write('a')
    const second = await write('b')
    assert.deepEqual((await jobs.refs(HOME)).map(({ holder, digests }) => [holder, digests.length]).sort(), [
      ['image-a', 1],
      ['image-b', 1],
    ])
    await jobs.refer(HOME, { holder: 'machine', digests: [second.digest], label: {} })
    await jobs.release(HOME, 'image-b')
    assert.equal((await collect(false)).removedCount, 0)
    await jobs.release(HOME, 'machine')
    await jobs.release(HOME, 'nobody')
    const before = await packsOf(HOME)
    const paper = await collect(true)
    assert.deepEqual(await packsOf(HOME), before)
    const done = await collect(false)
    assert.ok(done.removedBytes > CHUNK_BYTES && paper.condemnedBytes === done.condemnedBytes)
    assert.ok((await packsOf(HOME)).length < before.length)
    await assert.rejects(jobs.diskSizes(HOME, second.digest), (error) => isFault(error, 'absent'))
    assert.deepEqual((await jobs.verify(HOME, true, ignore, never())).problems, [])
    await assert.rejects(jobs.refer(HOME, { holder: 'late', digests: [second.digest], label: {} }), (error) =>
      isFault(error, 'absent'),
    )
  })

  test('usage tells unique from shared', async () => {
    const made = [await write('a'), await write('b')]
    const usage = await jobs.usage(HOME, never())
    const second = usage.images.find(({ digest }) => digest === made[1]?.digest)
    assert.ok(second !== undefined && second.sharedBytes > CHUNK_BYTES && second.uniqueBytes > CHUNK_BYTES)
    assert.equal(second.sharedBytes + second.uniqueBytes, second.storedBytes)
    assert.equal(second.dataBytes, made[1]?.dataBytes)
  })

  test('a start ends sessions that no task takes up again', async () => {
    await write('a')
    const [place] = places
    assert.ok(place !== undefined)
    const region = await openRegion(place)
    for (const id of ['gc-1', 'repair-1', 'ref-1', 'task-1'])
      await region.openSession(id, 'org-a' as DomainId)
    region.close()
    await jobs.close()
    await start()
    assert.deepEqual(
      (await jobs.sessions(HOME)).map(({ id }) => id),
      ['task-1'],
    )
    await collect(false, ['task-1'])
    assert.deepEqual(await jobs.sessions(HOME), [])
  })

  test('a damaged pack is found and mended from another region', async () => {
    const { digest } = await write('a')
    const ref = { holder: 'copy', label: {} }
    const source = { is: 'region' as const, regionId: HOME }
    const pull = { source, targetRegionId: AWAY, digest, sessionId: 'task-copy', ref, isShared: false }
    await jobs.pull(pull, ignore, never())
    const [pack = ''] = await packsOf(HOME)
    const file = await open(pack, 'r+')
    await file.write(Buffer.from('damage'), 0, 6, 5000)
    await file.close()
    assert.equal((await jobs.scrub(HOME, {}, ignore, never())).damagedCount, 1)
    const repaired = await jobs.repair(HOME, never())
    assert.deepEqual([repaired.mendedCount, repaired.lost, repaired.waiting], [1, [], []])
    assert.deepEqual((await jobs.verify(HOME, true, ignore, never())).problems, [])
  })

  test('a survey tells refs and images from the objects alone, with an index made anew', async () => {
    const made = await write('a')
    const lost = await write('b')
    const surveyed = await jobs.survey(HOME, ignore, never())
    assert.deepEqual(surveyed.refs.map((ref) => ('holder' in ref ? [ref.holder, ref.label] : ref)).sort(), [
      ['image-a', { is: 'image', name: 'a' }],
      ['image-b', { is: 'image', name: 'b' }],
    ])
    const whole = {
      ...{ diskBytes: [disks.get('a')?.length], diskDataBytes: [made.dataBytes], dataBytes: made.dataBytes },
      ...{ buses: ['virtio-blk'], config: PLAIN_CONFIG, os: { type: 'linux', name: '' } },
      ...{ consistency: 'crash', parent: undefined, cleaning: undefined },
    }
    assert.deepEqual(surveyed.images.get(made.digest), whole)
    await jobs.close()
    await writeFile(join(folder, HOME, 'index.db'), 'no database')
    for (const end of ['-wal', '-shm']) await rm(join(folder, HOME, `index.db${end}`), { force: true })
    const packs = await packsOf(HOME)
    assert.equal(packs.length, 2)
    jobs = createJobs({
      places,
      bundleSeed: new Uint8Array(32),
      threadCount: 1,
      nbdSocketPath: join(folder, 'images.sock'),
      log: ignore,
    })
    const report = await jobs.rebuildIndex(HOME, ignore, never())
    assert.deepEqual([report.packCount, report.imageCount, report.refCount, report.damaged], [2, 2, 2, []])
    assert.deepEqual((await jobs.survey(HOME, ignore, never())).images.get(made.digest), whole)
    const signature = join(folder, HOME, 'objects', 'signatures', lost.digest)
    await rm(signature)
    const found = (await jobs.survey(HOME, ignore, never())).images.get(lost.digest)
    assert.match(JSON.stringify(found), /signature of image \w+ is missing/)
  })
})
