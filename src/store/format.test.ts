import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { PLAIN_CONFIG } from '../image/config.ts'
import { isFault } from '../image/fault.ts'
import type { Digest, DomainId, PackId } from '../image/ids.ts'
import { MemoryObjects } from '../objects/memory.ts'
import { encodeCanonical } from './canonical.ts'
import { ChunkEncoder, decodeChunk } from './chunk.ts'
import { noise } from './disks.fixture.ts'
import { encodeKeyObject, openKeyObject } from './domain.ts'
import { hashPlain, IdHasher, sha256 } from './hashes.ts'
import { encodeImage, parseImage, readImage } from './image.ts'
import { type FillRandom, LocalWrapper } from './keys.ts'
import { cutPages, PAGE_BYTES, ZERO_PAGE } from './map.ts'
import { packName, parseDomainId } from './names.ts'
import { OpenDomain } from './open-domain.ts'
import { PackBuffer, parsePackContent, readPackContent } from './pack.ts'
import { encodeSignature } from './signature.ts'

const count32 = (from: number) => Buffer.from(Array.from({ length: 32 }, (_, i) => from + i))
const SECRETS = { idKey: count32(0), dataKey: count32(32) }
const REGION_KEY = count32(64)
const DOMAIN = 'org-golden' as DomainId

/** Counts up from 1, in place of random bytes. */
function counting(): FillRandom {
  let next = 1
  return (bytes) => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = next++ & 0xff
  }
}

const goldenWrapper = () => new LocalWrapper(REGION_KEY, counting())
const goldenDomain = () => new OpenDomain(DOMAIN, SECRETS, counting())

/** Chunks that fix every codec: one that compresses, one that does not, one that is short. */
const plains = [noise(65536, 1, 64), noise(65536, 2), Buffer.from('a short last chunk, a short last chunk')]

/** All of them sealed, and then all of them once more, not sealed. */
function goldenPack(): Buffer {
  const { hasher, sealer } = goldenDomain()
  const pack = new PackBuffer(DOMAIN, 1_000_000, 65536)
  for (const encoder of [new ChunkEncoder(65536, sealer), new ChunkEncoder(65536)]) {
    for (const plain of plains) {
      const id = hasher.idOf(hashPlain(plain))
      pack.add(id, plain.length, (target, offset) => encoder.encodeInto(id, plain, target, offset))
    }
  }
  return Buffer.from(pack.seal())
}

function goldenIds(): Buffer {
  const hasher = new IdHasher(SECRETS.idKey)
  const ids = Buffer.alloc(3 * PAGE_BYTES)
  plains.forEach((plain, i) => {
    hasher.idOf(hashPlain(plain)).copy(ids, i * 32)
  })
  ids.fill(7, 2 * PAGE_BYTES)
  return ids
}

function goldenImage(version: 1 | 2 | 3 = 1) {
  return encodeImage({
    version,
    domain: DOMAIN,
    disks: [
      {
        index: 0,
        sizeBytes: 6000 * 65536 - 512,
        chunkBytes: 65536,
        bus: 'virtio-blk',
        pages: [...cutPages(goldenIds())].map(({ id }) => id),
      },
    ],
    config: version === 1 ? PLAIN_CONFIG : { ...PLAIN_CONFIG, cpuCount: 2, memoryBytes: 2 ** 31 },
    os: { type: 'linux', name: 'Débian "12"\n' },
    parent: sha256(Buffer.from('parent')) as Digest,
    consistency: version === 1 ? 'filesystem' : 'application',
    report: version === 3 ? goldenDomain().sealReport('{"report":"ü"}') : null,
  })
}

/** Compares with the file of that name; `UPDATE_GOLDEN=1` writes it, which is a change of the format. */
async function assertGolden(name: string, bytes: Buffer): Promise<void> {
  const url = new URL(`./golden/${name}`, import.meta.url)
  if (process.env.UPDATE_GOLDEN === '1') await writeFile(url, bytes)
  assert.ok((await readFile(url)).equals(bytes), `golden/${name} differs`)
}

test('key object, pack, map page, image object and signature have the bytes of the golden files', async () => {
  await assertGolden('key.golden', await encodeKeyObject(DOMAIN, SECRETS, goldenWrapper()))
  await assertGolden('pack.golden', goldenPack())
  const [page, zero] = [...cutPages(goldenIds())]
  assert(page?.bytes !== undefined && zero !== undefined)
  assert.equal(zero.id, ZERO_PAGE)
  await assertGolden('page.golden', page.bytes)
  const { bytes } = goldenImage()
  await assertGolden('image.golden', bytes)
  await assertGolden('image-2.golden', goldenImage(2).bytes)
  await assertGolden('image-3.golden', goldenImage(3).bytes)
  await assertGolden('signature.golden', encodeSignature(goldenDomain().sign(bytes)))
})

test('the golden files are read back', async () => {
  const golden = (name: string) => readFile(new URL(`./golden/${name}`, import.meta.url))
  assert.deepEqual(await openKeyObject(DOMAIN, await golden('key.golden'), goldenWrapper()), SECRETS)
  const bytes = await golden('pack.golden')
  const pack = parsePackContent(sha256(bytes) as PackId, bytes)
  assert.equal(pack.domain, DOMAIN)
  assert.deepEqual(
    pack.entries.map(({ plainBytes }) => plainBytes),
    [...plains, ...plains].map((plain) => plain.length),
  )
  const { hasher, sealer } = goldenDomain()
  for (const [i, entry] of pack.entries.entries()) {
    const stored = bytes.subarray(entry.offset, entry.offset + entry.storedBytes)
    const plain = await decodeChunk(stored, entry, sealer)
    assert(plain !== undefined)
    assert.ok(plain.equals(plains[i % plains.length] as Buffer))
    assert.ok(hasher.idOf(hashPlain(plain)).equals(entry.id))
  }
  assert.deepEqual(
    pack.entries.map((entry) => [bytes[entry.offset + 1], bytes[entry.offset + 2]]),
    [1, 0, 1].map((codec) => [codec, 1]).concat([1, 0, 1].map((codec) => [codec, 0])),
    'zstd, raw, zstd, sealed, and once more not',
  )
  for (const version of [1, 2, 3] as const) {
    const object = await golden(version === 1 ? 'image.golden' : `image-${version}.golden`)
    assert.deepEqual(parseImage(object).config.cpuCount, version === 1 ? null : 2)
    assert.equal(encodeImage(parseImage(object)).digest, goldenImage(version).digest)
    const { report } = parseImage(object)
    assert.equal(report === null, version < 3)
    if (report === null) continue
    assert.equal(goldenDomain().openReport(report), '{"report":"ü"}')
    const bent = Buffer.from(report, 'base64')
    bent[20] = (bent[20] ?? 0) ^ 1
    assert.equal(goldenDomain().openReport(bent.toString('base64')), undefined)
  }
})

test('a pack is read from the store by its header and footer alone, and refused when they are wrong', async () => {
  const bytes = goldenPack()
  const id = sha256(bytes) as PackId
  const objects = new MemoryObjects()
  await objects.put(packName(id), bytes)
  assert.equal((await readPackContent(objects, id)).entries.length, 6)
  const footerBytes = 6 * 48 + 24
  const inHeader = Array.from({ length: 64 }, (_, i) => i).filter((i) => i < 20 || i > 25)
  const inFooter = Array.from({ length: footerBytes }, (_, i) => bytes.length - 1 - i)
  for (const at of [...inHeader, ...inFooter]) {
    const broken = Buffer.from(bytes)
    broken[at] = (broken[at] as number) ^ 1
    assert.throws(
      () => parsePackContent(id, broken),
      (error) => isFault(error, 'corrupt'),
      String(at),
    )
  }
  for (const lengthBytes of [0, 10, 87, 88, bytes.length - 1]) {
    assert.throws(
      () => parsePackContent(id, bytes.subarray(0, lengthBytes)),
      (error) => isFault(error, 'corrupt'),
    )
  }
})

test('a stored chunk with any flipped bit is refused', async () => {
  const bytes = goldenPack()
  const { entries } = parsePackContent(sha256(bytes) as PackId, bytes)
  const { sealer } = goldenDomain()
  for (const entry of entries) {
    const stored = Buffer.from(bytes.subarray(entry.offset, entry.offset + entry.storedBytes))
    for (const at of [0, 1, 2, 3, 4, stored.length - 1]) {
      stored[at] = (stored[at] as number) ^ 1
      assert.equal(await decodeChunk(stored, entry, sealer), undefined)
      stored[at] = (stored[at] as number) ^ 1
    }
    assert.equal(await decodeChunk(stored, { ...entry, plainBytes: entry.plainBytes - 1 }, sealer), undefined)
    assert.equal(await decodeChunk(stored, { ...entry, plainBytes: entry.plainBytes + 1 }, sealer), undefined)
  }
})

test('only canonical image objects are images', async () => {
  const { bytes, digest } = goldenImage()
  const text = bytes.toString()
  const wrong = [
    ` ${text}`,
    text.replace('"version":1', '"version":2'),
    text.replace('"version":1', '"version":1,"zebra":1'),
    text.replace('"bus":"virtio-blk",', ''),
    text.replace('virtio-blk', 'ide'),
    text.replace('Débian', '\\ud800'),
    text.replace('65536', '65537'),
    text.replace('65536', '65536.0'),
    text.replace('org-golden', '../golden'),
    text.replace('"index":0', '"index":1'),
    '{}',
    'null',
    '',
  ]
  for (const one of wrong) {
    assert.throws(
      () => parseImage(Buffer.from(one)),
      (error) => isFault(error, 'corrupt'),
      one,
    )
  }
  const objects = new MemoryObjects()
  await assert.rejects(
    readImage(objects, digest),
    (error) => isFault(error, 'absent') && error.subject === 'image',
  )
})

test('canonical JSON sorts keys and writes integers only', () => {
  const text = (value: Parameters<typeof encodeCanonical>[0]) => encodeCanonical(value).toString()
  assert.equal(
    text({ b: [1, -2, null, true], a: { z: 'ü"\n', A: '' } }),
    '{"a":{"A":"","z":"ü\\"\\n"},"b":[1,-2,null,true]}',
  )
  assert.throws(() => text({ a: 1.5 }))
  assert.throws(() => text({ a: 2 ** 53 }))
  assert.throws(() => text('\ud800'))
})

test('keys and domains from outside are distrusted', async () => {
  const wrapper = goldenWrapper()
  const bytes = await encodeKeyObject(DOMAIN, SECRETS, wrapper)
  const text = bytes.toString()
  const end = text.lastIndexOf('"}')
  const flipped = Array.from({ length: (12 + 64 + 16) * 2 }, (_, i) => {
    const last = (Number.parseInt(text.charAt(end - 1 - i), 16) ^ 1).toString(16)
    return Buffer.from(text.slice(0, end - 1 - i) + last + text.slice(end - i))
  })
  const wrong = [
    bytes.subarray(1),
    Buffer.from(text.replace('aes-256-gcm', 'none')),
    Buffer.from(text.replace(wrapper.keyId, '0'.repeat(16))),
    Buffer.from(text.replace(/"wrapped":"[0-9a-f]*"/, '"wrapped":"00"')),
    Buffer.from(text.replace(/"wrapped":"[0-9a-f]*"/, '"wrapped":""')),
    Buffer.alloc(0),
    ...flipped,
  ]
  for (const one of wrong) {
    await assert.rejects(openKeyObject(DOMAIN, one, wrapper), (error) => isFault(error, 'corrupt'))
  }
  const other = 'org-other' as DomainId
  const moved = Buffer.from(text.replace(DOMAIN, other))
  await assert.rejects(openKeyObject(other, bytes, wrapper), (error) => isFault(error, 'corrupt'))
  await assert.rejects(openKeyObject(other, moved, wrapper), (error) => isFault(error, 'corrupt'))
  for (const name of ['', 'Public', 'org-', 'org-a/b', 'org-ABC', 'public\n'])
    assert.throws(() => parseDomainId(name))
})
