import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryMedium } from '../memory-medium.fixture.ts'
import type { Attribute, Geometry, Run } from './model.ts'
import { compressedBytes, findCompressedEnds } from './scrub-compressed.ts'
import { Ends } from './scrub-ends.ts'
import { Tally } from './scrub-tally.ts'

const CLUSTER = 4096
const GEOMETRY = { clusterBytes: CLUSTER } as Geometry

/** Chunks of this many bytes with their heads, and the mark of the end. */
function chunks(...sizesBytes: readonly number[]): Buffer {
  const parts = sizesBytes.map((sizeBytes) => {
    const chunk = Buffer.alloc(sizeBytes, 'kept')
    chunk.writeUInt16LE(0xb000 | (sizeBytes - 3))
    return chunk
  })
  return Buffer.concat([...parts, Buffer.alloc(2)])
}

function attribute(runs: readonly Run[], dataBytes: number, initializedBytes = dataBytes): Attribute {
  return {
    type: 0x80,
    name: '',
    instance: 0,
    isCompressed: true,
    isSparse: false,
    isEncrypted: false,
    value: undefined,
    runs,
    allocatedBytes: 1 << 20,
    dataBytes,
    initializedBytes,
    compressionUnit: 16,
    pieces: [],
  } as unknown as Attribute
}

async function scrub(medium: MemoryMedium, one: Attribute): Promise<Buffer> {
  const ends = new Ends()
  const before = medium.bytes()
  await findCompressedEnds(medium, one, GEOMETRY, ends)
  assert(medium.bytes().equals(before), 'finding changes nothing')
  await ends.flush(medium, new Tally())
  return medium.bytes()
}

test('the heads of chunks say where the compressed bytes end', () => {
  const bytes = Buffer.alloc(CLUSTER * 2, 'gone')
  chunks(100, 3000, 17).copy(bytes)
  assert.equal(compressedBytes(bytes, 16), 3117)
  assert.equal(compressedBytes(bytes, 3), 3117)
  assert.equal(compressedBytes(chunks(4096, 4096).subarray(0, 8192), 16), 8192)
  assert.equal(compressedBytes(chunks(4096, 4096).subarray(0, 8000), 16), undefined)
  assert.equal(compressedBytes(Buffer.alloc(CLUSTER, 0x11), 16), undefined)
  assert.equal(compressedBytes(chunks(100).subarray(0, 101), 16), undefined)
})

test('what is behind the compressed bytes of a unit becomes zero, and content stays', async () => {
  const medium = MemoryMedium.of(Buffer.alloc(100 * CLUSTER, 'gone'))
  const first = chunks(4000, 4000, 1000)
  const whole = Buffer.alloc(16 * CLUSTER, 'kept')
  const last = chunks(50)
  await medium.write(10 * CLUSTER, first.subarray(0, CLUSTER))
  await medium.write(20 * CLUSTER, first.subarray(CLUSTER))
  await medium.write(30 * CLUSTER, whole)
  await medium.write(60 * CLUSTER, last)
  const runs: readonly Run[] = [
    { vcn: 0, lcn: 10, length: 1 },
    { vcn: 1, lcn: 20, length: 2 },
    { vcn: 3, lcn: null, length: 13 },
    { vcn: 16, lcn: 30, length: 16 },
    { vcn: 32, lcn: null, length: 16 },
    { vcn: 48, lcn: 60, length: 1 },
    { vcn: 49, lcn: null, length: 15 },
  ]
  const expected = medium.bytes()
  expected.fill(0, 20 * CLUSTER + first.length - 2 - CLUSTER, 22 * CLUSTER)
  expected.fill(0, 60 * CLUSTER + last.length - 2, 61 * CLUSTER)
  assert.deepEqual(await scrub(medium, attribute(runs, 49 * CLUSTER)), expected)
})

test('a unit that is stored as it is ends where its stream does, and one behind that has nothing', async () => {
  const medium = MemoryMedium.of(Buffer.alloc(60 * CLUSTER, 'gone'))
  const runs: readonly Run[] = [
    { vcn: 0, lcn: 5, length: 16 },
    { vcn: 16, lcn: 30, length: 3 },
    { vcn: 19, lcn: null, length: 13 },
  ]
  const expected = medium.bytes()
  expected.fill(0, 5 * CLUSTER + 5000, 21 * CLUSTER)
  expected.fill(0, 30 * CLUSTER, 33 * CLUSTER)
  assert.deepEqual(await scrub(medium, attribute(runs, 20 * CLUSTER, 5000)), expected)
})

test('where the end cannot be told nothing changes', async () => {
  const medium = MemoryMedium.of(Buffer.alloc(60 * CLUSTER, 'data'))
  const before = medium.bytes()
  const holed: readonly Run[] = [
    { vcn: 0, lcn: 5, length: 1 },
    { vcn: 1, lcn: null, length: 1 },
    { vcn: 2, lcn: 8, length: 1 },
    { vcn: 3, lcn: null, length: 13 },
    { vcn: 16, lcn: 20, length: 2 },
    { vcn: 18, lcn: null, length: 14 },
  ]
  assert.deepEqual(await scrub(medium, attribute(holed, 32 * CLUSTER)), before)
})
