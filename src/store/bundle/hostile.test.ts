import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BUNDLE_MARK as INSPECTED_MARK } from '../../disk/formats/bundle-mark.ts'
import { isFault } from '../../image/fault.ts'
import type { Digest, PackId, PageId, RegionId } from '../../image/ids.ts'
import { captureDisks } from '../disks.fixture.ts'
import { sha256 } from '../hashes.ts'
import { PackBuffer, parsePackContent } from '../pack.ts'
import {
  objectNames,
  TEST_CHUNK_BYTES,
  TEST_DOMAIN,
  type TestRegion,
  withRegions,
} from '../region.fixture.ts'
import { bundleOf, installation, isNamed, openFrom, pullFrom, seededDisk } from './bundle.fixture.ts'
import { encodeInventory, parseInventory } from './inventory.ts'
import { bundleKeys, isSignedBy } from './keys.ts'
import {
  BUNDLE_MARK,
  type BundleRecord,
  beginDigest,
  encodeRecords,
  encodeTrailer,
  HEAD_BYTES,
  parseRecords,
  parseTrailer,
  putSignature,
  recordsBytesOf,
  signedBytes,
  TRAILER_BYTES,
} from './layout.ts'
import { encodeStatement, parseStatement } from './statement.ts'
import { packCheck } from './write.ts'

const one = installation(1)
const two = installation(2)
const seed = Number(process.env.BUNDLE_SEED ?? Date.now() % 1_000_000)

const seeds = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

/** Numbers that are the same for the same seed. */
function random(from: number): (below: number) => number {
  let state = from * 2 + 1
  return (below) => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9
    return ((state ^ (state >>> 13)) >>> 0) % below
  }
}

async function made(source: TestRegion, chunkCount = 12) {
  const capture = { region: source.store, sessionId: 's', domain: TEST_DOMAIN }
  const { digest } = await captureDisks({ ...capture, disks: [seededDisk(seeds(chunkCount))] })
  return { digest, bytes: await bundleOf(source, one, two, { digest }) }
}

/** The parts of a bundle, and one of other parts that the same maker signs. */
function cut(bytes: Buffer) {
  const { statementBytes, recordCount } = parseTrailer(bytes.subarray(-TRAILER_BYTES), bytes.length)
  const indexAt = bytes.length - TRAILER_BYTES - recordsBytesOf(recordCount)
  return {
    head: bytes.subarray(0, HEAD_BYTES),
    objects: bytes.subarray(HEAD_BYTES, indexAt - statementBytes),
    statement: bytes.subarray(indexAt - statementBytes, indexAt),
    index: bytes.subarray(indexAt, bytes.length - TRAILER_BYTES),
  }
}

type Parts = ReturnType<typeof cut>

function join({ head, objects, statement, index }: Parts): Buffer {
  const totalBytes = head.length + objects.length + statement.length + index.length + TRAILER_BYTES
  const recordCount = Math.floor(index.length / recordsBytesOf(1))
  const trailer = encodeTrailer({
    ...{ totalBytes, statementBytes: statement.length, recordCount, signer: one.keys.signerPublic },
  })
  putSignature(
    trailer,
    one.keys.sign(signedBytes(beginDigest(head).update(statement).update(index), trailer)),
  )
  return Buffer.concat([head, objects, statement, index, trailer])
}

/** Refused, or broken off with a fault that is named; and nothing stays behind. */
async function assertRefused(bytes: Buffer, target: TestRegion, what: string): Promise<void> {
  await assert.rejects(pullFrom(bytes, target, two, one), isNamed, what)
  await target.store.abortSession('b')
  assert.deepEqual(await objectNames(target.objects), [], what)
}

test(`no byte of a bundle can change unseen (seed ${seed})`, () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { bytes } = await made(source)
    const { objects, statement, index } = cut(bytes)
    const below = random(seed)
    const ends = [0, HEAD_BYTES, HEAD_BYTES + objects.length, bytes.length - TRAILER_BYTES, bytes.length]
    const places = ends.flatMap((end) => [end, end + 1, end - 1]).filter((at) => at >= 0 && at < bytes.length)
    const statementAt = HEAD_BYTES + objects.length
    for (let i = 0; i < 40; i++) places.push(statementAt + below(statement.length + index.length))
    for (let i = 0; i < 120; i++) places.push(below(bytes.length))
    for (const at of places) {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] as number) ^ (1 << below(8))
      await assertRefused(damaged, target, `a bit of byte ${at}`)
    }
    // As it was it is still taken.
    await pullFrom(bytes, target, two, one)
  }))

test('a bundle that is cut or goes on is refused at once', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { bytes } = await made(source)
    const { objects, statement, index } = cut(bytes)
    let at = HEAD_BYTES
    const ends = [0, 1, 7, 8, HEAD_BYTES]
    for (const { lengthBytes } of parseRecords(index)) {
      at += lengthBytes
      ends.push(at, at - 1)
    }
    assert.equal(at, HEAD_BYTES + objects.length)
    ends.push(at + statement.length, bytes.length - TRAILER_BYTES, bytes.length - 1)
    for (const end of ends) {
      await assert.rejects(
        pullFrom(bytes.subarray(0, end), target, two, one),
        (error) => isFault(error, 'invalid') && error.reason === 'truncated',
      )
    }
    const longer = [Buffer.concat([bytes, Buffer.alloc(1)]), Buffer.concat([bytes, bytes])]
    for (const file of longer) await assertRefused(file, target, 'longer')
    // As long as it was, and its end is the end of another.
    const { bytes: other } = await made(source, 13)
    const mixed = Buffer.concat([
      bytes.subarray(0, bytes.length - TRAILER_BYTES),
      other.subarray(-TRAILER_BYTES),
    ])
    await assertRefused(mixed, target, 'mixed')
    assert.deepEqual(await objectNames(target.objects), [])
  }))

test('a version that is not known is named, and a mark that is not ours is none', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { bytes } = await made(source)
    assert.ok(bytes.subarray(0, 8).equals(BUNDLE_MARK))
    assert.deepEqual(BUNDLE_MARK, INSPECTED_MARK)
    const later = Buffer.from(bytes)
    later.writeUInt32LE(2, 8)
    const parts = cut(later)
    await assert.rejects(
      pullFrom(join(parts), target, two, one),
      (error) => isFault(error, 'invalid') && error.reason === 'version',
    )
  }))

test('a maker who is believed cannot make anything of it but a fault', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { bytes } = await made(source)
    const parts = cut(bytes)
    const records = parseRecords(parts.index)
    const statement = parseStatement(parts.statement)
    assert.ok(join(parts).equals(bytes))
    const told = JSON.parse(parts.statement.toString('utf8'))
    const said = (change: object) => ({
      ...parts,
      statement: Buffer.from(JSON.stringify({ ...told, ...change })),
    })
    const written = (change: object) => ({
      ...parts,
      statement: encodeStatement({ ...statement, ...change }),
    })
    const listed = (change: (all: BundleRecord[]) => readonly BundleRecord[]) => ({
      ...parts,
      index: encodeRecords(change(structuredClone(records))),
    })
    const raw = (change: (index: Buffer) => void) => {
      const index = Buffer.from(parts.index)
      change(index)
      return { ...parts, index }
    }
    const at = (kind: BundleRecord['kind']) => records.findIndex((record) => record.kind === kind)
    const with1 = (kind: BundleRecord['kind'], change: Partial<BundleRecord>) =>
      listed((all) => all.map((record, i) => (i === at(kind) ? { ...record, ...change } : record)))
    const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
    const cases: Record<string, Parts> = {
      'statement: no JSON': { ...parts, statement: Buffer.from('{') },
      'statement: null': { ...parts, statement: Buffer.from('null') },
      'statement: a number': { ...parts, statement: Buffer.from('7') },
      'statement: deep': { ...parts, statement: Buffer.from(deep(400_000)) },
      'statement: a deep member': {
        ...parts,
        statement: Buffer.from(`{"domains":${deep(200_000)},"label":${deep(200_000)}}`),
      },
      'statement: one member more': said({ extra: 1 }),
      'statement: white space': { ...parts, statement: Buffer.from(JSON.stringify(told, null, 1)) },
      'statement: no label': said({ label: 7 }),
      'statement: half a character': said({ label: '\ud800' }),
      'statement: a long label': said({ label: 'x'.repeat(70_000) }),
      'statement: no domains': said({ domains: [] }),
      'statement: a domain twice': said({ domains: [TEST_DOMAIN, TEST_DOMAIN] }),
      'statement: a path for a domain': said({ domains: ['../keys'] }),
      'statement: another domain': said({ domains: ['org-other'] }),
      'statement: a foreign domain': said({ domains: [`foreign-${'ab'.repeat(16)}`] }),
      'statement: many domains': said({ domains: Array.from({ length: 65 }, (_, i) => `org-${100 + i}`) }),
      'statement: data of no disk': said({ dataBytes: [] }),
      'statement: data of two disks': written({ dataBytes: [0, 0] }),
      'statement: other data': written({ dataBytes: [11 * TEST_CHUNK_BYTES] }),
      'statement: data below nothing': said({ dataBytes: [-1] }),
      'statement: another image': written({ digest: 'ab'.repeat(32) as Digest }),
      'statement: another ephemeral key': written({ ephemeral: 'ab'.repeat(32) }),
      'statement: a key of zeroes': written({ ephemeral: '00'.repeat(32) }),
      'statement: nothing sealed': written({ sealed: '00' }),
      'statement: too much sealed': written({ sealed: `${statement.sealed}00` }),
      'index: no image': listed((all) => all.filter(({ kind }) => kind !== 'image')),
      'index: no signature': listed((all) => all.filter(({ kind }) => kind !== 'signature')),
      'index: an object twice': listed((all) => [...all, all[at('page')] as BundleRecord]),
      'index: in another order': listed((all) => all.reverse()),
      'index: one pack less': listed((all) => all.slice(0, -1)),
      'index: another image': with1('image', { id: 'ab'.repeat(32), check: 'ab'.repeat(32) }),
      'index: a page of another name': with1('page', { id: 'ab'.repeat(32), check: 'ab'.repeat(32) }),
      'index: a pack of more chunks': with1('pack', {
        entryCount: (records[at('pack')]?.entryCount ?? 0) + 1,
      }),
      'index: a pack of no chunks': with1('pack', { entryCount: 0 }),
      'index: a pack of four milliards': with1('pack', { entryCount: 0xffff_ffff }),
      'index: a pack of another table': with1('pack', { check: 'ab'.repeat(32) }),
      'index: an image without end': with1('image', { lengthBytes: Number.MAX_SAFE_INTEGER }),
      'index: a signature of nothing': with1('signature', { lengthBytes: 0 }),
      'index: a short page': with1('page', { lengthBytes: 100 }),
      'index: a kind of its own': raw((index) => {
        index[0] = 9
      }),
      'index: no kind': raw((index) => {
        index[0] = 0
      }),
      'index: not zero where zero is': raw((index) => {
        index[2] = 1
      }),
      'index: lengths beyond numbers': raw((index) => {
        index.fill(0xff, 8, 16)
      }),
      'index: half a record': { ...parts, index: parts.index.subarray(0, -40) },
      'index: nothing': { ...parts, index: Buffer.alloc(0) },
      'nothing but an end': {
        head: parts.head,
        objects: Buffer.alloc(0),
        statement: Buffer.from('{}'),
        index: Buffer.alloc(0),
      },
    }
    for (const [what, hostile] of Object.entries(cases)) await assertRefused(join(hostile), target, what)
  }))

test('a chunk that is not what its id says is named, and so is one that is nowhere', () =>
  withRegions([one.make, two.make], async (source, target) => {
    const { bytes } = await made(source)
    const parts = cut(bytes)
    const records = parseRecords(parts.index)
    const last = records.at(-1) as BundleRecord
    const packAt = parts.objects.length - last.lengthBytes
    const { domain, entries } = parsePackContent(last.id as PackId, parts.objects.subarray(packAt))
    const changes: ((id: Buffer, chunk: Buffer) => { id: Buffer; chunk: Buffer })[] = [
      (id, chunk) => ({ id, chunk: Buffer.from(chunk).fill(7, 100, 110) }),
      (id, chunk) => ({ id, chunk: Buffer.concat([Buffer.from([1, 1, 0, 0]), chunk.subarray(4)]) }),
      (id) => ({ id, chunk: Buffer.alloc(1) }),
      (id, chunk) => ({ id: Buffer.from(id).reverse(), chunk }),
    ]
    for (const change of changes) {
      const pack = new PackBuffer(domain, 2 ** 20, TEST_CHUNK_BYTES)
      for (const entry of entries) {
        const at = packAt + entry.offset
        const { id, chunk } = change(entry.id, parts.objects.subarray(at, at + entry.storedBytes))
        pack.add(id, entry.plainBytes, (to, offset) => chunk.copy(to, offset))
      }
      const sealed = pack.seal()
      const { length: entryCount } = entries
      const record = {
        ...last,
        id: sha256(sealed),
        check: packCheck(sealed, entryCount),
        lengthBytes: sealed.length,
      }
      const objects = Buffer.concat([parts.objects.subarray(0, packAt), sealed])
      const index = encodeRecords([...records.slice(0, -1), record])
      await assertRefused(join({ ...parts, objects, index }), target, String(change))
    }
  }))

test('a trailer that tells of more than there is, in every field', () => {
  const trailer = encodeTrailer({
    totalBytes: 5000,
    statementBytes: 100,
    recordCount: 3,
    signer: 'ab'.repeat(32),
  })
  assert.equal(parseTrailer(trailer, 5000).recordCount, 3)
  const changes: ((bytes: Buffer) => void)[] = [
    (bytes) => bytes.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 0),
    (bytes) => bytes.writeBigUInt64LE(2n ** 53n + 1n, 0),
    (bytes) => bytes.writeUInt32LE(0, 8),
    (bytes) => bytes.writeUInt32LE(4900, 8),
    (bytes) => bytes.writeUInt32LE(0xffff_ffff, 8),
    (bytes) => bytes.writeUInt32LE(0, 12),
    (bytes) => bytes.writeUInt32LE(1, 12),
    (bytes) => bytes.writeUInt32LE(100, 12),
    (bytes) => bytes.writeUInt32LE(0xffff_ffff, 12),
    (bytes) => bytes.fill(0, TRAILER_BYTES - 8),
  ]
  for (const change of changes) {
    const bytes = Buffer.from(trailer)
    change(bytes)
    assert.throws(() => parseTrailer(bytes, 5000), isNamed)
  }
})

test('an inventory is what it was made of, and nothing else is one', () => {
  const inventory = {
    recipient: one.keys.recipientPublic,
    region: 'cn-hangzhou' as RegionId,
    pages: ['ab'.repeat(32), 'cd'.repeat(32)] as PageId[],
  }
  const text = encodeInventory(inventory)
  assert.deepEqual(parseInventory(text), inventory)
  assert.deepEqual(parseInventory(JSON.stringify(JSON.parse(text), null, 2)), inventory)
  const pages = Array.from({ length: 20_000 }, (_, i) => i.toString(16).padStart(64, '0') as PageId)
  const large = encodeInventory({ ...inventory, pages })
  assert.ok(large.length < 1024 * 1024)
  assert.equal(parseInventory(large).pages.length, 13_000)
  const told = JSON.parse(text)
  const wrong: unknown[] = [
    null,
    7,
    [],
    {},
    { ...told, version: 2 },
    { ...told, extra: 1 },
    { ...told, recipient: 'AB'.repeat(32) },
    { ...told, region: '../x' },
    { ...told, pages: ['xy'] },
    { ...told, pages: [[['ab'.repeat(32)]]] },
    { ...told, pages: 'ab'.repeat(32) },
    { ...told, pages: new Array(15_001).fill('ab'.repeat(32)) },
  ]
  const texts = [
    ...wrong.map((one) => JSON.stringify(one)),
    '',
    '{',
    '['.repeat(500_000),
    ' '.repeat(2 ** 20 + 1),
  ]
  for (const bad of texts) {
    assert.throws(
      () => parseInventory(bad),
      (error) => isFault(error, 'invalid') && error.reason === 'inventory',
    )
  }
})

test('keys are the same for the same seed, and open what was sealed for them alone', () => {
  const seedBytes = new Uint8Array(32).fill(1)
  assert.deepEqual(
    { ...bundleKeys(seedBytes), sign: 0, seal: 0, open: 0 },
    { ...one.keys, sign: 0, seal: 0, open: 0 },
  )
  assert.notEqual(one.keys.signerPublic, one.keys.recipientPublic)
  const plain = Buffer.from('secret')
  const context = Buffer.from('context')
  const sealed = one.keys.seal(two.keys.recipientPublic, plain, context)
  assert.deepEqual(one.keys.seal(two.keys.recipientPublic, plain, context), sealed)
  assert.deepEqual(two.keys.open(sealed, context), plain)
  assert.equal(one.keys.open(sealed, context), undefined)
  assert.equal(two.keys.open(sealed, Buffer.from('other')), undefined)
  const other = one.keys.seal(two.keys.recipientPublic, Buffer.from('Secret'), context)
  assert.notEqual(other.ephemeral, sealed.ephemeral, 'no two texts share a key')
  const signature = one.keys.sign(plain)
  const signer = Buffer.from(one.keys.signerPublic, 'hex')
  assert.ok(isSignedBy(signer, plain, signature))
  assert.ok(!isSignedBy(signer, context, signature))
  assert.ok(!isSignedBy(Buffer.alloc(32), plain, signature))
  assert.ok(!isSignedBy(signer, plain, signature.subarray(1)))
})

test('what is told of a bundle holds only for its own installation', () =>
  withRegions([one.make], async (source) => {
    const { bytes, digest } = await made(source)
    const bundle = await openFrom(bytes, two, one)
    assert.equal(bundle.statement.digest, digest)
    assert.equal(bundle.signer, one.keys.signerPublic)
    assert.equal(bundle.secrets.size, 1)
  }))
