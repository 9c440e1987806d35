import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createPlainServer } from 'node:net'
import { test } from 'node:test'
import { createServer, type TLSSocket } from 'node:tls'
import { isFault } from '../image/fault.ts'
import type { Digest, DomainId, ImageId } from '../image/ids.ts'
import { packName } from '../store/names.ts'
import type { ReadOnlyRegion } from '../store/source.ts'
import { openPeerClient } from './client.ts'
import type { PeerClient, PeerPlace } from './contract.ts'
import { fingerprintOf, makeIdentity } from './identity.ts'
import { FACTS, IMAGE_ID, OURS, THEIRS } from './peer.fixture.ts'
import { encodeTable } from './table.ts'
import { TLS } from './words.ts'

const DIGEST = 'ab'.repeat(32) as Digest
const PACK = packName('cd'.repeat(32) as never)

/** What a server says to each request, and whether it then hangs up. */
type Say = (head: string, socket: TLSSocket) => void

interface Fake {
  readonly place: PeerPlace
  /** Heads of requests that came. */
  readonly heads: string[]
  say: Say
}

async function withFake(
  body: (fake: Fake, mars: PeerClient, source: ReadOnlyRegion) => Promise<void>,
  times: Parameters<typeof openPeerClient>[1] = {},
): Promise<void> {
  const sockets = new Set<TLSSocket>()
  const options = { ...TLS, cert: THEIRS.certificate, key: THEIRS.key, requestCert: true }
  const server = createServer({ ...options, rejectUnauthorized: false }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    let text = ''
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      if (end < 0) return
      const head = text.slice(0, end)
      text = ''
      fake.heads.push(head)
      fake.say(head, socket)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const fingerprint = fingerprintOf(THEIRS.certificate)
  const place = { name: 'mars', url: `https://127.0.0.1:${port}`, fingerprint, ...OURS }
  const fake: Fake = { place, heads: [], say: () => {} }
  const mars = openPeerClient(place, times)
  try {
    await body(fake, mars, mars.region('theirs', DIGEST))
  } finally {
    mars.close()
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
}

const answer =
  (body: string | Buffer, head: readonly string[] = []): Say =>
  (_head, socket) => {
    const bytes = Buffer.from(body)
    const lines = ['HTTP/1.1 200 OK', `Content-Length: ${bytes.length}`, ...head, '', '']
    socket.write(Buffer.concat([Buffer.from(lines.join('\r\n')), bytes]))
  }

const raw =
  (text: string): Say =>
  (_head, socket) => {
    socket.end(text)
  }

const isCorrupt = (error: unknown) => isFault(error, 'corrupt') && error.subject === 'peer'
const isAway = (error: unknown) => isFault(error, 'unavailable') && error.subject === 'peer'

const everything = (mars: PeerClient, source: ReadOnlyRegion) => [
  () => mars.regions(),
  () => mars.image('theirs', IMAGE_ID),
  () => source.getSecrets('org-a' as DomainId),
  () => source.locate(Buffer.alloc(64, 5)),
  () => source.objects.get(PACK, 3, 10),
]

test('answers that are none are told as such, whatever was asked', () =>
  withFake(async (fake, mars, source) => {
    const ok = 'HTTP/1.1 200 OK\r\n'
    for (const say of [
      raw('SSH-2.0-OpenSSH_9.2p1\r\n'),
      raw('HTTP/1.1 999999 ?\r\n\r\n'),
      raw(`${ok}Content-Length: 10\r\nContent-Length: 11\r\n\r\n0123456789`),
      raw(`${ok}\r\nuntil the end`),
      raw(`${ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`),
      raw(`${ok}Content-Length: 99999999999999999999\r\n\r\n`),
      raw(`${ok}Content-Length: -1\r\n\r\n`),
      raw(`${ok}Content-Length: 1000000000\r\n\r\n`),
      raw('HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n'),
      raw('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'),
      raw('HTTP/1.1 200 OK\r\ncalotype-fault: broken image\r\nContent-Length: 0\r\n\r\n'),
      raw('HTTP/1.1 200 OK\r\ncalotype-fault: absent image now\r\nContent-Length: 0\r\n\r\n'),
      raw(`${ok}${'X-Long: 0123456789abcdef\r\n'.repeat(1000)}\r\n`),
      answer('', ['Content-Encoding: gzip']),
      answer('{"regions":', []),
      answer('null'),
      answer('[]'),
      answer('{}'),
      answer('\xff\xfe'),
    ]) {
      fake.say = say
      for (const ask of everything(mars, source)) await assert.rejects(ask(), isCorrupt)
      await assert.rejects(source.getImage(DIGEST), (error) => isFault(error, 'corrupt'))
    }
  }))

test('a server that is away, stops in the middle or says nothing is tried again by whoever asked', async () => {
  const head = 'HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n\r\n'
  await withFake(
    async (fake, mars, source) => {
      for (const say of [
        raw(''),
        (_head, socket) => socket.destroy(),
        () => {},
        raw('HTTP/1.1 206 Partial'),
        raw(`${head}01234`),
        (_head, socket) => socket.write(head, () => socket.destroy()),
        (_head, socket) => socket.write(`${head}01234`),
      ] satisfies Say[]) {
        fake.say = say
        await assert.rejects(source.objects.get(PACK, 3, 10), isAway)
      }
      // The same connection is used again after an answer; one that was closed meanwhile costs no fault.
      fake.say = answer('{"regions":["theirs"]}')
      for (let i = 0; i < 3; i++) assert.deepEqual(await mars.regions(), ['theirs'])
      const count = fake.heads.length
      fake.say = (said, socket) => {
        if (fake.heads.length === count + 1) return socket.destroy()
        answer('{"regions":[]}')(said, socket)
      }
      assert.deepEqual(await mars.regions(), [])
    },
    { headMs: 200, idleMs: 200 },
  )
  const nobody = { name: 'mars', url: 'https://127.0.0.1:1', fingerprint: DIGEST, ...OURS }
  const away = openPeerClient(nobody)
  await assert.rejects(away.regions(), (error) => isAway(error) && /ECONNREFUSED/.test(String(error)))
  away.close()
})

test('what listens there and never speaks TLS is given up', async () => {
  const sockets: { destroy(): unknown }[] = []
  const server = createPlainServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const place = { name: 'mars', url: `https://127.0.0.1:${port}`, fingerprint: DIGEST, ...OURS }
  const mars = openPeerClient(place, { connectMs: 200 })
  await assert.rejects(mars.regions(), isAway)
  mars.close()
  for (const socket of sockets) socket.destroy()
  server.close()
})

test('not a byte is said to somebody who shows another certificate', async () => {
  const fingerprint = fingerprintOf(makeIdentity().certificate)
  await withFake(async (fake) => {
    const mars = openPeerClient({ ...fake.place, fingerprint })
    for (let i = 0; i < 3; i++) {
      await assert.rejects(mars.regions(), (error) => isFault(error, 'denied') && error.subject === 'peer')
    }
    mars.close()
    assert.deepEqual(fake.heads, [])
  })
})

test('a question that nobody waits for any more is dropped', () =>
  withFake(async (fake, mars, source) => {
    const abort = new AbortController()
    const { signal } = abort
    fake.say = () => abort.abort(new Error('enough'))
    await assert.rejects(source.objects.get(PACK, 0, 10, signal), /enough/)
    await assert.rejects(mars.regions(signal), /enough/)
    await assert.rejects(source.locate(Buffer.alloc(32), signal), /enough/)
    assert.equal(fake.heads.length, 1)
  }))

test('an answer has the bytes that were asked for, and no others', () =>
  withFake(async (fake, _mars, source) => {
    const part = (text: string) => raw(`HTTP/1.1 206 P\r\nContent-Length: ${text.length}\r\n\r\n${text}`)
    fake.say = part('0123456789')
    assert.equal(`${await source.objects.get(PACK, 3, 10)}`, '0123456789')
    assert.match(fake.heads.at(-1) ?? '', /^Range: bytes=3-12$/m)
    for (const text of ['', '012345678', '0123456789a']) {
      fake.say = part(text)
      await assert.rejects(source.objects.get(PACK, 3, 10), isCorrupt)
    }
    // More than its head says: what follows is no answer to anything.
    fake.say = raw('HTTP/1.1 206 P\r\nContent-Length: 10\r\n\r\n0123456789and more')
    await source.objects.get(PACK, 3, 10).then(
      (bytes) => assert.equal(`${bytes}`, '0123456789'),
      (error) => assert.ok(isCorrupt(error)),
    )
  }))

test('every word of an image is checked', () =>
  withFake(async (fake, mars) => {
    const right = JSON.parse(JSON.stringify({ id: IMAGE_ID, digest: DIGEST, facts: FACTS }))
    fake.say = answer(JSON.stringify({ ...right, more: 1, facts: { ...right.facts, more: 1 } }))
    assert.deepEqual(await mars.image('theirs', IMAGE_ID), { id: IMAGE_ID, digest: DIGEST, facts: FACTS })
    const wrong: object[] = [{ id: 'zzzzzzzzzzzzzzzzz' }, { digest: 'AB'.repeat(32) }, { facts: [] }]
    for (const facts of [
      { name: 5 },
      { name: 'x'.repeat(5000) },
      { name: '\ud800' },
      { description: null },
      { labels: { length: 1 } },
      { labels: [{ key: 'a' }] },
      { osType: 'BeOS' },
      { disks: [] },
      { disks: [{ index: 1, sizeBytes: 5, bus: 'virtio-blk' }] },
      { disks: [{ index: 0, sizeBytes: -5, bus: 'virtio-blk' }] },
      { disks: [{ index: 0, sizeBytes: 5, bus: 'ide' }] },
      { disks: [null] },
      { config: null },
      { config: { ...FACTS.config, cpuCount: 0.5 } },
      { consistency: 'none' },
      { parent: 'x' },
      { cleaning: {} },
      { imported: { format: 'raw', fileBytes: 1, sha256: 7 } },
      { dataBytes: 2 ** 60 },
      { storedBytes: '5' },
    ]) {
      wrong.push({ facts: { ...right.facts, ...facts } })
    }
    for (const change of wrong) {
      fake.say = answer(JSON.stringify({ ...right, ...change }))
      await assert.rejects(mars.image('theirs', IMAGE_ID), isCorrupt, JSON.stringify(change))
    }
    const count = fake.heads.length
    for (const id of ['', '../secrets', '0123456789abcdef', '0123456789abcdefg/x']) {
      await assert.rejects(mars.image('theirs', id as ImageId), (error) => isFault(error, 'absent'))
    }
    for (const region of ['', '..', 'a/b', 'a?x', 'a\r\nb']) {
      await assert.rejects(mars.image(region, IMAGE_ID), (error) => isFault(error, 'denied'))
      assert.throws(
        () => mars.region(region, DIGEST),
        (error) => isFault(error, 'denied'),
      )
    }
    assert.equal(fake.heads.length, count)
  }))

test('secrets and places have their form, or are none', () =>
  withFake(async (fake, mars) => {
    const key = 'ab'.repeat(32)
    const one = { domain: 'org-a', idKey: key, dataKey: key }
    const secrets = (list: unknown) => {
      fake.say = answer(JSON.stringify({ secrets: list }))
      return mars.region('theirs', DIGEST).getSecrets('org-a' as DomainId)
    }
    assert.equal(Buffer.from((await secrets([one])).idKey).toString('hex'), key)
    for (const list of [
      [],
      [null],
      'org-a',
      [one, one],
      [{ ...one, domain: '../x' }],
      [{ ...one, idKey: 'ab' }],
      [{ ...one, dataKey: 5 }],
    ]) {
      await assert.rejects(secrets(list), isCorrupt)
    }
    const table = {
      packs: [{ id: key as never, domain: 'org-a' as DomainId }],
      ...{ packIndex: Int32Array.of(0, -1), offset: Uint32Array.of(7, 0), storedBytes: Uint32Array.of(9, 0) },
      ...{ plainBytes: Uint32Array.of(65536, 0), crc32: Uint32Array.of(2 ** 32 - 1, 0) },
    }
    const source = mars.region('theirs', DIGEST)
    fake.say = answer(encodeTable(table))
    assert.deepEqual(await source.locate(Buffer.alloc(64)), table)
    await assert.rejects(source.locate(Buffer.alloc(32)), isCorrupt)
  }))

test('a peer that answers a byte now and then is given up on', () =>
  withFake(
    async (fake, _mars, source) => {
      fake.say = (_head, socket) => {
        socket.write('HTTP/1.1 206 Partial Content\r\nContent-Length: 100000\r\n\r\n')
        const drip = setInterval(() => socket.write('x'), 20)
        socket.once('close', () => clearInterval(drip))
      }
      await assert.rejects(
        source.objects.get(PACK, 0, 100_000),
        (error) => isFault(error, 'unavailable') && error.subject === 'peer',
      )
    },
    { answerMs: 400 },
  ))
