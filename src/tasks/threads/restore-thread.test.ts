import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { Fault, isFault } from '../../image/fault.ts'
import type { Digest, RegionId } from '../../image/ids.ts'
import type { StoreJobs } from '../store-jobs.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'

const REGION = 'cn-hangzhou' as RegionId
const MIB = 1024 * 1024
const never = new AbortController().signal

describe('restoring in threads', () => {
  /** Three stripes of data around a hole. */
  const disk = Buffer.concat([randomBytes(20 * MIB), Buffer.alloc(16 * MIB), randomBytes(15 * MIB + 512)])
  let folder: string
  let server: NbdServer
  let jobs: StoreJobs
  let digest: Digest

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'restore-'))
    const socketPath = join(folder, 'disk.sock')
    server = await serveNbd({ listen: { socketPath }, resolve: async () => memoryDisk(disk) })
    const place = {
      regionId: REGION,
      objects: { kind: 'directory' as const, folder: join(folder, 'objects') },
      indexPath: join(folder, 'index', 'index.db'),
      domainsKey: new Uint8Array(randomBytes(32)),
      regionKey: new Uint8Array(randomBytes(32)),
      isEncrypting: true,
    }
    const nbdSocketPath = join(folder, 'images.sock')
    jobs = createJobs({
      places: [place],
      bundleSeed: new Uint8Array(32),
      threadCount: 3,
      nbdSocketPath,
      log: () => {},
    })
    await jobs.prepare()
    const source = { sizeBytes: disk.length, bus: 'virtio-blk' as const, socketPath }
    const disks = [{ ...source, exportName: 'a', mapName: 'a' }]
    digest = (await writeOne(jobs, imageJob(REGION, 's1', disks))).digest
  })
  afterEach(async () => {
    await jobs.close()
    await server.close()
    await rm(folder, { recursive: true })
  })

  const restored = async () => (await readdir(folder)).filter((name) => name.startsWith('restored')).sort()

  test('several threads make one file, equal in every byte, and progress rises to its end', async () => {
    const path = join(folder, 'restored.raw')
    const seen: number[] = []
    let total = 0
    const onBytes = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) => {
      seen.push(doneBytes)
      total = totalBytes
    }
    await jobs.restore(REGION, digest, 0, path, onBytes, never)
    assert.ok((await readFile(path)).equals(disk))
    assert.deepEqual(await restored(), ['restored.raw'])
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    )
    assert.equal(total, disk.length - 16 * MIB)
    assert.equal(seen.at(-1), total)
    await assert.rejects(jobs.restore(REGION, digest, 0, path, onBytes, never), (error) =>
      isFault(error, 'conflict'),
    )
    assert.ok((await readFile(path)).equals(disk))
  })

  test('one that is cancelled leaves nothing', async () => {
    const abort = new AbortController()
    const reason = new Fault('conflict', 'cancelled')
    const path = join(folder, 'restored.raw')
    // Told for the first time when the half-made file is there.
    const onBytes = () => abort.abort(reason)
    await assert.rejects(jobs.restore(REGION, digest, 0, path, onBytes, abort.signal), reason)
    assert.deepEqual(await restored(), [])
  })

  test('a damaged chunk ends all threads, is named, and leaves nothing', async () => {
    const packs = await readdir(join(folder, 'objects', 'packs'), { recursive: true, withFileTypes: true })
    const pack = packs.find((entry) => entry.isFile())
    assert.ok(pack !== undefined)
    const packPath = join(pack.parentPath, pack.name)
    const bytes = await readFile(packPath)
    bytes[1000] = (bytes[1000] as number) ^ 1
    await writeFile(packPath, bytes)
    const path = join(folder, 'restored.raw')
    await assert.rejects(
      jobs.restore(REGION, digest, 0, path, () => {}, never),
      (error) => isFault(error, 'corrupt') && /^Disk 0 cannot be restored at byte \d+: /.test(error.message),
    )
    assert.deepEqual(await restored(), [])
  })
})
