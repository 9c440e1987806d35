import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { reportOf } from '../../cleaning/fixture.ts'
import { createSigner } from '../../cleaning/signature.ts'
import type { Disk, StatusExtent } from '../../disk/contract.ts'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { openNbd } from '../../disk/nbd-client.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { PLAIN_CONFIG } from '../../image/config.ts'
import { isFault } from '../../image/fault.ts'
import type { Digest, DomainId, RegionId } from '../../image/ids.ts'
import type { StoreJobs, WriteJob, WrittenImage } from '../store-jobs.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'

const HOME = 'cn-hangzhou' as RegionId
const CHUNK_BYTES = 256 * 1024
/** Not a whole number of chunks. */
const DISK_BYTES = 9 * CHUNK_BYTES + 512
const never = () => new AbortController().signal
const ignore = () => {}

/** A disk that remembers where it was written since it was told to. */
class Written {
  readonly bytes: Buffer
  readonly reads: number[] = []
  changed = new Set<number>()
  /** As a bitmap says it: 1 is dirty. As layers: 2 is the machine's own, 3 is what is under it. */
  statuses: readonly [number, number] = [0, 1]

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  write(chunk: number, bytes: Buffer): void {
    bytes.copy(this.bytes, chunk * CHUNK_BYTES)
    this.changed.add(chunk)
  }

  open(): Disk {
    const disk = memoryDisk(this.bytes)
    const statusOf = async (offset: number, lengthBytes: number): Promise<StatusExtent[]> => {
      const runs: StatusExtent[] = []
      for (let at = offset; at < offset + lengthBytes; ) {
        const end = Math.min(offset + lengthBytes, (Math.floor(at / CHUNK_BYTES) + 1) * CHUNK_BYTES)
        const status = this.statuses[this.changed.has(Math.floor(at / CHUNK_BYTES)) ? 1 : 0] ?? 0
        runs.push({ offset: at, lengthBytes: end - at, status })
        at = end
      }
      return runs
    }
    return {
      ...disk,
      read: async (offset, lengthBytes, signal) => {
        this.reads.push(Math.floor(offset / CHUNK_BYTES))
        return disk.read(offset, lengthBytes, signal)
      },
      contexts: new Map([['qemu:dirty-bitmap:since', statusOf]]),
    }
  }
}

describe('captures of what changed, of several images, and of none', () => {
  let folder: string
  let server: NbdServer
  let jobs: StoreJobs
  const disks = new Map<string, Written>()

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'changed-'))
    disks.clear()
    const content = randomBytes(DISK_BYTES)
    content.fill(0, 2 * CHUNK_BYTES, 4 * CHUNK_BYTES)
    disks.set('a', new Written(content))
    disks.set('b', new Written(randomBytes(2 * CHUNK_BYTES)))
    disks.set('empty-1', new Written(Buffer.alloc(CHUNK_BYTES)))
    disks.set('empty-2', new Written(Buffer.alloc(CHUNK_BYTES)))
    server = await serveNbd({
      listen: { socketPath: join(folder, 'disk.sock') },
      resolve: async (name) => disk(name).open(),
    })
    const place = {
      regionId: HOME,
      objects: { kind: 'directory' as const, folder: join(folder, HOME, 'objects') },
      indexPath: join(folder, HOME, 'index.db'),
      domainsKey: new Uint8Array(randomBytes(32)),
      regionKey: new Uint8Array(randomBytes(32)),
      isEncrypting: true,
    }
    const nbdSocketPath = join(folder, 'images.sock')
    jobs = createJobs({
      places: [place],
      bundleSeed: new Uint8Array(32),
      threadCount: 2,
      nbdSocketPath,
      log: ignore,
    })
    await jobs.prepare()
  })
  afterEach(async () => {
    await jobs.close()
    await server.close()
    await rm(folder, { recursive: true })
  })

  const disk = (name: string) => {
    const found = disks.get(name)
    assert(found !== undefined)
    return found
  }
  const source = (name: string, since?: { digest: Digest; diskIndex?: number; most?: number }) => ({
    ...{ sizeBytes: disk(name).bytes.length, bus: 'virtio-blk' as const },
    ...{ socketPath: join(folder, 'disk.sock'), exportName: name, mapName: name },
    ...(since && {
      baseline: {
        ...{ digest: since.digest, diskIndex: since.diskIndex ?? 0 },
        changes: { name: 'qemu:dirty-bitmap:since', most: since.most ?? 1 },
      },
    }),
  })
  const write = (sessionId: string, ...of: WriteJob['disks']) => writeOne(jobs, imageJob(HOME, sessionId, of))

  async function assertHolds(digest: Digest, ...contents: Buffer[]): Promise<void> {
    await jobs.serve()
    for (const [index, content] of contents.entries()) {
      const address = { socketPath: join(folder, 'images.sock'), exportName: `${HOME}/${digest}/${index}` }
      const client = await openNbd(address)
      assert.ok((await client.read(0, content.length)).equals(content), `disk ${index} of ${digest}`)
      await client.close()
    }
  }
  const assertWhole = async () =>
    assert.deepEqual((await jobs.verify(HOME, true, ignore, never())).problems, [])
  const collect = () => jobs.collect(HOME, { isDryRun: false, graceMs: 0, deadSessions: [] }, ignore, never())

  const cleaned = (name: string) => ({
    ...{ socketPath: join(folder, 'disk.sock'), exportName: name },
    changes: { name: 'qemu:dirty-bitmap:since', most: 1 },
  })

  test('what cleaning laid over a disk is taken in, and nothing that was under it; the report goes with the image', async () => {
    const under = disk('a')
    const over = new Written(Buffer.from(under.bytes))
    disks.set('over', over)
    over.write(1, Buffer.alloc(CHUNK_BYTES))
    over.write(6, randomBytes(CHUNK_BYTES))
    // In place of zeroes, and the odd end.
    over.write(3, randomBytes(CHUNK_BYTES))
    over.write(9, Buffer.alloc(512))
    const report = createSigner(new Uint8Array(32))(
      reportOf({
        wish: { operations: ['homes'], isBestEffort: false, onSecrets: 'report' },
        isDryRun: false,
      }),
    )
    const job = imageJob(HOME, 's1', [{ ...source('a'), cleaned: cleaned('over') }])
    const first = await writeOne(jobs, { ...job, images: job.images.map((one) => ({ ...one, report })) })
    await assertHolds(first.digest, over.bytes)
    assert.deepEqual([under.reads, over.reads.toSorted((a, b) => a - b)], [[], [0, 3, 4, 5, 6, 7, 8]])
    assert.deepEqual(await jobs.report(HOME, first.digest), report)
    // Over a content that the region has: only what either calls changed is read, from the upper one.
    under.write(7, randomBytes(CHUNK_BYTES))
    over.write(7, under.bytes.subarray(7 * CHUNK_BYTES, 8 * CHUNK_BYTES))
    over.changed = new Set([4])
    over.reads.length = 0
    const since = source('a', { digest: (await write('raw', source('a'))).digest })
    over.bytes.copy(under.bytes)
    under.bytes.fill(9, 4 * CHUNK_BYTES, 5 * CHUNK_BYTES)
    const raw = await write('raw-2', source('a'))
    under.changed = new Set([8])
    const held = { ...since, baseline: { ...since.baseline, digest: raw.digest, diskIndex: 0 } }
    const changes = since.baseline?.changes ?? assert.fail('it has a baseline')
    const second = await write('s2', {
      ...held,
      baseline: { ...held.baseline, changes },
      cleaned: cleaned('over'),
    })
    await assertHolds(second.digest, over.bytes)
    assert.deepEqual(
      over.reads.toSorted((a, b) => a - b),
      [4, 8],
    )
    assert.equal(await jobs.report(HOME, second.digest), undefined)
    // Over an image that nothing else changed.
    over.reads.length = 0
    const third = await write('s3', {
      ...held,
      baseline: { ...held.baseline, changes: 'nothing' },
      cleaned: cleaned('over'),
    })
    await assertHolds(third.digest, over.bytes)
    assert.deepEqual([third.digest, over.reads], [second.digest, [4]])
    await assertWhole()
  })

  test('only what changed is read, and the image is the whole disk', async () => {
    const first = await write('s1', source('a'))
    assert.deepEqual(first.diskReadBytes, [DISK_BYTES - 2 * CHUNK_BYTES])
    const a = disk('a')
    a.write(1, randomBytes(CHUNK_BYTES))
    a.write(3, randomBytes(CHUNK_BYTES))
    a.write(5, Buffer.alloc(CHUNK_BYTES))
    a.write(9, randomBytes(512))
    a.reads.length = 0
    const since = { digest: first.digest }
    const [plan] = await jobs.measure(imageJob(HOME, 's2', [source('a', since)]), never())
    const second = await write('s2', source('a', since))
    assert.deepEqual([...new Set(a.reads)].sort(), [1, 3, 9])
    assert.deepEqual(second.diskReadBytes, [2 * CHUNK_BYTES + 512])
    assert.deepEqual(plan, { readBytes: 2 * CHUNK_BYTES + 512, dataBytes: second.dataBytes })
    assert.equal(second.dataBytes, DISK_BYTES - 2 * CHUNK_BYTES)
    await assertHolds(second.digest, a.bytes)
    // The same as of a capture that reads everything.
    assert.equal((await write('s3', source('a'))).digest, second.digest)
    await assertWhole()
  })

  test('what a disk has of its own over a smaller image is read, the rest is the image', async () => {
    const base = await write('s1', source('b'))
    const grown = new Written(Buffer.concat([disk('b').bytes, Buffer.alloc(CHUNK_BYTES + 512)]))
    grown.statuses = [3, 2]
    disks.set('grown', grown)
    grown.write(1, randomBytes(CHUNK_BYTES))
    const made = await write('s2', source('grown', { digest: base.digest, most: 2 }))
    assert.deepEqual(made.diskReadBytes, [CHUNK_BYTES])
    await assertHolds(made.digest, grown.bytes)
    // An image whose last chunk is cut by its end.
    const odd = new Written(randomBytes(CHUNK_BYTES + 512))
    disks.set('odd', odd)
    const small = await write('s3', source('odd'))
    const wide = new Written(Buffer.concat([odd.bytes, Buffer.alloc(2 * CHUNK_BYTES)]))
    wide.statuses = [3, 2]
    disks.set('wide', wide)
    const wider = await write('s4', source('wide', { digest: small.digest, most: 2 }))
    assert.deepEqual(wider.diskReadBytes, [CHUNK_BYTES])
    await assertHolds(wider.digest, wide.bytes)
    await assertWhole()
  })

  test('a chunk that is known to be damaged is read again; an image that is gone is a fault', async () => {
    const first = await write('s1', source('a'))
    const folders = await readdir(join(folder, HOME, 'objects', 'packs'), { recursive: true })
    for (const name of folders.filter((one) => one.length > 64)) {
      await writeFile(join(folder, HOME, 'objects', 'packs', name), 'broken')
    }
    assert.ok((await jobs.scrub(HOME, {}, ignore, never())).damagedCount > 0)
    disk('a').reads.length = 0
    const second = await write('s2', source('a', { digest: first.digest }))
    assert.ok(disk('a').reads.length > 0)
    assert.equal(second.digest, first.digest)
    await assertHolds(second.digest, disk('a').bytes)
    for (const holder of ['image-s1', 'image-s2']) await jobs.release(HOME, holder)
    await collect()
    await assert.rejects(
      write('s3', source('a', { digest: first.digest })),
      (error) => isFault(error, 'absent') && error.subject === 'image',
    )
    await jobs.abort(HOME, 's3')
  })

  test('chunks of another project are never named', async () => {
    const other: WriteJob = { ...imageJob(HOME, 's1', [source('a')]), domain: 'org-b' as DomainId }
    const theirs = await writeOne(jobs, other)
    const ours = await write('s2', source('a', { digest: theirs.digest }))
    assert.deepEqual(ours.diskReadBytes, [DISK_BYTES - 2 * CHUNK_BYTES])
    assert.notEqual(ours.digest, theirs.digest)
    await assertHolds(ours.digest, disk('a').bytes)
  })

  const several = (sessionId: string): WriteJob => {
    const names = ['a', 'b', 'empty-1', 'empty-2']
    const job = imageJob(
      HOME,
      sessionId,
      names.map((name) => source(name)),
    )
    const [image] = job.images
    assert(image !== undefined)
    const of = (...members: number[]) => ({
      ...image,
      disks: members,
      ref: { holder: `image-${sessionId}-${members[0]}`, label: {} },
    })
    return { ...job, images: [of(0, 1), of(2), of(3), of(1)] }
  }

  test('one job makes several images in one commit, also equal ones', async () => {
    const [both, one, two, b] = (await jobs.write(several('s1'), ignore, never())) as WrittenImage[]
    assert(both && one && two && b)
    assert.equal(one.digest, two.digest)
    assert.deepEqual([one.dataBytes, b.dataBytes], [0, 2 * CHUNK_BYTES])
    assert.deepEqual([one.storedBytes, b.storedBytes], [0, 0])
    await assertHolds(both.digest, disk('a').bytes, disk('b').bytes)
    await assertHolds(two.digest, disk('empty-2').bytes)
    assert.equal((await jobs.refs(HOME)).length, 4)
    await assertWhole()
    await jobs.release(HOME, 'image-s1-0')
    await collect()
    await assertHolds(b.digest, disk('b').bytes)
    await assertHolds(one.digest, disk('empty-1').bytes)
    await assertWhole()
  })

  test('an image is composed of disks of others, outlives them, and again is the same', async () => {
    const [, , , b] = (await jobs.write(several('s1'), ignore, never())) as WrittenImage[]
    const a = await write('s2', source('a'))
    assert(b !== undefined)
    const compose = (sessionId: string) =>
      jobs.compose(
        {
          ...{ regionId: HOME, sessionId, domain: 'org-a' as DomainId, consistency: 'crash' },
          disks: [
            { digest: a.digest, diskIndex: 0, bus: 'virtio-scsi', dataBytes: a.dataBytes },
            { digest: b.digest, diskIndex: 0, bus: 'virtio-blk', dataBytes: b.dataBytes },
          ],
          config: { ...PLAIN_CONFIG, cpuCount: 2, memoryBytes: 2 ** 30 },
          ...{ os: { type: 'linux', name: 'x' }, parent: undefined, ref: { holder: sessionId, label: {} } },
        },
        never(),
      )
    const packs = await readdir(join(folder, HOME, 'objects', 'packs'), { recursive: true })
    const made = await compose('c1')
    assert.deepEqual([made.dataBytes, made.storedBytes, made.movedBytes], [a.dataBytes + b.dataBytes, 0, 0])
    assert.equal((await compose('c2')).digest, made.digest)
    assert.deepEqual(await readdir(join(folder, HOME, 'objects', 'packs'), { recursive: true }), packs)
    for (const { holder } of await jobs.refs(HOME)) if (holder !== 'c1') await jobs.release(HOME, holder)
    await collect()
    await assertWhole()
    await assertHolds(made.digest, disk('a').bytes, disk('b').bytes)
    await assert.rejects(compose('c3'), (error) => isFault(error, 'absent'))
    await jobs.abort(HOME, 'c3')
    await assertWhole()
  })

  test('a plan tells what is new, and makes nothing', async () => {
    const plan = () => jobs.plan(imageJob(HOME, 'p', [source('a'), source('b')]), ignore, never())
    const data = DISK_BYTES - 2 * CHUNK_BYTES
    const before = await plan()
    assert.equal(before.newBytes, data + 2 * CHUNK_BYTES)
    assert.deepEqual(before.disks[1], { readBytes: 2 * CHUNK_BYTES, dataBytes: 2 * CHUNK_BYTES })
    assert.deepEqual(await jobs.sessions(HOME), [])
    await write('s1', source('a'))
    disk('b').bytes.copy(disk('b').bytes, CHUNK_BYTES, 0, CHUNK_BYTES)
    assert.equal((await plan()).newBytes, CHUNK_BYTES)
    assert.ok(((await jobs.freeBytes(HOME)) ?? 0) > 0)
  })
})
