import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Compressor } from './compressor.ts'
import { noise } from './disks.fixture.ts'

const CHUNK_BYTES = 256 * 1024
const LEVEL_1 = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }

const plains = [
  noise(CHUNK_BYTES, 1, 64),
  noise(CHUNK_BYTES, 2),
  Buffer.from('short'),
  noise(CHUNK_BYTES, 3, 3),
  Buffer.from([7]),
  noise(100_000, 4, 5),
]

test('a compressor makes the frames that Node makes, one after the other', () => {
  const compressor = new Compressor(CHUNK_BYTES)
  for (const plain of [...plains, ...plains]) {
    assert.ok(zstdCompressSync(plain, LEVEL_1).equals(compressor.compress(plain)), `${plain.length} bytes`)
  }
})

test('a compressor reads shared memory', () => {
  const plain = Buffer.from(new SharedArrayBuffer(CHUNK_BYTES))
  noise(CHUNK_BYTES, 5, 9).copy(plain)
  const frame = new Compressor(CHUNK_BYTES).compress(plain)
  assert.ok(zstdDecompressSync(frame).equals(plain))
})

test('a compressor works where the streams of Node look different', () => {
  for (const stream of [{}, { _handle: null }, { _handle: { writeSync: () => {} } }]) {
    const compressor = new Compressor(CHUNK_BYTES, stream)
    for (const plain of plains) assert.ok(zstdDecompressSync(compressor.compress(plain)).equals(plain))
  }
})

test('a stream that takes no input is a bug that is seen', () => {
  const stream = { _handle: { writeSync: () => {} }, _writeState: new Uint32Array([0, 9]) }
  assert.throws(() => new Compressor(CHUNK_BYTES, stream).compress(Buffer.alloc(9)), /at once/)
})
