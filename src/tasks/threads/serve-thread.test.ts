import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { openNbd } from '../../disk/nbd-client.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import type { Digest, RegionId } from '../../image/ids.ts'
import type { StoreJobs } from '../store-jobs.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'
import type { RegionPlace } from './region.ts'
import type { ServeData } from './serve-thread.ts'

const HOME = 'cn-hangzhou' as RegionId
const AWAY = 'hk' as RegionId
const MIB = 1024 * 1024
const never = new AbortController().signal

describe('serving in a thread', () => {
  const disk = Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(2 * MIB), randomBytes(MIB + 512)])
  let folder: string
  let server: NbdServer
  let jobs: StoreJobs
  let places: RegionPlace[]
  let digest: Digest

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'serve-'))
    const socketPath = join(folder, 'disk.sock')
    server = await serveNbd({ listen: { socketPath }, resolve: async () => memoryDisk(disk) })
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
      threadCount: 1,
      nbdSocketPath: join(folder, 'images.sock'),
      log: () => {},
    })
    await jobs.prepare()
    const source = { sizeBytes: disk.length, bus: 'virtio-blk' as const, socketPath }
    const disks = [{ ...source, exportName: 'a', mapName: 'a' }]
    digest = (await writeOne(jobs, imageJob(HOME, 's1', disks))).digest
  })
  afterEach(async () => {
    await jobs.close()
    await server.close()
    await rm(folder, { recursive: true })
  })

  const openImage = (socketPath: string) => openNbd({ socketPath, exportName: `${HOME}/${digest}/0` })

  test('a guest reads on where a pack is damaged here and whole in another region, and it is told', async () => {
    const ref = { holder: 'copy', label: {} }
    const source = { is: 'region' as const, regionId: HOME }
    const pull = { source, targetRegionId: AWAY, digest, sessionId: 's2', ref, isShared: false }
    await jobs.pull(pull, () => {}, never)
    const objects = join(folder, HOME, 'objects', 'packs')
    for (const entry of await readdir(objects, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      const bytes = await readFile(path)
      bytes[1000] = (bytes[1000] as number) ^ 1
      await writeFile(path, bytes)
    }
    const told = new Promise((resolve) => jobs.onDamage(resolve))
    await jobs.serve()
    const client = await openImage(join(folder, 'images.sock'))
    assert.ok((await client.read(0, disk.length)).equals(disk))
    assert.equal(await told, HOME)
    await client.close()
  })

  test('with a cache that holds one chunk every byte is still right, for several guests at once', async () => {
    const socketPath = join(folder, 'small.sock')
    const data: ServeData = { places, socketPath, cacheBytes: 300_000 }
    const worker = new Worker(new URL('./serve-thread.ts', import.meta.url), { workerData: data })
    await once(worker, 'message')
    const read = async (stepBytes: number) => {
      const client = await openImage(socketPath)
      for (let at = 0; at < disk.length; at += stepBytes) {
        const lengthBytes = Math.min(stepBytes, disk.length - at)
        assert.ok((await client.read(at, lengthBytes)).equals(disk.subarray(at, at + lengthBytes)))
      }
      await client.close()
    }
    await Promise.all([read(60_000), read(100_003), read(700_000)])
    const over = once(worker, 'exit')
    worker.postMessage('stop')
    await over
  })
})
