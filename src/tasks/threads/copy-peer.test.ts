import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { memoryDisk } from '../../disk/memory-disk.ts'
import { serveNbd } from '../../disk/nbd-server.ts'
import { isFault } from '../../image/fault.ts'
import type { DomainId, RegionId } from '../../image/ids.ts'
import { fingerprintOf, makeIdentity } from '../../peers/identity.ts'
import type { PullJob, StoreJobs, WrittenImage } from '../store-jobs.ts'
import { imageJob, writeOne } from './jobs.fixture.ts'
import { createJobs } from './jobs.ts'
import { type PeerEndpoint, startPeerEndpoint } from './peer-endpoint.ts'

const [THEIRS, OURS] = ['theirs', 'ours'] as [RegionId, RegionId]
const CHUNK_BYTES = 256 * 1024
/** One has a hole, the other ends within a chunk. */
const DISKS = [
  Buffer.concat([randomBytes(3 * CHUNK_BYTES), Buffer.alloc(2 * CHUNK_BYTES), randomBytes(CHUNK_BYTES)]),
  randomBytes(2 * CHUNK_BYTES + 4096),
]
const never = () => new AbortController().signal

let folder: string
let made: WrittenImage
let endpoint: PeerEndpoint
let ours: StoreJobs
const [theirIdentity, ourIdentity] = [makeIdentity(), makeIdentity()]
const closers: (() => Promise<unknown>)[] = []

/** An installation of one region. */
function placeOf(regionId: RegionId) {
  return {
    regionId,
    objects: { kind: 'directory' as const, folder: join(folder, regionId, 'objects') },
    indexPath: join(folder, regionId, 'index.db'),
    domainsKey: new Uint8Array(randomBytes(32)),
    regionKey: new Uint8Array(randomBytes(32)),
    isEncrypting: true,
  }
}
let place: ReturnType<typeof placeOf>

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'copy-peer-'))
  const socketPath = join(folder, 'disk.sock')
  const resolve = async (name: string) => memoryDisk(DISKS[Number(name)] as Buffer)
  const server = await serveNbd({ listen: { socketPath }, resolve })
  const theirPlace = placeOf(THEIRS)
  place = placeOf(OURS)
  const plain = { bundleSeed: new Uint8Array(32), threadCount: 1, log: () => {} }
  const theirs = createJobs({ ...plain, places: [theirPlace], nbdSocketPath: join(folder, 'theirs.sock') })
  await theirs.prepare()
  const disks = DISKS.map(({ length }, i) => ({
    ...{ sizeBytes: length, bus: 'virtio-blk' as const, socketPath },
    ...{ exportName: String(i), mapName: String(i) },
  }))
  made = await writeOne(theirs, imageJob(THEIRS, 's1', disks))
  endpoint = await startPeerEndpoint(
    {
      ...{ places: [theirPlace], listen: { host: '127.0.0.1', port: 0 }, identity: theirIdentity },
      readers: new Map([
        [fingerprintOf(ourIdentity.certificate), { name: 'us', projects: 'all', regions: 'all' }],
      ]),
    },
    { image: () => Promise.reject(new Error('nobody asks')), mayRead: async () => true },
    () => {},
  )
  const fingerprint = fingerprintOf(theirIdentity.certificate)
  const peer = { name: 'them', url: endpoint.url, fingerprint, ...ourIdentity }
  ours = createJobs({
    ...{ ...plain, places: [place], nbdSocketPath: join(folder, 'ours.sock') },
    ...{ peers: [peer], cacheFolder: join(folder, 'cache') },
  })
  await ours.prepare()
  closers.push(
    () => ours.close(),
    () => endpoint.close(),
    () => theirs.close(),
    () => server.close(),
  )
})
after(async () => {
  for (const close of closers) await close()
  await rm(folder, { recursive: true })
})

const job = (sessionId: string, diskSizesBytes = DISKS.map(({ length }) => length)): PullJob => ({
  ...{ source: { is: 'peer', peer: 'them', regionId: THEIRS }, targetRegionId: OURS },
  ...{ digest: made.digest, sessionId, isShared: false, diskSizesBytes },
  // What the peer said of it.
  ref: { holder: `image-${sessionId}`, label: { is: 'image', dataBytes: 0 } },
})

test('a content that has other disks than its peer said is not moved', async () => {
  const [one = 0, two = 0] = DISKS.map(({ length }) => length)
  for (const sizes of [[one], [one, two, 4096], [two, one], [one, two + 512], []]) {
    const isRefused = (error: unknown) => {
      assert.ok(isFault(error, 'corrupt') && error.subject === 'peer')
      return error.message.startsWith(`Peer them says that the image has disks of ${sizes.join(', ')}`)
    }
    const wrong = job('wrong', sizes)
    await assert.rejects(ours.planPull(wrong, never()), isRefused)
    await assert.rejects(
      ours.pull(wrong, () => {}, never()),
      isRefused,
    )
    await assert.rejects(
      ours.rekey({ ...wrong, domain: 'org-b' as DomainId }, () => {}, never()),
      isRefused,
    )
  }
  assert.deepEqual(await ours.sessions(OURS), [])
})

test('what an image of a peer holds is counted, in the answer and in its ref', async () => {
  assert.equal((await ours.planPull(job('p1'), never())).dataBytes, made.dataBytes)
  assert.equal((await ours.pull(job('p1'), () => {}, never())).dataBytes, made.dataBytes)
  // All of it is there by now.
  assert.equal((await ours.pull(job('p2'), () => {}, never())).dataBytes, made.dataBytes)
  const rekeyed = await ours.rekey({ ...job('p3'), domain: 'org-b' as DomainId }, () => {}, never())
  assert.equal(rekeyed.dataBytes, made.dataBytes)
  const { refs } = await ours.survey(OURS, () => {}, never())
  assert.deepEqual(
    refs.map((ref) => 'label' in ref && [ref.holder, (ref.label as { dataBytes: number }).dataBytes]).sort(),
    ['p1', 'p2', 'p3'].map((sessionId) => [`image-${sessionId}`, made.dataBytes]),
  )
})
