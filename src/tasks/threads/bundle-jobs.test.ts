import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { PLAIN_CONFIG } from '../../image/config.ts'
import { isFault } from '../../image/fault.ts'
import type { Digest, DomainId, RegionId } from '../../image/ids.ts'
import { bundleKeys } from '../../store/bundle/keys.ts'
import { ChunkWriter } from '../../store/chunk-writer.ts'
import { newClaims } from '../../store/claims.ts'
import { assertHolds, captureDisks, type TestDisk } from '../../store/disks.fixture.ts'
import { cutPages, newDiskIds } from '../../store/map.ts'
import { pageName } from '../../store/names.ts'
import { verifyRegion } from '../../store/verify.ts'
import type { BlobMap, FilePlace } from '../store-jobs.ts'
import { type BundleParts, bundleStream, pagesOf, pullBundle, readBundle } from './bundle-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'

const CHUNK_BYTES = 256 * 1024
const DOMAIN = 'org-a' as DomainId
const never = () => new AbortController().signal
const ignore = () => {}

describe('bundles in threads', () => {
  let folder: string
  let disks: TestDisk[]
  let digest: Digest
  let file: FilePlace & { is: 'file' }

  /** Each with secrets of its own, and a region of the same name. */
  function installation(
    name: string,
  ): BundleParts & { place: RegionPlace; keys: ReturnType<typeof bundleKeys> } {
    const seed = new Uint8Array(randomBytes(32))
    const place: RegionPlace = {
      regionId: 'hk' as RegionId,
      objects: { kind: 'directory', folder: join(folder, name, 'objects') },
      indexPath: join(folder, name, 'index.db'),
      domainsKey: new Uint8Array(randomBytes(32)),
      regionKey: new Uint8Array(randomBytes(32)),
      isEncrypting: true,
    }
    return { placeOf: () => place, place, seed, keys: bundleKeys(seed) }
  }
  type Installation = ReturnType<typeof installation>
  let here: Installation
  let there: Installation

  const jobFor = (heldPages: Parameters<typeof bundleStream>[1]['heldPages'] = []) => ({
    ...{ regionId: here.place.regionId, digest, heldPages },
    ...{ recipient: there.keys.recipientPublic, label: '{"name":"web"}' },
  })
  const signers = () => [here.keys.signerPublic]
  const bundled = async (job = jobFor()) =>
    Buffer.concat(await Array.fromAsync(bundleStream(here, job, never())))
  const pull = (place: FilePlace, sessionId = 'b') => {
    const ref = { holder: `image-${sessionId}`, label: { is: 'image' } }
    const job = { place, signers: signers(), regionId: there.place.regionId, sessionId, ref }
    return pullBundle(there, job, ignore, never())
  }

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bundle-'))
    here = installation('here')
    there = installation('there')
    file = { is: 'file', path: join(folder, 'web.bundle') }
    // More than is ever under way at once.
    const bytes = Buffer.concat([randomBytes(60 * CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES), randomBytes(512)])
    disks = [{ bytes, chunkBytes: CHUNK_BYTES }]
    const region = await openRegion(here.place)
    digest = (await captureDisks({ region, sessionId: 's', domain: DOMAIN, disks, holder: 'image-s' })).digest
    region.close()
  })
  afterEach(() => rm(folder, { recursive: true }))

  async function assertTaken(): Promise<void> {
    const region = await openRegion(there.place)
    try {
      await assertHolds(region, digest, disks)
      assert.deepEqual((await verifyRegion({ region, deep: true })).problems, [])
      // As a machine's disk is captured there later, in the domain of the same name.
      await captureDisks({
        region,
        sessionId: 'later',
        domain: DOMAIN,
        disks: disks.slice(0, 1),
        holder: 'later',
      })
      assert.deepEqual((await verifyRegion({ region, deep: true })).problems, [])
    } finally {
      region.close()
    }
  }

  test('a file comes over: its facts, its image, and what is new of the next one', async () => {
    const bytes = await bundled()
    await writeFile(file.path, bytes)
    const facts = await readBundle(there, file, signers(), never())
    assert.deepEqual(
      { ...facts, storedBytes: 0 },
      {
        ...{ digest, label: '{"name":"web"}', config: PLAIN_CONFIG, os: { type: 'linux', name: 'Test' } },
        ...{ consistency: 'crash', parent: undefined, storedBytes: 0 },
        disks: [{ sizeBytes: 61 * CHUNK_BYTES + 512, bus: 'virtio-blk', dataBytes: 60 * CHUNK_BYTES + 512 }],
      },
    )
    assert.ok(facts.storedBytes > 60 * CHUNK_BYTES && facts.storedBytes < bytes.length)
    const moved = await pull(file)
    assert.ok(moved.storedBytes > 60 * CHUNK_BYTES && moved.movedBytes >= moved.storedBytes)
    await assertTaken()

    const target = await openRegion(there.place)
    const heldPages = await pagesOf(target, [digest])
    assert.equal(heldPages.length, 1)
    await assert.rejects(pagesOf(target, ['ab'.repeat(32) as Digest]), (error) => isFault(error, 'absent'))
    target.close()
    const region = await openRegion(here.place)
    const [disk] = disks as [TestDisk]
    randomBytes(100).copy(disk.bytes, 7 * CHUNK_BYTES)
    digest = (await captureDisks({ region, sessionId: 't', domain: DOMAIN, disks, holder: 'image-t' })).digest
    region.close()
    const delta = await bundled(jobFor(heldPages))
    assert.ok(delta.length < 2 * CHUNK_BYTES, `${delta.length} bytes`)
    await writeFile(file.path, delta)
    await pull(file, 'b2')
    await assertTaken()
  })

  test('a bundle that came over the network, and lies in chunks of the region itself', async () => {
    const bytes = await bundled()
    const region = await openRegion(there.place)
    await region.openSession('upload', DOMAIN)
    const claims = newClaims(1000)
    const writer = await ChunkWriter.open({
      ...{ region, sessionId: 'upload', domain: DOMAIN, chunkBytes: CHUNK_BYTES, claims },
    })
    const ids = newDiskIds(bytes.length, CHUNK_BYTES)
    for (let index = 0; index * CHUNK_BYTES < bytes.length; index++) {
      await writer.feed(ids, index, bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES))
    }
    await writer.finish()
    const pages: BlobMap['pages'][number][] = []
    for (const { id, bytes: page } of cutPages(ids)) {
      pages.push(id)
      if (page !== undefined) await region.putObject('upload', pageName(id), page)
    }
    const place: FilePlace = {
      ...{ is: 'blob', regionId: there.place.regionId, sessionId: 'upload' },
      map: { sizeBytes: bytes.length, chunkBytes: CHUNK_BYTES, pages },
    }
    assert.equal((await readBundle(there, place, signers(), never())).digest, digest)
    await pull(place)
    await region.abortSession('upload')
    region.close()
    await assertTaken()
  })

  test('who leaves early, stops it, or asks for what is not there, waits for no thread', async () => {
    const stream = bundleStream(here, jobFor(), never())
    await stream.next()
    await stream.return(undefined)
    const abort = new AbortController()
    const stopped = bundleStream(here, jobFor(), abort.signal)
    await stopped.next()
    abort.abort(new Error('enough'))
    await assert.rejects(Array.fromAsync(stopped), /enough/)
    const absent = bundleStream(here, { ...jobFor(), digest: 'ab'.repeat(32) as Digest }, never())
    await assert.rejects(
      Array.fromAsync(absent),
      (error) => isFault(error, 'absent') && error.subject === 'image',
    )
  })

  test('what is no bundle, no file, or not ours', async () => {
    const read = (path: string, believed = signers()) =>
      readBundle(there, { is: 'file', path }, believed, never())
    await writeFile(file.path, 'no bundle')
    await assert.rejects(read(file.path), (error) => isFault(error, 'invalid') && error.subject === 'file')
    await writeFile(file.path, await bundled())
    await assert.rejects(
      read(file.path, []),
      (error) => isFault(error, 'denied') && error.reason === 'signer',
    )
    await assert.rejects(
      readBundle(here, file, [], never()),
      (error) => isFault(error, 'invalid') && error.reason === 'recipient',
    )
    await assert.rejects(read(join(folder, 'none')), (error) => isFault(error, 'absent'))
    await symlink(file.path, join(folder, 'link'))
    await mkdir(join(folder, 'folder'))
    await promisify(execFile)('mkfifo', [join(folder, 'pipe')])
    for (const name of ['link', 'folder', 'pipe']) {
      await assert.rejects(read(join(folder, name)), (error) => isFault(error, 'invalid'), name)
    }
  })
})
