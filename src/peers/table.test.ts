import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DomainId, PackId } from '../image/ids.ts'
import type { ChunkTable } from '../store/source.ts'
import { decodeTable, encodeTable, joinTables, tableBytesMax } from './table.ts'

const DOMAINS = ['public', 'org-a', `foreign-${'ab'.repeat(16)}`, `org-${'z'.repeat(32)}`] as DomainId[]
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 })

/** Tables as a region answers them: every pack has a chunk. */
const tables: fc.Arbitrary<ChunkTable> = fc
  .array(fc.tuple(fc.integer({ min: -1, max: 3 }), uint32, uint32, uint32, uint32), { maxLength: 20 })
  .map((rows) => {
    const used = [...new Set(rows.map(([pack]) => pack).filter((pack) => pack >= 0))]
    const id = (pack: number) => `${pack}f`.repeat(32) as PackId
    return {
      packs: used.map((pack) => ({ id: id(pack), domain: DOMAINS[pack] as DomainId })),
      packIndex: Int32Array.from(rows, ([pack]) => used.indexOf(pack)),
      offset: Uint32Array.from(rows, (row) => row[1]),
      storedBytes: Uint32Array.from(rows, (row) => row[2]),
      plainBytes: Uint32Array.from(rows, (row) => row[3]),
      crc32: Uint32Array.from(rows, (row) => row[4]),
    }
  })

/** What a table says of each chunk. */
const rowsOf = (table: ChunkTable) =>
  Array.from(table.packIndex, (index, i) => {
    const { offset, storedBytes, plainBytes, crc32 } = table
    return [table.packs[index], offset[i], storedBytes[i], plainBytes[i], crc32[i]]
  })

test('a table is read as it was written', () => {
  fc.assert(
    fc.property(tables, (table) => {
      const bytes = encodeTable(table)
      const count = table.packIndex.length
      assert.deepEqual(decodeTable(bytes, count), table)
      assert.ok(bytes.length <= tableBytesMax(count))
      assert.equal(decodeTable(bytes, count + 1), undefined)
    }),
  )
})

test('tables one behind the other say the same as one, and a pack is in it once', () => {
  fc.assert(
    fc.property(fc.array(tables, { maxLength: 4 }), (some) => {
      const joined = joinTables(some)
      assert.deepEqual(rowsOf(joined), some.flatMap(rowsOf))
      assert.equal(new Set(joined.packs.map(({ id }) => id)).size, joined.packs.length)
    }),
  )
})

test('bytes that are no table are none, and one that is read is within its bounds', () => {
  const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }))
  fc.assert(
    fc.property(
      tables,
      fc.array(change, { minLength: 1, maxLength: 3 }),
      fc.nat(3),
      (table, changes, cut) => {
        const bytes = encodeTable(table)
        for (const [at, value] of changes) bytes[at % bytes.length] = value
        const read = decodeTable(bytes.subarray(0, bytes.length - cut), table.packIndex.length)
        if (read === undefined) return
        assert.equal(cut, 0)
        for (const index of read.packIndex) assert.ok(index >= -1 && index < read.packs.length)
      },
    ),
    { numRuns: 1000 },
  )
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(7), Buffer.alloc(9), Buffer.alloc(8, 0xff)]) {
    assert.equal(decodeTable(bytes, 0), undefined)
  }
  // More packs than chunks, which would size our memory.
  assert.equal(decodeTable(Buffer.from('00000000ffffffff', 'hex'), 0), undefined)
})
