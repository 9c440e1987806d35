import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import { test } from 'node:test'
import { connect } from 'node:tls'
import { isFault } from '../image/fault.ts'
import type { Digest, DomainId, ImageId } from '../image/ids.ts'
import { packName, signatureName } from '../store/names.ts'
import { TEST_DOMAIN } from '../store/region.fixture.ts'
import { openPeerClient } from './client.ts'
import type { PeerPlace } from './contract.ts'
import { makeIdentity } from './identity.ts'
import { FACTS, IMAGE_ID, OURS, REGION } from './peer.fixture.ts'
import { OBJECT_BYTES_MAX } from './words.ts'
import { ask, withWorld } from './world.fixture.ts'

const client = (place: PeerPlace, test: (peer: ReturnType<typeof openPeerClient>) => Promise<void>) => {
  const peer = openPeerClient(place)
  return test(peer).finally(() => peer.close())
}

test('a peer reads regions, an image, and everything of its content', () =>
  withWorld(({ peer, region, digest, page, pack, id }) =>
    client(peer.place, async (mars) => {
      assert.deepEqual(await mars.regions(), [REGION])
      assert.deepEqual(await mars.image(REGION, IMAGE_ID), { id: IMAGE_ID, digest, facts: FACTS })
      const source = mars.region(REGION, digest)
      assert.deepEqual(await source.getImage(digest), await region.store.getImage(digest))
      assert.deepEqual(await source.getSecrets(TEST_DOMAIN), await region.store.getSecrets(TEST_DOMAIN))
      const table = await source.locate(Buffer.concat([id, Buffer.alloc(32, 1)]))
      assert.deepEqual([...table.packIndex], [0, -1])
      assert.deepEqual(
        table.packs.map((one) => packName(one.id)),
        [pack],
      )
      assert.equal((await source.locate(Buffer.alloc(0))).packIndex.length, 0)
      for (const name of [page, pack, signatureName(digest)]) {
        const sizeBytes = (await region.objects.size(name)) as number
        assert.equal(await source.objects.size(name), sizeBytes)
        const bytes = await source.objects.get(name, 0, sizeBytes)
        assert.ok(bytes.equals(await region.objects.get(name, 0, sizeBytes)))
        assert.ok((await source.objects.get(name, 7, 9)).equals(bytes.subarray(7, 16)))
        await assert.rejects(source.objects.get(name, 1, sizeBytes), (error) => isFault(error, 'corrupt'))
      }
      await region.objects.remove(pack)
      assert.equal(await source.objects.size(pack), undefined)
      await assert.rejects(
        source.objects.get(pack, 0, 10),
        (error) => isFault(error, 'absent') && error.subject === 'store',
      )
    }),
  ))

test('who shows no certificate, or one that nobody knows, is refused before his request is read', () =>
  withWorld(async ({ peer }) => {
    const { hostname, port } = new URL(peer.url)
    const stranger = makeIdentity()
    for (const shown of [{}, { cert: stranger.certificate, key: stranger.key }]) {
      const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false, ...shown })
      // Not a word was said by us when the answer is there.
      const answer = Buffer.concat(await socket.toArray()).toString()
      assert.match(answer, /^HTTP\/1.1 403 Forbidden\r\ncalotype-fault: denied peer\r\nContent-Length: 0\r\n/)
    }
    // The certificate that is known, by somebody who does not have its key.
    const forged = connect({
      ...{ host: hostname, port: Number(port), rejectUnauthorized: false, cert: OURS.certificate },
    })
    assert.match(Buffer.concat(await forged.toArray()).toString(), /^HTTP\/1.1 403 /)
    await client({ ...peer.place, ...stranger }, async (mars) => {
      await assert.rejects(
        mars.regions(),
        (error) =>
          isFault(error, 'denied') && error.subject === 'peer' && /peer identity/.test(error.message),
      )
    })
    assert.deepEqual(peer.errors, [])
  }))

test('whatever is no TLS 1.3 gets nothing', () =>
  withWorld(async ({ peer }) => {
    const { hostname, port } = new URL(peer.url)
    const plain = connectPlain({ host: hostname, port: Number(port) })
    plain.end('GET /peer/v1/regions HTTP/1.1\r\nHost: x\r\n\r\n')
    const said = await plain.toArray().catch(() => [])
    assert.doesNotMatch(Buffer.concat(said).toString('latin1'), /HTTP/)
    const { certificate: cert, key } = peer.place
    const old = connect({
      ...{ host: hostname, port: Number(port), cert, key, rejectUnauthorized: false },
      maxVersion: 'TLSv1.2',
    })
    await assert.rejects(once(old, 'secureConnect'), /alert|version/i)
  }))

test('a peer that shows another certificate than the settings say is asked nothing', () =>
  withWorld(({ peer }) =>
    client({ ...peer.place, fingerprint: 'ab'.repeat(32) }, async (mars) => {
      await assert.rejects(
        mars.regions(),
        (error) =>
          isFault(error, 'denied') &&
          error.subject === 'peer' &&
          error.message.includes(peer.place.fingerprint),
      )
    }),
  ))

test('what a peer may not read is answered as what is not there', () =>
  withWorld(({ peer, digest, page, pack, id, other }) =>
    client(peer.place, async (mars) => {
      const isDenied = (error: unknown) => isFault(error, 'denied') && error.subject === 'peer'
      const isAbsent = (error: unknown) => isFault(error, 'absent') && error.subject === 'image'
      // A region that is there, and one that is not.
      const told = await Promise.all(
        ['secret', 'nowhere'].map((id) => mars.image(id, IMAGE_ID).catch(String)),
      )
      assert.equal(told[0], told[1])
      await assert.rejects(mars.image('secret', IMAGE_ID), isDenied)
      await assert.rejects(mars.region('secret', digest).getImage(digest), isDenied)
      // A project of somebody else, and what is not there.
      const none = 'ab'.repeat(32) as Digest
      for (const one of [other.digest, none]) {
        const source = mars.region(REGION, one)
        await assert.rejects(source.getImage(one), isAbsent)
        await assert.rejects(source.getSecrets(TEST_DOMAIN), isDenied)
        await assert.rejects(source.locate(other.id), isDenied)
        await assert.rejects(source.objects.get(other.pack, 0, 10), isDenied)
      }
      await assert.rejects(mars.image(REGION, 'zzzzzzzzzzzzzzzzz' as ImageId), isAbsent)
      // Things of somebody else, asked for under an image that may be read.
      const source = mars.region(REGION, digest)
      await assert.rejects(source.getSecrets('org-b' as DomainId), (error) => isFault(error, 'corrupt'))
      for (const name of [
        other.page,
        other.pack,
        signatureName(other.digest),
        packName('cd'.repeat(32) as never),
      ]) {
        await assert.rejects(source.objects.get(name, 0, 10), isDenied)
        await assert.rejects(source.objects.size(name), isDenied)
      }
      assert.deepEqual([...(await source.locate(Buffer.concat([other.id, id]))).packIndex], [-1, 0])
      // Rights end with the settings, on connections that are open as well.
      peer.projects.set(digest, 'org-b')
      await assert.rejects(mars.image(REGION, IMAGE_ID), isAbsent)
      for (const name of [page, pack]) await assert.rejects(source.objects.get(name, 0, 10), isDenied)
      peer.reader = undefined
      await assert.rejects(mars.regions(), isFault)
      peer.reader = { name: 'us', projects: 'all', regions: 'all' }
      assert.deepEqual(await mars.regions(), [REGION, 'secret'])
      await mars.region(REGION, other.digest).getImage(other.digest)
    }),
  ))

test('an image that was granted to a project gives a peer of that project neither keys nor packs of its maker', () =>
  withWorld(({ peer, region, digest, page, pack, id, other }) =>
    client(peer.place, async (mars) => {
      // As copies by reference are: project 'org-a' lists what has the keys of 'org-b'.
      peer.projects.delete(other.digest)
      const isDenied = (error: unknown) => isFault(error, 'denied') && error.subject === 'peer'
      const granted = mars.region(REGION, other.digest)
      for (const ask of [
        () => granted.getImage(other.digest),
        () => granted.getSecrets('org-b' as DomainId),
        () => granted.locate(other.id),
        () => granted.objects.get(other.pack, 0, 10),
        () => granted.objects.size(other.pack),
      ]) {
        await assert.rejects(ask, isDenied)
      }
      assert.ok(await mars.region(REGION, digest).objects.get(pack, 0, 10))
      peer.reader = { name: 'us', projects: ['org-a', TEST_DOMAIN, 'org-b'], regions: [REGION] }
      assert.deepEqual(await granted.getImage(other.digest), await region.store.getImage(other.digest))
      assert.deepEqual([...(await granted.locate(Buffer.concat([other.id, id]))).packIndex], [0, -1])
      assert.equal((await mars.region(REGION, digest).objects.get(page, 0, 10)).length, 10)
    }),
  ))

test('requests that no peer makes are refused, whatever they are', () =>
  withWorld(async ({ peer, digest, page, id }) => {
    const base = `/peer/v1/regions/${REGION}`
    const content = `${base}/contents/${digest}`
    const range = { Range: 'bytes=0-9' }
    const refused = async (path: string, options: Parameters<typeof ask>[2] = {}) => {
      const { status, fault, bytes } = await ask(peer, path, options)
      assert.equal(`${status} ${fault}`, '400 invalid peer', path)
      assert.equal(bytes.length, 0)
    }
    for (const path of [
      '/',
      '/peer/v1/',
      '/peer/v2/regions',
      '/peer/v1/regions/',
      '/peer/v1/regions?x=1',
      '/peer/v1/../v1/regions',
      '//peer/v1/regions',
      '/peer/v1/regions/%74heirs/images/0123456789abcdefg',
      `${base}/images/0123456789ABCDEFG`,
      `${base}/images/..`,
      `${content}/objects/`,
      `${content}/objects/../image`,
      `${content}/objects/keys/org-test/0123`,
      `${content}/objects/refs/a/1-0123456789abcdef`,
      `${content}/objects/images/${digest}`,
      `${content}/objects/${page}/..`,
      `${content}/objects/pages/../${page}`,
      `${content}/objects/pages%2f${page.slice(6)}`,
      `${content}/objects/${page.toUpperCase()}`,
      `${base}/contents/${'a'.repeat(4000)}/image`,
      `${base}/contents/${digest}0/image`,
      `${content}/locate`,
    ]) {
      await refused(path, { headers: range })
    }
    for (const wrong of [
      undefined,
      'bytes=0-',
      'bytes=-5',
      'bytes=9-0',
      'bytes=0-9,20-29',
      `bytes=0-${8 * 1024 * 1024}`,
      'bytes=0-9999999999999999999',
      'bytes=1e3-2e3',
    ]) {
      const headers = wrong === undefined ? {} : { Range: wrong }
      await refused(`${content}/objects/${page}`, { headers })
    }
    for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'POST']) {
      await refused(`${content}/objects/${page}`, { method, headers: range })
    }
    await refused('/peer/v1/regions', { headers: { 'Content-Length': 3 }, body: Buffer.from('abc') })
    await refused('/peer/v1/regions', { headers: { 'Transfer-Encoding': 'chunked' } })
    for (const lengthBytes of [1, 33, 65_537 * 32]) {
      const body = Buffer.alloc(lengthBytes, id)
      const headers = { 'Content-Length': lengthBytes }
      const { fault } = await ask(peer, `${content}/locate`, { method: 'POST', headers, body }).catch(() => ({
        fault: 'invalid peer',
      }))
      assert.equal(fault, 'invalid peer')
    }
    // Whoever says nothing of the length of its ids.
    await refused(`${content}/locate`, {
      method: 'POST',
      headers: { 'Transfer-Encoding': 'chunked' },
      body: id,
    })
    assert.deepEqual(peer.errors, [])
    assert.equal((await ask(peer, `${content}/objects/${page}`, { headers: range })).bytes.length, 10)
  }))

test('64 requests at once are all answered, a few at a time, and no memory is lost', () =>
  withWorld(
    ({ peer, region, digest, pack }) =>
      client(peer.place, async (mars) => {
        const { objects } = region
        let now = 0
        let most = 0
        const watched = {
          ...{ traits: objects.traits, size: objects.size.bind(objects) },
          get: async (...wish: Parameters<typeof objects.get>) => {
            most = Math.max(most, ++now)
            await new Promise(setImmediate)
            return objects.get(...wish).finally(() => now--)
          },
        }
        Object.defineProperty(region.store, 'objects', { value: watched })
        const source = mars.region(REGION, digest)
        const whole = await objects.get(pack, 0, 64_000)
        for (let round = 0; round < 3; round++) {
          const reads = Array.from({ length: 64 }, (_, i) => source.objects.get(pack, i * 1000, 1000))
          for (const [i, bytes] of (await Promise.all(reads)).entries()) {
            assert.ok(bytes.equals(whole.subarray(i * 1000, (i + 1) * 1000)))
          }
        }
        assert.ok(most <= 4, `${most} at once`)
      }),
    { limits: { requestsMax: 4, bytesMax: 8 * 1024 * 1024 } },
  ))

test('who asks and does not read is ended, and others of the same peer have their turn', () =>
  withWorld(
    async ({ peer, digest, pack, region }) => {
      // More than any buffer between us takes of one who does not read.
      const lengthBytes = OBJECT_BYTES_MAX
      const large = { ...region.objects, get: async () => Buffer.alloc(lengthBytes) }
      Object.defineProperty(region.store, 'objects', { value: large })
      const { hostname, port } = new URL(peer.url)
      const { certificate: cert, key } = peer.place
      const path = `/peer/v1/regions/${REGION}/contents/${digest}/objects/${pack}`
      const head = `GET ${path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-${lengthBytes - 1}\r\n\r\n`
      const sockets = await Promise.all(
        Array.from({ length: 4 }, async () => {
          const socket = connect({ host: hostname, port: Number(port), cert, key, rejectUnauthorized: false })
          socket.on('error', () => {})
          await once(socket, 'secureConnect')
          socket.write(head)
          // The answer begins: it has its turn, or will have it before whoever comes later.
          socket.pause()
          return socket
        }),
      )
      await client(peer.place, async (mars) => {
        const ask = () => mars.regions().catch(() => undefined)
        let regions = await ask()
        while (regions === undefined) regions = await ask()
        assert.deepEqual(regions, [REGION])
      })
      const taken = sockets.map(async (socket) => {
        let takenBytes = 0
        socket.on('data', (bytes) => {
          takenBytes += bytes.length
        })
        socket.resume()
        if (!socket.closed) await once(socket, 'close')
        return takenBytes
      })
      const endedCount = (await Promise.all(taken)).filter((bytes) => bytes < lengthBytes).length
      assert.ok(endedCount >= 2, `${endedCount} were ended`)
    },
    { limits: { requestsMax: 2, idleMs: 500 } },
  ))

test('a peer has only so many connections', () =>
  withWorld(
    async ({ peer }) => {
      const { hostname, port } = new URL(peer.url)
      const { certificate: cert, key } = peer.place
      const open = async () => {
        const socket = connect({ host: hostname, port: Number(port), cert, key, rejectUnauthorized: false })
        socket.on('error', () => {})
        await once(socket, 'secureConnect')
        return socket
      }
      const first = await open()
      const second = await open()
      const third = await open()
      assert.match(
        Buffer.concat(await third.toArray()).toString(),
        /^HTTP\/1.1 503 .*\r\ncalotype-fault: unavailable peer\r\n/,
      )
      first.destroy()
      second.destroy()
      // They are counted until the endpoint has seen them go.
      await client(peer.place, async (mars) => {
        const ask = () => mars.regions().catch(() => undefined)
        let regions = await ask()
        while (regions === undefined) regions = await ask()
        assert.deepEqual(regions, [REGION])
      })
    },
    { limits: { connectionsMax: 2 } },
  ))

test('an endpoint that closes lets an answer end, and no half connection keeps it', () =>
  withWorld(
    async ({ peer, region, digest, pack }) => {
      const { objects } = region
      const asked = Promise.withResolvers<void>()
      const go = Promise.withResolvers<void>()
      const slow = {
        ...{ traits: objects.traits, size: objects.size.bind(objects) },
        get: async (...wish: Parameters<typeof objects.get>) => {
          asked.resolve()
          await go.promise
          return objects.get(...wish)
        },
      }
      Object.defineProperty(region.store, 'objects', { value: slow })
      const { hostname, port } = new URL(peer.url)
      const half = connectPlain({ host: hostname, port: Number(port) })
      half.on('error', () => {})
      await once(half, 'connect')
      await client(peer.place, async (mars) => {
        const answer = mars.region(REGION, digest).objects.get(pack, 0, 100)
        await asked.promise
        const closed = peer.close()
        go.resolve()
        assert.equal((await answer).length, 100)
        await closed
        await assert.rejects(mars.regions(), (error) => isFault(error, 'unavailable'))
      })
      half.destroy()
    },
    { limits: { closeMs: 300 } },
  ))
