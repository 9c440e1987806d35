import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refused } from './checks.fixture.ts'
import type { RefusalReason } from './contract.ts'
import { buildQcow2, type Qcow2Places, type Qcow2Recipe } from './qcow2.fixture.ts'
import { inspectQcow2, qcow2Inspector } from './qcow2.ts'
import { bufferSource, countingSource } from './source.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const OPTIONS = { virtualBytesMax: 1024 * GIB }

const PLAIN: Qcow2Recipe = {
  virtualBytes: 4 * MIB,
  clusters: new Map<number, Buffer | 'zero' | { compressed: Buffer }>([
    [0, Buffer.alloc(4096, 'a')],
    [1, 'zero'],
    [2, { compressed: Buffer.alloc(4096, 'b') }],
    [3, Buffer.alloc(4096, 'c')],
    [600, Buffer.alloc(4096, 'd')],
  ]),
}
const EXTENDED: Qcow2Recipe = {
  virtualBytes: 4 * MIB,
  clusterBits: 14,
  hasExtendedL2: true,
  clusters: new Map([
    [0, { bytes: Buffer.alloc(16_384, 'a'), dataParts: 3, zeroParts: 4 }],
    [1, { compressed: Buffer.alloc(16_384, 'b') }],
  ]),
}

/** The field at `offset` of the header, as another number of that many bits. */
const field32 = (offset: number, value: number) => (file: Buffer) => {
  file.writeUInt32BE(value >>> 0, offset)
}
const field64 = (offset: number, value: number | bigint) => (file: Buffer) => {
  file.writeBigUInt64BE(BigInt(value), offset)
}
/** The entry `index` of a table, of the first one where there are several. */
const entry =
  (table: 'l1' | 'l2' | 'refcounts', index: number, value: (places: Qcow2Places) => bigint | number) =>
  (file: Buffer, places: Qcow2Places) => {
    const offset = table === 'l2' ? (places.l2[0] ?? 0) : places[table]
    const entryBytes = table === 'l2' ? places.entryBytes : 8
    file.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value(places))), offset + index * entryBytes)
  }
const COPIED = 1n << 63n
const COMPRESSED = 1n << 62n

type Case = readonly [
  reason: RefusalReason,
  name: string,
  recipe: Partial<Qcow2Recipe>,
  base?: Qcow2Recipe | undefined,
]

const CASES: readonly Case[] = [
  ['version', 'version 1', { patch: field32(4, 1) }],
  ['version', 'version 4', { patch: field32(4, 4) }],
  // Backing files of every spelling: the name is never looked at.
  ...['/etc/passwd', 'other.qcow2', 'json:{"driver":"raw"}', 'nbd://127.0.0.1/x', '/dev/fd/3', ''].map(
    (name): Case => ['backing-file', `backing file '${name}'`, { backing: { name } }],
  ),
  ['backing-file', 'backing file and its format', { backing: { name: '/etc/passwd', format: 'raw' } }],
  ['backing-file', 'the format of a backing file alone', { backing: { format: 'raw' } }],
  ['backing-file', 'a length without a place', { patch: field32(16, 8) }],
  ['backing-file', 'a place far away', { patch: field64(8, 2n ** 63n) }],
  [
    'backing-file',
    'a backing file in version 2',
    { version: 2, backing: { name: '/etc/passwd' } },
    undefined,
  ],
  ['data-file', 'data file: bit', { dataFile: { hasBit: true } }],
  ['data-file', 'data file: name', { dataFile: { name: '/etc/passwd' } }],
  ['data-file', 'data file: bit and name', { dataFile: { hasBit: true, name: '/etc/passwd' } }],
  ['data-file', 'data file: raw bit', { dataFile: { hasRawBit: true } }],
  ['data-file', 'data file: all', { dataFile: { hasBit: true, name: 'x', hasRawBit: true } }],
  ['encrypted', 'AES', { cryptMethod: 1 }],
  ['encrypted', 'LUKS', { cryptMethod: 2, extensions: [[0x0537be77, Buffer.alloc(16)]] }],
  ['encrypted', 'the header of LUKS alone', { extensions: [[0x0537be77, Buffer.alloc(16)]] }],
  ['encrypted', 'another method', { cryptMethod: 77 }],
  ['corrupt', 'marked corrupt', { incompatible: 2n }],
  ['corrupt', 'bitmaps without the extension', { autoclear: 1n }],
  ['corrupt', 'an extension twice', { extensions: twice(0x6803f857) }],
  ['corrupt', 'zstd without the bit', { patch: (file) => file.writeUInt8(1, 104) }],
  ['corrupt', 'the bit without zstd', { incompatible: 8n }],
  ['corrupt', 'the bit, and a header too short for the type', { incompatible: 8n, headerBytes: 104 }],
  ['feature-bits', 'an unknown type of compression', { patch: (file) => file.writeUInt8(2, 104) }],
  ['feature-bits', 'padding', { patch: (file) => file.writeUInt8(1, 109) }],
  ['feature-bits', 'a longer header', { headerBytes: 120 }],
  ['feature-bits', 'an unknown extension', { extensions: [[0x12345678, Buffer.alloc(8)]] }],
  ['tables', 'clusters too small', { patch: field32(20, 8) }],
  ['tables', 'clusters too large', { patch: field32(20, 22) }],
  ['tables', 'clusters of 2^32 bits', { patch: field32(20, 0xffff_ffff) }],
  ['tables', 'clusters too small for parts', { incompatible: 16n }],
  ['tables', 'counts too wide', { patch: field32(96, 7) }],
  ['tables', 'a header too short', { patch: field32(100, 96) }],
  ['tables', 'a header of odd length', { patch: field32(100, 109) }],
  [
    'tables',
    'an extension behind the header',
    { extensions: [[0x6803f857, Buffer.alloc(96)]], patch: field32(116, 0x1fffe0) },
  ],
  ['tables', 'half a name of a feature', { extensions: [[0x6803f857, Buffer.alloc(40)]] }],
  ['size', 'no size', { patch: field64(24, 0) }],
  ['size', 'half a sector', { patch: field64(24, 4 * MIB - 256) }],
  ['too-large', 'over the limit', { patch: field64(24, 1024 * GIB + 512) }],
  ['too-large', '16 EiB', { patch: field64(24, 2n ** 64n - 512n) }],
  ['tables', 'an L1 table too short', { patch: field32(36, 1) }],
  ['tables', 'an L1 table that nothing needs', { patch: field32(36, 4 * MIB) }],
  ['tables', 'an L1 table of 32 GiB', { patch: field32(36, 0xffff_ffff) }],
  ['tables', 'an L1 table at no cluster', { patch: field64(40, 8200) }],
  ['tables', 'an L1 table in the header', { patch: field64(40, 0) }],
  ['truncated', 'an L1 table far away', { patch: field64(40, 2n ** 40n) }],
  ['truncated', 'an L1 table behind 2^63', { patch: field64(40, 2n ** 63n) }],
  ['tables', 'no reference counts', { patch: field32(56, 0) }],
  ['tables', 'reference counts of 16 TiB', { patch: field32(56, 0xffff_ffff) }],
  ['tables', 'reference counts at no cluster', { patch: field64(48, 4097) }],
  ['truncated', 'reference counts far away', { patch: field64(48, 2n ** 50n) }],
  ['tables', 'reference counts in the header', { patch: field64(48, 0) }],
  ['tables', 'a block of counts in the header', { patch: entry('refcounts', 1, () => 4096) }],
  ['tables', 'a block of counts at no cluster', { patch: entry('refcounts', 1, () => 0x8001) }],
  ['truncated', 'a block of counts far away', { patch: entry('refcounts', 1, () => 2n ** 63n) }],
  ['tables', 'reserved bits in L1', { patch: entry('l1', 0, ({ l2 }) => (1n << 56n) | BigInt(l2[0] ?? 0)) }],
  ['tables', 'low bits in L1', { patch: entry('l1', 0, ({ l2 }) => BigInt(l2[0] ?? 0) | 1n) }],
  ['tables', 'L1 at the header', { patch: entry('l1', 0, () => COPIED) }],
  ['tables', 'one L2 table twice', { patch: entry('l1', 1, ({ l2 }) => COPIED | BigInt(l2[0] ?? 0)) }],
  ['tables', 'the L1 table as L2', { patch: entry('l1', 0, ({ l1 }) => l1) }],
  ['tables', 'an L2 table at no cluster', { patch: entry('l1', 0, ({ l2 }) => (l2[0] ?? 0) + 512) }],
  ['truncated', 'an L2 table far away', { patch: entry('l1', 0, () => 2n ** 55n) }],
  ['tables', 'reserved high bits in L2', { patch: entry('l2', 9, () => 1n << 57n) }],
  ['tables', 'reserved low bits in L2', { patch: entry('l2', 9, () => 2) }],
  ['tables', 'L2 at the header', { patch: entry('l2', 9, () => COPIED) }],
  ['tables', 'data in the L2 table', { patch: entry('l2', 9, ({ l2 }) => l2[0] ?? 0) }],
  ['tables', 'data in the L1 table', { patch: entry('l2', 9, ({ l1 }) => l1) }],
  ['tables', 'data in the counts', { patch: entry('l2', 9, ({ refcountBlocks }) => refcountBlocks[0] ?? 0) }],
  ['tables', 'data twice', { patch: entry('l2', 9, ({ data }) => data.get(0) ?? 0) }],
  ['tables', 'preallocated zeros over data', { patch: entry('l2', 9, ({ data }) => (data.get(0) ?? 0) + 1) }],
  ['tables', 'data at no cluster', { patch: entry('l2', 9, ({ data }) => (data.get(0) ?? 0) + 512) }],
  ['truncated', 'data far away', { patch: entry('l2', 9, () => COPIED | (1n << 54n)) }],
  ['tables', 'compressed data in a table', { patch: entry('l2', 9, ({ l1 }) => COMPRESSED | BigInt(l1)) }],
  [
    'tables',
    'compressed data in data',
    { patch: entry('l2', 9, ({ data }) => COMPRESSED | BigInt(data.get(3) ?? 0)) },
  ],
  ['tables', 'data in compressed data', { patch: intoCompressed }],
  ['tables', 'compressed and copied', { patch: entry('l2', 9, () => COPIED | COMPRESSED | 8192n) }],
  ['truncated', 'compressed data far away', { patch: entry('l2', 9, () => COMPRESSED | (1n << 50n)) }],
  ['truncated', 'compressed data over the end', { patch: overTheEnd }],
  [
    'tables',
    'zeros of their own in version 2',
    { patch: entry('l2', 9, () => 1) },
    { ...PLAIN, version: 2, clusters: new Map([[0, Buffer.alloc(4096, 1)]]) },
  ],
  ['tables', 'a list of snapshots at no cluster', { patch: field64(64, 100) }],
  ['truncated', 'a list of snapshots far away', { patch: field64(64, 2n ** 44n) }],
  ['tables', 'too many snapshots', { patch: field32(60, 65_537) }],
  ['tables', 'more snapshots than there are', { snapshotNames: ['a'], patch: field32(60, 60_000) }],
  [
    'truncated',
    'snapshots at the end',
    { patch: (file) => [field32(60, 1)(file), field64(64, file.length)(file)] },
  ],
  [
    'tables',
    'a snapshot with the table of the disk',
    { snapshotNames: ['a'], patch: (file, { snapshots, l1 }) => field64(snapshots, l1)(file) },
  ],
  [
    'tables',
    'a snapshot with a table of 32 GiB',
    { snapshotNames: ['a'], patch: (file, { snapshots }) => field32(snapshots + 8, -1)(file) },
  ],
  [
    'tables',
    'a snapshot with facts of 4 GiB',
    { snapshotNames: ['a'], patch: (file, { snapshots }) => field32(snapshots + 36, -1)(file) },
  ],
  [
    'tables',
    'the list of snapshots over the disk',
    { snapshotNames: ['a'], patch: (file, { l1 }) => field64(64, l1)(file) },
  ],
  ['tables', 'no bitmaps in their list', { bitmapNames: ['a'], patch: field32(120, 0) }],
  ['feature-bits', 'bitmaps of a later version', { bitmapNames: ['a'], patch: field32(124, 1) }],
  ['tables', 'bitmaps in the header', { bitmapNames: ['a'], patch: field64(136, 0) }],
  ['tables', 'a list of bitmaps of 1 TiB', { bitmapNames: ['a'], patch: field64(128, 2n ** 40n) }],
  ['truncated', 'bitmaps far away', { bitmapNames: ['a'], patch: field64(136, 2n ** 40n) }],
  ['tables', 'a list of bitmaps that ends early', { bitmapNames: ['a'], patch: field32(120, 2) }],
  [
    'tables',
    'a bitmap of another size',
    { bitmapNames: ['a'], patch: (file, { bitmaps }) => field32(bitmaps + 8, 9)(file) },
  ],
  [
    'tables',
    'a bitmap for every bit',
    { bitmapNames: ['a'], patch: (file, { bitmaps }) => file.writeUInt8(1, bitmaps + 17) },
  ],
  [
    'feature-bits',
    'another kind of bitmap',
    { bitmapNames: ['a'], patch: (file, { bitmaps }) => file.writeUInt8(2, bitmaps + 16) },
  ],
  [
    'feature-bits',
    'another flag of a bitmap',
    { bitmapNames: ['a'], patch: (file, { bitmaps }) => field32(bitmaps + 12, 8)(file) },
  ],
  [
    'tables',
    'a bitmap in the L1 table',
    { bitmapNames: ['a'], patch: (file, { bitmaps, l1 }) => field64(bitmaps, l1)(file) },
  ],
  [
    'tables',
    'pieces of a bitmap in the L1 table',
    {
      bitmapNames: ['a'],
      patch: (file, { bitmaps, l1 }) => field64(Number(file.readBigUInt64BE(bitmaps)), l1)(file),
    },
  ],
  [
    'tables',
    'bits in the table of a bitmap',
    {
      bitmapNames: ['a'],
      patch: (file, { bitmaps }) => field64(Number(file.readBigUInt64BE(bitmaps)), 2)(file),
    },
  ],
  [
    'tables',
    'a part that is data and zeros',
    { patch: (file, { l2 }) => field32((l2[0] ?? 0) + 8, 2)(file) },
    EXTENDED,
  ],
  [
    'tables',
    'parts of nothing',
    { patch: (file, { l2 }) => field32((l2[0] ?? 0) + 16 * 9 + 12, 1)(file) },
    EXTENDED,
  ],
  [
    'tables',
    'parts of a compressed cluster',
    { patch: (file, { l2 }) => field32((l2[0] ?? 0) + 16 + 8, 1)(file) },
    EXTENDED,
  ],
  [
    'tables',
    'zeros the old way beside parts',
    { patch: (file, { l2 }) => field32((l2[0] ?? 0) + 16 * 9 + 4, 1)(file) },
    EXTENDED,
  ],
]

function twice(type: number): NonNullable<Qcow2Recipe['extensions']> {
  return [
    [type, Buffer.alloc(48)],
    [type, Buffer.alloc(48)],
  ]
}

/** Plain data where compressed data begins. */
function intoCompressed(file: Buffer, places: Qcow2Places): void {
  const compressed = file.readBigUInt64BE((places.l2[0] ?? 0) + 2 * 8) & ((1n << 58n) - 1n)
  entry('l2', 9, () => compressed - (compressed % 4096n))(file, places)
}

/** Compressed data from the last sector of the file on, of all the sectors there can be. */
function overTheEnd(file: Buffer, places: Qcow2Places): void {
  entry('l2', 9, () => COMPRESSED | (15n << 58n) | BigInt(file.length - 512))(file, places)
}

test('a file that is not as it should be is refused with its reason', async (t) => {
  for (const [reason, name, recipe, base] of CASES) {
    await t.test(`${reason}: ${name}`, async () => {
      const isVersion2 = recipe.version === 2
      const whole = base ?? (isVersion2 ? { virtualBytes: 4 * MIB } : PLAIN)
      const file = buildQcow2({ ...whole, ...recipe })
      assert.equal(await qcow2Inspector.matches(bufferSource(file)), true)
      await refused(reason, () => inspectQcow2(bufferSource(file), OPTIONS))
    })
  }
})

test('the files that the cases change are taken as they are', async () => {
  for (const recipe of [
    PLAIN,
    EXTENDED,
    { ...PLAIN, version: 2 as const, clusters: new Map([[0, Buffer.alloc(4096, 1)]]) },
    { ...PLAIN, snapshotNames: ['a', 'b'], bitmapNames: ['a', 'b'] },
    { ...PLAIN, incompatible: 1n, compatible: 1n, extensions: [[0x6803f857, Buffer.alloc(96)]] as const },
    { ...PLAIN, spareL1Count: 500 },
  ]) {
    const disk = await inspectQcow2(bufferSource(buildQcow2(recipe)), OPTIONS)
    assert.equal(disk.virtualBytes, recipe.virtualBytes)
  }
})

test('every feature bit is refused but those we know', async () => {
  const taken: string[] = []
  for (const set of ['incompatible', 'compatible', 'autoclear'] as const) {
    for (let bit = 0; bit < 64; bit += 1) {
      const file = buildQcow2({ ...PLAIN, [set]: 1n << BigInt(bit) })
      const outcome = await inspectQcow2(bufferSource(file), OPTIONS).then(
        () => 'taken',
        () => 'refused',
      )
      if (outcome === 'taken') taken.push(`${set} ${bit}`)
    }
  }
  assert.deepEqual(taken, ['incompatible 0', 'compatible 0'])
})

test('a file cut anywhere is refused, or still holds all that its tables name', async () => {
  const file = buildQcow2(PLAIN)
  const end = file.length
  for (let lengthBytes = 4; lengthBytes < end - 4096; lengthBytes += 100) {
    await refused('truncated', () => inspectQcow2(bufferSource(file.subarray(0, lengthBytes)), OPTIONS))
  }
})

test('a file of more clusters than can be told apart is refused at once', async () => {
  const head = buildQcow2({ virtualBytes: 4 * MIB, clusterBits: 9 })
  const source = countingSource({
    sizeBytes: 2 ** 27 * 512 + 512,
    read: (offset, lengthBytes) => {
      const bytes = Buffer.alloc(lengthBytes)
      head.copy(bytes, 0, offset, offset + lengthBytes)
      return Promise.resolve(bytes)
    },
  })
  await refused('tables', () => inspectQcow2(source, OPTIONS))
  assert.ok(source.count.bytes < 4096)
})

test('a walk of gigabytes of tables ends when it is told to, and others have a turn in between', async () => {
  // As sparse as a file can be: nothing but the tables of a disk of 1 TiB, every one of them full of zeros.
  const clusterBytes = 65_536
  const l2Count = 2048
  const head = buildQcow2({
    virtualBytes: 1024 * GIB,
    clusterBits: 16,
    patch: (file, { l1 }) => {
      for (let index = 0; index < l2Count; index += 1) {
        file.writeBigUInt64BE(BigInt((100 + 3 * index) * clusterBytes), l1 + index * 8)
      }
    },
  })
  const stop = new AbortController()
  const source = countingSource({
    sizeBytes: (100 + 3 * l2Count) * clusterBytes,
    read: (offset, lengthBytes) => {
      const bytes = Buffer.alloc(lengthBytes)
      if (offset < head.length) head.copy(bytes, 0, offset, Math.min(head.length, offset + lengthBytes))
      return Promise.resolve(bytes)
    },
  })
  setImmediate(() => setImmediate(() => stop.abort(new Error('told to end'))))
  await assert.rejects(inspectQcow2(source, { ...OPTIONS, signal: stop.signal }), /told to end/)
  const readUntilThen = source.count.bytes
  await inspectQcow2(source, OPTIONS)
  assert.ok(readUntilThen < (source.count.bytes - readUntilThen) / 4)
  assert.ok(source.count.longestBytes <= MIB)
})
