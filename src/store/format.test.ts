import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import type { Digest, DomainId, PackId } from '../image/ids.ts'
import { MemoryObjects } from '../objects/memory.ts'
import { encodeCanonical } from './canonical.ts'
import { ChunkEncoder, decodeChunk } from './chunk.ts'
import { noise } from './disks.fixture.ts'
import { encodeDomainKey, parseDomainKey } from './domain.ts'
import { hashPlain, IdHasher, sha256 } from './hashes.ts'
import { encodeImage, parseImage, readImage } from './image.ts'
import { cutPages, PAGE_BYTES, ZERO_PAGE } from './map.ts'
import { packName, parseDomainId } from './names.ts'
import { PackBuffer, parsePackContent, readPackContent } from './pack.ts'

const KEY = Buffer.from(Array.from({ length: 32 }, (_, i) => i))
const DOMAIN = 'org-golden' as DomainId

/** Chunks that fix every codec: one that compresses, one that does not, one that is short. */
const plains = [noise(65536, 1, 64), noise(65536, 2), Buffer.from('a short last chunk, a short last chunk')]

function goldenPack(): Buffer {
  const hasher = new IdHasher(KEY)
  const encoder = new ChunkEncoder(65536)
  const pack = new PackBuffer(DOMAIN, 1_000_000, 65536)
  for (const plain of plains) {
    pack.add(hasher.idOf(hashPlain(plain)), plain.length, (target, offset) =>
      encoder.encodeInto(plain, target, offset),
    )
  }
  return Buffer.from(pack.seal())
}

function goldenIds(): Buffer {
  const hasher = new IdHasher(KEY)
  const ids = Buffer.alloc(3 * PAGE_BYTES)
  plains.forEach((plain, i) => {
    hasher.idOf(hashPlain(plain)).copy(ids, i * 32)
  })
  ids.fill(7, 2 * PAGE_BYTES)
  return ids
}

function goldenImage() {
  return encodeImage({
    version: 1,
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
    firmware: 'bios',
    os: { type: 'linux', name: 'Débian "12"\n' },
    parent: sha256(Buffer.from('parent')) as Digest,
    consistency: 'filesystem',
  })
}

/** Compares with the file of that name; `UPDATE_GOLDEN=1` writes it, which is a change of the format. */
async function assertGolden(name: string, bytes: Buffer): Promise<void> {
  const url = new URL(`./golden/${name}`, import.meta.url)
  if (process.env.UPDATE_GOLDEN === '1') await writeFile(url, bytes)
  assert.ok((await readFile(url)).equals(bytes), `golden/${name} differs`)
}

test('key object, pack, map page and image object have the bytes of the golden files', async () => {
  await assertGolden('key.golden', encodeDomainKey({ domain: DOMAIN, idKey: KEY }))
  await assertGolden('pack.golden', goldenPack())
  const [page, zero] = [...cutPages(goldenIds())]
  assert(page?.bytes !== undefined && zero !== undefined)
  assert.equal(zero.id, ZERO_PAGE)
  await assertGolden('page.golden', page.bytes)
  await assertGolden('image.golden', goldenImage().bytes)
})

test('the golden files are read back', async () => {
  const golden = (name: string) => readFile(new URL(`./golden/${name}`, import.meta.url))
  assert.deepEqual(parseDomainKey(DOMAIN, await golden('key.golden')).idKey, KEY)
  const bytes = await golden('pack.golden')
  const pack = parsePackContent(sha256(bytes) as PackId, bytes)
  assert.equal(pack.domain, DOMAIN)
  assert.deepEqual(
    pack.entries.map(({ plainBytes }) => plainBytes),
    plains.map((plain) => plain.length),
  )
  const hasher = new IdHasher(KEY)
  for (const [i, entry] of pack.entries.entries()) {
    const stored = bytes.subarray(entry.offset, entry.offset + entry.storedBytes)
    const plain = await decodeChunk(stored, entry.plainBytes, entry.crc32)
    assert(plain !== undefined)
    assert.ok(plain.equals(plains[i] as Buffer))
    assert.ok(hasher.idOf(hashPlain(plain)).equals(entry.id))
  }
  assert.deepEqual(
    pack.entries.map((entry) => bytes[entry.offset + 1]),
    [1, 0, 1],
    'zstd, raw, zstd',
  )
  assert.equal(encodeImage(parseImage(await golden('image.golden'))).digest, goldenImage().digest)
})

test('a pack is read from the store by its header and footer alone, and refused when they are wrong', async () => {
  const bytes = goldenPack()
  const id = sha256(bytes) as PackId
  const objects = new MemoryObjects()
  await objects.put(packName(id), bytes)
  assert.equal((await readPackContent(objects, id)).entries.length, 3)
  const footerBytes = 3 * 48 + 24
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
  for (const entry of entries) {
    const stored = Buffer.from(bytes.subarray(entry.offset, entry.offset + entry.storedBytes))
    for (const at of [0, 1, 2, 3, 4, stored.length - 1]) {
      stored[at] = (stored[at] as number) ^ 1
      assert.equal(await decodeChunk(stored, entry.plainBytes, entry.crc32), undefined)
      stored[at] = (stored[at] as number) ^ 1
    }
    assert.equal(await decodeChunk(stored, entry.plainBytes - 1, entry.crc32), undefined)
    assert.equal(await decodeChunk(stored, entry.plainBytes + 1, entry.crc32), undefined)
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

test('keys and domains from outside are distrusted', () => {
  const bytes = encodeDomainKey({ domain: DOMAIN, idKey: KEY })
  for (const wrong of [
    bytes.subarray(1),
    Buffer.from(bytes.toString().replace('none', 'kek1')),
    Buffer.alloc(0),
  ]) {
    assert.throws(
      () => parseDomainKey(DOMAIN, wrong),
      (error) => isFault(error, 'corrupt'),
    )
  }
  assert.throws(() => parseDomainKey('org-other' as DomainId, bytes))
  for (const name of ['', 'Public', 'org-', 'org-a/b', 'org-ABC', 'public\n'])
    assert.throws(() => parseDomainId(name))
})
