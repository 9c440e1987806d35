import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../../image/fault.ts'
import type { DomainId } from '../../image/ids.ts'
import { MemoryObjects } from '../../objects/memory.ts'
import { commitImage } from '../capture.ts'
import { assertHolds, captureDisks, writeDisks } from '../disks.fixture.ts'
import { collectGarbage } from '../gc.ts'
import { domainsOf } from '../key-check.ts'
import { PUBLIC_DOMAIN } from '../names.ts'
import { pullImage } from '../pull.ts'
import {
  directoryRegion,
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  withRegions,
} from '../region.fixture.ts'
import {
  assertSound,
  bundleOf,
  installation,
  isNamed,
  openFrom,
  pagesHeld,
  pullFrom,
  seededDisk,
} from './bundle.fixture.ts'
import { foreignDomain, reportDomainOf } from './foreign.ts'
import { openBundle } from './open.ts'

const CHUNK = TEST_CHUNK_BYTES
const seeds = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)
const one = installation(1)
const two = installation(2)
const three = installation(3)

for (const [what, here, there] of [
  ['in memory', one, two],
  ['in directories', installation(1, directoryRegion), installation(2, directoryRegion)],
] as const) {
  test(`${what}: an image comes over with its digest, and its next version brings what is new alone`, () =>
    withRegions([here.make, there.make], async (source, target) => {
      const disks = [seededDisk([...seeds(1, 20), 0, 0, 3]), seededDisk([5, 0, 90])]
      const capture = (sessionId: string, of: typeof disks) =>
        captureDisks({ region: source.store, sessionId, domain: TEST_DOMAIN, disks: of })
      const first = await capture('s1', disks)
      const bytes = await bundleOf(source, here, there, { digest: first.digest })
      assert.ok(bytes.equals(await bundleOf(source, here, there, { digest: first.digest })), 'made twice')
      const bundle = await openFrom(bytes, there, here)
      assert.deepEqual(bundle.image, first.content)
      assert.deepEqual(bundle.statement.dataBytes, [21 * CHUNK, 2 * CHUNK])
      assert.equal(bundle.statement.label, '{"name":"web"}')
      assert.ok(bundle.storedBytes > 10 * CHUNK && bundle.storedBytes < bytes.length)
      const moved = await pullFrom(bytes, target, there, here, 'b1')
      assert.equal(moved.chunksMoved, 21)
      await assertHolds(target.store, first.digest, disks)
      await assertSound(target)

      const changed = [seededDisk([...seeds(1, 18), 70, 71, 0, 0, 3]), seededDisk([5, 0, 90])]
      const second = await capture('s2', changed)
      const heldPages = await pagesHeld(target, first.digest)
      const delta = await bundleOf(source, here, there, { digest: second.digest, heldPages })
      const onlyNew = (await openFrom(delta, there, here)).storedBytes
      assert.ok(
        onlyNew > CHUNK && onlyNew < 2 * CHUNK,
        `${onlyNew} bytes of two chunks, one of which packs well`,
      )
      assert.equal((await pullFrom(delta, target, there, here, 'b2')).chunksMoved, 2)
      await assertHolds(target.store, second.digest, changed)
      // Again, and where it came from: nothing moves.
      assert.equal((await pullFrom(delta, target, there, here, 'b3')).bytesMoved, 0)
      assert.deepEqual(target.store.listSessions(), [])
      await assertSound(target)
    }))
}

test('keys that differ never meet under one name, and everything goes on', () =>
  withRegions([one.make, two.make, two.make], async (source, target, other) => {
    const shared = { sessionId: 's0', domain: PUBLIC_DOMAIN }
    const publicDisk = seededDisk([1, 2, 3, 4])
    await captureDisks({ ...shared, region: source.store, disks: [publicDisk] })
    const ownPublic = await captureDisks({ ...shared, region: target.store, disks: [seededDisk([1, 9])] })
    // Chunks of two domains, and both names are in use at the other end.
    const disks = [seededDisk([1, 2, 30, 31])]
    const { digest } = await captureDisks({
      ...{ region: source.store, sessionId: 's1', domain: TEST_DOMAIN, disks },
    })
    const own = { region: target.store, sessionId: 's2', domain: TEST_DOMAIN, disks: [seededDisk([1, 40])] }
    const ownImage = await captureDisks({ ...own, holder: 'own' })
    await pullFrom(await bundleOf(source, one, two, { digest }), target, two, one)
    const named = await Promise.all(
      [PUBLIC_DOMAIN, TEST_DOMAIN].map(async (domain) =>
        foreignDomain(await source.store.getSecrets(domain)),
      ),
    )
    assert.deepEqual(
      domainsOf(target.store).sort(),
      [PUBLIC_DOMAIN, TEST_DOMAIN, ...named].sort(),
      'both under the names of foreign domains',
    )
    await target.reopen()
    await assertHolds(target.store, digest, disks)
    await assertHolds(target.store, ownImage.digest, own.disks)
    await assertSound(target)
    // A new process writes to both of its own domains as before, finds none of its chunks among theirs, and adds to them.
    const later = await captureDisks({
      ...own,
      region: target.store,
      sessionId: 's3',
      disks: [seededDisk([30, 1, 41])],
    })
    assert.equal(later.counts.newBytes, 2 * CHUNK, 'what is public here is found, and nothing foreign')
    // To another region of the same installation, as any image.
    await pullImage({ source: target.store, target: other.store, digest, sessionId: 'p' })
    await assertHolds(other.store, digest, disks)
    await assertSound(other)
    // The image public here may go, and the rest stays.
    await collectGarbage({ region: target.store, graceMs: 0, isDryRun: false, deadSessions: [] })
    assert.equal(target.store.hasImage(ownPublic.digest), false)
    await assertHolds(target.store, digest, disks)
    await target.store.rebuildIndex()
    await assertHolds(target.store, digest, disks)
    await assertSound(target)
  }))

test('nothing of a bundle is left when nobody needs its image', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { digest } = await captureDisks({
      ...{ region: source.store, sessionId: 's', domain: TEST_DOMAIN, disks: [seededDisk(seeds(1, 9))] },
    })
    await pullFrom(await bundleOf(source, one, two, { digest }), target, two, one, 'b')
    await target.store.dropRef('h-b')
    const collect = () =>
      collectGarbage({ ...{ region: target.store, graceMs: 0, isDryRun: false, deadSessions: [] } })
    await collect()
    await collect()
    assert.deepEqual(await objectNames(target.objects), [])
  }))

test('an image goes on to a third, and comes back to where it was made', () =>
  withRegions([one.make, two.make, three.make], async (first, second, third) => {
    const disks = [seededDisk([1, 2, 3, 4])]
    const made = await captureDisks({ region: first.store, sessionId: 's', domain: TEST_DOMAIN, disks })
    const { digest } = made
    await pullFrom(await bundleOf(first, one, two, { digest }), second, two, one)
    await pullFrom(await bundleOf(second, two, three, { digest }), third, three, two)
    await assertHolds(third.store, digest, disks)
    await assertSound(third)
    const heldPages = await pagesHeld(first, digest)
    const back = await bundleOf(third, three, one, { digest, heldPages })
    assert.equal((await openFrom(back, one, three)).storedBytes, 0)
    assert.equal((await pullFrom(back, first, one, three)).bytesMoved, 0)
    // Of an installation that keeps the same secrets, nothing is foreign.
    await withRegions([one.make], async (twin) => {
      await pullFrom(await bundleOf(first, one, one, { digest }), twin, one, one)
      assert.deepEqual(domainsOf(twin.store), [TEST_DOMAIN])
      await assertSound(twin)
    })
  }))

test('chunks that the other side was wrongly said to have: nothing is written', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const disks = [seededDisk(seeds(1, 12))]
    const { digest } = await captureDisks({
      region: source.store,
      sessionId: 's',
      domain: TEST_DOMAIN,
      disks,
    })
    const next = [seededDisk([...seeds(1, 11), 60])]
    const { digest: after } = await captureDisks({
      ...{ region: source.store, sessionId: 't', domain: TEST_DOMAIN, disks: next },
    })
    for (const heldPages of [await pagesHeld(source, digest), await pagesHeld(source, after)]) {
      const bytes = await bundleOf(source, one, two, { digest: after, heldPages })
      await assert.rejects(pullFrom(bytes, target, two, one), (error) => {
        assert.ok(isFault(error, 'conflict') && error.subject === 'file' && error.reason === 'inventory')
        return isNamed(error)
      })
      await target.store.abortSession('b')
      assert.deepEqual(await objectNames(target.objects), [])
    }
  }))

test('an id gives nobody the bytes of a domain whose keys he does not have', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const disks = [seededDisk(seeds(1, 5))]
    const { digest } = await captureDisks({
      region: source.store,
      sessionId: 's',
      domain: TEST_DOMAIN,
      disks,
    })
    // The same keys for ids, so that the target holds the very chunks that the map names; but not the same domain.
    const { idKey } = await source.store.getSecrets(TEST_DOMAIN)
    const secretsOf = () => ({ idKey, dataKey: new Uint8Array(32).fill(7) })
    await target.reopen(target.objects, { secretsOf })
    await captureDisks({ region: target.store, sessionId: 's', domain: 'org-other' as DomainId, disks })
    const heldPages = await pagesHeld(source, digest)
    const bytes = await bundleOf(source, one, two, { digest, heldPages })
    await assert.rejects(pullFrom(bytes, target, two, one), (error) => isFault(error, 'conflict'))
  }))

test('a bundle for somebody else, or by somebody whom nobody here knows', () =>
  withRegions([one.make], async (source) => {
    const { digest } = await captureDisks({
      ...{ region: source.store, sessionId: 's', domain: TEST_DOMAIN, disks: [seededDisk([1])] },
    })
    const bytes = await bundleOf(source, one, two, { digest })
    await assert.rejects(
      openFrom(bytes, three, one),
      (error) => isFault(error, 'invalid') && error.subject === 'file' && error.reason === 'recipient',
    )
    await assert.rejects(
      openFrom(bytes, two, three),
      (error) => isFault(error, 'denied') && error.subject === 'file' && error.reason === 'signer',
    )
    // Its own are always believed.
    const own = await bundleOf(source, one, one, { digest })
    assert.equal((await openFrom(own, one, three)).image.domain, TEST_DOMAIN)
    for (const recipient of ['', 'ab', '00'.repeat(32), 'AB'.repeat(32), 'zz'.repeat(32)]) {
      await assert.rejects(bundleOf(source, one, two, { digest, recipient }), (error) =>
        isFault(error, 'invalid'),
      )
    }
    await assert.rejects(
      bundleOf(source, one, two, { digest: 'ab'.repeat(32) as typeof digest }),
      (error) => isFault(error, 'absent') && error.subject === 'image',
    )
  }))

test('the report of a cleaned image is readable where it comes to', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const capture = { region: source.store, sessionId: 's', domain: TEST_DOMAIN, disks: [seededDisk([1, 2])] }
    const { image } = await writeDisks(capture)
    const { digest } = await commitImage(source.store, 's', { ...image, report: '{"users":["ann"]}' })
    await pullFrom(await bundleOf(source, one, two, { digest }), target, two, one)
    for (const region of [source, target]) {
      const content = await region.store.getImage(digest)
      const domain = await reportDomainOf(region.store, content)
      assert.equal(domain.openReport(content.report as string), '{"users":["ann"]}')
    }
    await assertSound(target)
  }))

test('what is damaged here is not sent', () =>
  withRegions([one.make], async (source) => {
    const { digest } = await captureDisks({
      ...{ region: source.store, sessionId: 's', domain: TEST_DOMAIN, disks: [seededDisk([1, 3, 5, 7])] },
    })
    class Damaged extends MemoryObjects {
      override async get(...[name, ...rest]: Parameters<MemoryObjects['get']>) {
        const bytes = await source.objects.get(name, ...rest)
        if (name.startsWith('packs/') && bytes.length > 1000) bytes[500] = (bytes[500] as number) ^ 1
        return bytes
      }
      override size(...args: Parameters<MemoryObjects['size']>) {
        return source.objects.size(...args)
      }
      override list(...args: Parameters<MemoryObjects['list']>) {
        return source.objects.list(...args)
      }
    }
    const objects = new Damaged()
    await source.reopen(objects)
    await assert.rejects(bundleOf(source, one, two, { digest }), (error) => {
      assert.ok(isFault(error, 'corrupt'))
      assert.match(error.message, /^Chunk [0-9a-f]{64} at byte \d+ of pack/)
      return true
    })
  }))

test('a source that stops, and a pull that is cancelled, are told as such', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { digest } = await captureDisks({
      ...{ region: source.store, sessionId: 's', domain: TEST_DOMAIN, disks: [seededDisk(seeds(1, 9))] },
    })
    const bytes = await bundleOf(source, one, two, { digest })
    const failing = {
      sizeBytes: bytes.length,
      read: async () => {
        throw new Error('the disk was pulled out')
      },
    }
    await assert.rejects(openBundle(failing, two.keys, [one.keys.signerPublic]), /pulled out/)
    const abort = new AbortController()
    const stream = bundleOf(source, one, two, { digest, signal: abort.signal })
    abort.abort(new Error('enough'))
    await assert.rejects(stream, /enough/)
    assert.deepEqual(await objectNames(target.objects), [])
  }))
