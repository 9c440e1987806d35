import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest } from '../image/ids.ts'
import { assertSound, installation, seededDisk } from '../store/bundle/bundle.fixture.ts'
import { bindObject } from '../store/capture.ts'
import { assertHolds, captureDisks, type TestDisk } from '../store/disks.fixture.ts'
import { encodeImage } from '../store/image.ts'
import { PAGE_BYTES } from '../store/map.ts'
import { PUBLIC_DOMAIN, pageName, signatureName } from '../store/names.ts'
import { planPull, pullImage } from '../store/pull.ts'
import { pullSuite } from '../store/pull-suite.ts'
import {
  directoryRegion,
  memoryRegion,
  objectNames,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from '../store/region.fixture.ts'
import { encodeSignature } from '../store/signature.ts'
import { openPeerSource } from './client.ts'
import { REGION, servePeer, type TestPeer } from './peer.fixture.ts'

const seeds = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

const capture = (region: TestRegion, sessionId: string, disks: readonly TestDisk[], domain = TEST_DOMAIN) =>
  captureDisks({ region: region.store, sessionId, domain, disks })

async function pull(peer: TestPeer, target: TestRegion, digest: Digest, sessionId = 'p') {
  const source = await peer.source(target.store, digest)
  try {
    return await pullImage({ source, target: target.store, digest, sessionId })
  } finally {
    source.close()
  }
}

async function withPeer(
  regions: Parameters<typeof withRegions>[0],
  body: (peer: TestPeer, ...regions: TestRegion[]) => Promise<void>,
): Promise<void> {
  await withRegions(regions, async (one, ...others) => {
    const peer = await servePeer(() => (one as TestRegion).store)
    try {
      await body(peer, one as TestRegion, ...others)
      assert.deepEqual(peer.errors, [])
    } finally {
      await peer.close()
    }
  })
}

const earth = installation(1)
const mars = installation(2)

for (const [what, ours] of [
  ['another installation', mars.make],
  ['an installation of the same keys', earth.make],
] as const) {
  pullSuite(`over HTTPS from ${what}`, async () => {
    const [source, target] = [await earth.make(), await ours()]
    const peer = await servePeer(() => source.store)
    const opened: { close(): void }[] = []
    return {
      // Whoever writes there is not one of ours: every chunk is checked whole, and none is taken as it is.
      ...{ source, target, options: {} },
      async open(digest) {
        const region = await peer.source(target.store, digest)
        opened.push(region)
        return region
      },
      async dispose() {
        for (const one of opened) one.close()
        await peer.close()
        for (const region of [source, target]) await region.dispose()
      },
    }
  })
}

for (const [what, make] of [
  ['memory', memoryRegion],
  ['directories', directoryRegion],
] as const) {
  test(`in ${what}: an image of a peer comes over with its digest, and its next version brings what is new alone`, () =>
    withPeer([installation(1, make).make, installation(2, make).make], async (peer, one, two) => {
      const version1 = [seededDisk([...seeds(1, 20), 0, 0, 3]), seededDisk([5, 0, 90])]
      const first = await capture(one, 's1', version1)
      const source = await peer.source(two.store, first.digest)
      const plan = await planPull({ source, target: two.store, digest: first.digest })
      source.close()
      const moved = await pull(peer, two, first.digest, 'p1')
      assert.equal(moved.chunksMoved, 21)
      assert.equal(plan.missingChunkCount, 21)
      await assertHolds(two.store, first.digest, version1)
      const version2 = [seededDisk([...seeds(1, 18), 70, 71, 0, 0, 3]), seededDisk([5, 0, 90])]
      const second = await capture(one, 's2', version2)
      const delta = await pull(peer, two, second.digest, 'p2')
      assert.equal(delta.chunksMoved, 2)
      assert.ok(delta.bytesReused > 0)
      assert.equal((await pull(peer, two, second.digest, 'p3')).bytesMoved, 0)
      await assertHolds(two.store, second.digest, version2)
      await assertSound(two)
      assert.deepEqual(two.store.listSessions(), [])
    }))
}

test('domains of the same name never meet, and public chunks come along', () =>
  withPeer([earth.make, mars.make], async (peer, one, two) => {
    const own = [seededDisk(seeds(1, 5))]
    const ours = await capture(two, 's0', own)
    await capture(one, 's0', [seededDisk([1, 2, 3])], PUBLIC_DOMAIN)
    const disks = [seededDisk([1, 2, 5, 7])]
    const { digest } = await capture(one, 's1', disks)
    await pull(peer, two, digest)
    await assertHolds(two.store, digest, disks)
    await assertHolds(two.store, ours.digest, own)
    await assertSound(two)
    const keys = (await Array.fromAsync(two.objects.list('keys/'))).map((name) => name.split('/')[1])
    assert.equal(new Set(keys.filter((name) => name?.startsWith('foreign-'))).size, 2)
  }))

test('an image goes on to a third, and comes back to where it was made without a byte', () =>
  withPeer([earth.make, mars.make, installation(3).make], async (peer, one, two, three) => {
    const disks = [seededDisk(seeds(1, 6))]
    const { digest } = await capture(one, 's1', disks)
    await pull(peer, two, digest)
    const next = await servePeer(() => two.store)
    try {
      await pull(next, three, digest)
      await assertHolds(three.store, digest, disks)
      await assertSound(three)
      assert.equal((await pull(next, one, digest)).chunksMoved, 0)
      await assertSound(one)
    } finally {
      await next.close()
    }
  }))

test('a copy that is broken off goes on with what is missing', () =>
  withPeer([earth.make, mars.make], async (peer, one, two) => {
    const disks = [seededDisk(seeds(1, 40).map((seed) => 2 * seed + 1))]
    const { digest } = await capture(one, 's1', disks)
    const source = await peer.source(two.store, digest)
    let count = 0
    const dying = {
      ...source,
      objects: {
        ...source.objects,
        get: async (...wish: Parameters<typeof source.objects.get>) => {
          if (wish[0].startsWith('packs/') && ++count > 8) throw new Error('killed')
          return source.objects.get(...wish)
        },
      },
    }
    const limits = { rangeBytesMax: 130_000, readsMax: 2 }
    const target = two.store
    await assert.rejects(pullImage({ source: dying, target, digest, sessionId: 'p', limits }), /killed/)
    source.close()
    await two.reopen()
    const rest = await pull(peer, two, digest)
    assert.ok(rest.chunksMoved > 0 && rest.chunksMoved < 40)
    await assertHolds(two.store, digest, disks)
    await assertSound(two)
  }))

test('an id gives nobody the bytes of a domain whose keys he does not have', () =>
  withPeer([earth.make, mars.make], async (peer, one, two) => {
    const { digest } = await capture(two, 's1', [seededDisk([1, 3, 5])])
    const before = await objectNames(two.objects)
    const forged = await forgeImage(one, two, digest)
    await assert.rejects(
      pull(peer, two, forged),
      (error) => isFault(error, 'denied') && error.subject === 'peer' && /does not have/.test(error.message),
    )
    assert.deepEqual(await objectNames(two.objects), before)
  }))

/** An image of the maker's own, signed by him, of which he has the map alone: its chunks are the victim's. */
async function forgeImage(maker: TestRegion, victim: TestRegion, digest: Digest): Promise<Digest> {
  const image = { ...(await victim.store.getImage(digest)), os: { type: 'linux', name: 'forged' } as const }
  const { bytes, digest: forged } = encodeImage(image)
  const domain = await maker.store.ensureDomain(image.domain)
  await maker.store.openSession('f', image.domain)
  for (const id of new Set(image.disks.flatMap((disk) => disk.pages))) {
    const name = pageName(id)
    await maker.store.putObject('f', name, await victim.objects.get(name, 0, PAGE_BYTES))
  }
  await maker.store.putObject('f', signatureName(forged), encodeSignature(domain.sign(bytes)))
  const holds = maker.store.holdsOf('f')
  const bound = new Set<number>()
  const names = [signatureName(forged), ...image.disks.flatMap((disk) => disk.pages.map(pageName))]
  for (const name of names) bindObject(holds, name, bound)
  await maker.store.putImage('f', forged, bytes, bound)
  maker.store.commitSession('f')
  return forged
}

test('a bit that is wrong at the source, a pack that is gone, an image it never had: all are named', () =>
  withPeer([earth.make, mars.make], async (peer, one, two) => {
    const { digest } = await capture(one, 's1', [seededDisk(seeds(1, 10))])
    const missing = 'ab'.repeat(32) as Digest
    await assert.rejects(
      pull(peer, two, missing),
      (error) => isFault(error, 'absent') && error.subject === 'image',
    )
    const { objects } = one
    const get: typeof objects.get = async (name, ...where) => {
      const bytes = await objects.get(name, ...where)
      const middle = bytes.length >> 1
      if (name.startsWith('packs/')) bytes[middle] = (bytes[middle] as number) ^ 4
      return bytes
    }
    const flipping = { traits: objects.traits, size: objects.size.bind(objects), get }
    Object.defineProperty(one.store, 'objects', { value: flipping, configurable: true })
    await assert.rejects(
      pull(peer, two, digest),
      (error) => isFault(error, 'corrupt') && /Chunk [0-9a-f]{64} at byte \d+ of pack/.test(error.message),
    )
    Object.defineProperty(one.store, 'objects', { value: objects })
    for (const name of await Array.fromAsync(objects.list('packs/'))) await objects.remove(name)
    await assert.rejects(pull(peer, two, digest), (error) => isFault(error, 'corrupt'))
    await two.store.abortSession('p')
    assert.deepEqual(await objectNames(two.objects), [])
  }))

test('a copy that is cancelled stops and can be undone', () =>
  withPeer([earth.make, mars.make], async (peer, one, two) => {
    const { digest } = await capture(one, 's1', [seededDisk(seeds(1, 30))])
    const abort = new AbortController()
    const { signal } = abort
    const source = await openPeerSource(peer.place, REGION, two.store, digest, signal)
    const counting = {
      ...source,
      objects: {
        ...source.objects,
        get: async (...wish: Parameters<typeof source.objects.get>) => {
          const answer = source.objects.get(...wish)
          if (wish[0].startsWith('packs/')) abort.abort()
          return answer
        },
      },
    }
    const wish = { source: counting, target: two.store, digest, sessionId: 'p', signal }
    await assert.rejects(pullImage(wish), (error) => error === signal.reason)
    source.close()
    await two.store.abortSession('p')
    assert.deepEqual(await objectNames(two.objects), [])
  }))
