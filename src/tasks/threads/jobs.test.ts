import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { openNbd } from '../../disk/nbd-client.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { Fault, isFault } from '../../image/fault.ts'
import type { DomainId, RegionId } from '../../image/ids.ts'
import { newClaims } from '../../store/claims.ts'
import { newDiskIds } from '../../store/map.ts'
import type { StoreJobs, WriteJob } from '../store-jobs.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'
import type { RegionPlace } from './region.ts'
import { captureStripes } from './stripes.ts'

const HOME = 'cn-hangzhou' as RegionId
const AWAY = 'hk' as RegionId
const CHUNK_BYTES = 256 * 1024
const never = () => new AbortController().signal

describe('the jobs in threads', () => {
  let folder: string
  let server: NbdServer
  let socketPath: string
  let jobs: StoreJobs
  let places: RegionPlace[]
  let closedCount: number
  const content = Buffer.concat([randomBytes(CHUNK_BYTES), Buffer.alloc(3 * CHUNK_BYTES), randomBytes(700)])
  const disk = Buffer.concat([content, Buffer.alloc(512 - (content.length % 512))])

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'jobs-'))
    socketPath = join(folder, 'disk.sock')
    closedCount = 0
    server = await serveNbd({
      listen: { socketPath },
      resolve: async () => {
        const source = memoryDisk(disk)
        return { ...source, close: async () => void closedCount++ }
      },
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
    jobs = createJobs({
      places,
      bundleSeed: new Uint8Array(32),
      threadCount: 2,
      nbdSocketPath: join(folder, 'images.sock'),
      log: () => {},
    })
    await jobs.prepare()
  })
  afterEach(async () => {
    await jobs.close()
    await server.close()
    await rm(folder, { recursive: true })
  })

  const job = (sessionId: string, disks: WriteJob['disks']) => imageJob(HOME, sessionId, disks)
  const source = () => ({
    sizeBytes: disk.length,
    bus: 'virtio-blk' as const,
    socketPath,
    exportName: 'a',
    mapName: 'a',
  })

  test('a disk becomes an image, the image a copy, the copy a disk again', async () => {
    const seen: number[] = []
    const made = await writeOne(jobs, job('s1', [source()]), ({ doneBytes }) => seen.push(doneBytes))
    assert.equal(made.dataBytes, CHUNK_BYTES + disk.length - 4 * CHUNK_BYTES)
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    )
    assert.deepEqual(await jobs.diskSizes(HOME, made.digest), [disk.length])
    const ref = { holder: 'copy', label: {} }
    const from = { is: 'region' as const, regionId: HOME }
    const pull = {
      source: from,
      targetRegionId: AWAY,
      digest: made.digest,
      sessionId: 's2',
      ref,
      isShared: false,
    }
    const moved = await jobs.pull(pull, () => {}, never())
    assert.ok(moved.movedBytes >= made.storedBytes / 2)
    await jobs.serve()
    const client = await openNbd({
      socketPath: join(folder, 'images.sock'),
      exportName: `${AWAY}/${made.digest}/0`,
    })
    assert.ok((await client.read(0, disk.length)).equals(disk))
    await client.close()
    for (const regionId of [HOME, AWAY]) {
      const report = await jobs.verify(regionId, true, () => {}, never())
      assert.deepEqual(report.problems, [])
      assert.equal(report.imageCount, 1)
    }
  })

  test('an index that is gone is made anew from the packs, and all is there', async () => {
    const made = await writeOne(jobs, job('s6', [source()]))
    await jobs.close()
    for (const end of ['', '-wal', '-shm']) await rm(join(folder, HOME, `index.db${end}`), { force: true })
    jobs = createJobs({
      places,
      bundleSeed: new Uint8Array(32),
      threadCount: 2,
      nbdSocketPath: join(folder, 'images.sock'),
      log: () => {},
    })
    await jobs.prepare()
    assert.deepEqual(await jobs.diskSizes(HOME, made.digest), [disk.length])
    const again = await writeOne(jobs, job('s7', [source()]))
    assert.deepEqual([again.digest, again.storedBytes], [made.digest, 0])
    assert.deepEqual((await jobs.verify(HOME, true, () => {}, never())).problems, [])
  })

  test('a failed or cancelled job ends, and abort leaves nothing of it', async () => {
    const missing = { ...source(), socketPath: join(folder, 'nobody.sock') }
    await assert.rejects(
      jobs.write(job('s3', [source(), missing]), () => {}, never()),
      (error) => isFault(error, 'unavailable'),
    )
    await assert.rejects(
      jobs.write(job('s4', [source()]), () => {}, AbortSignal.abort(new Fault('conflict', 'cancelled'))),
      (error) => isFault(error, 'conflict'),
    )
    for (const session of ['s3', 's4']) await jobs.abort(HOME, session)
    const packs = await readdir(join(folder, HOME, 'objects', 'packs')).catch(() => [])
    assert.deepEqual(packs, [])
    await assert.rejects(jobs.diskSizes(HOME, 'd'.repeat(64) as never), (error) => isFault(error, 'absent'))
  })

  test('a thread that cannot open its second disk closes the first', async () => {
    const [place] = places
    assert.ok(place !== undefined)
    await jobs.abort(HOME, 'none')
    const ids = newDiskIds(disk.length, CHUNK_BYTES)
    const failing = captureStripes(
      {
        place,
        sessionId: 's5',
        domain: 'org-a' as DomainId,
        chunkBytes: CHUNK_BYTES,
        disks: [
          { ...source(), ids },
          { ...source(), socketPath: join(folder, 'nobody.sock'), ids },
        ],
        stripes: [],
        next: new Int32Array(new SharedArrayBuffer(4)),
        claims: newClaims(4),
        packBytes: 4 * 1024 * 1024,
      },
      { signal: never(), tell: () => {} },
    )
    await assert.rejects(failing, (error) => isFault(error, 'unavailable'))
    while (closedCount === 0) await new Promise((resolve) => setImmediate(resolve))
  })
})
