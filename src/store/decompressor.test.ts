import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { createZstdCompress, zstdCompressSync } from 'node:zlib'
import { Decompressor } from './decompressor.ts'

const plain = Buffer.concat([randomBytes(1000), Buffer.alloc(3000, 5), randomBytes(500)])
const frame = zstdCompressSync(plain)
const makes = {
  'in place': () => new Decompressor(8192),
  'the documented way': () => new Decompressor(8192, () => ({})),
}

for (const [name, make] of Object.entries(makes)) {
  test(`${name}: whole frames come out, anything else does not, and does not disturb the next`, () => {
    const decompressor = make()
    const flip = (at: number) => {
      const bytes = Buffer.from(frame)
      bytes[at] = (bytes[at] as number) ^ 0xff
      return bytes
    }
    const wrong: [Buffer, number][] = [
      [frame, plain.length - 1],
      [frame, plain.length + 1],
      [frame.subarray(0, -1), plain.length],
      [frame.subarray(0, 700), plain.length],
      [flip(0), plain.length],
      [flip(4), plain.length],
      [Buffer.alloc(0), plain.length],
      [Buffer.from('hello'), 5],
      [frame, 8192],
      [frame, 8193],
    ]
    for (const [bytes, plainBytes] of wrong) {
      assert.equal(decompressor.decompress(bytes, plainBytes), undefined)
      const right = decompressor.decompress(frame, plain.length)
      assert.ok(right?.equals(plain))
    }
    for (const [bytes, plainBytes] of wrong) {
      const into = Buffer.alloc(plainBytes)
      assert.equal(decompressor.decompress(bytes, plainBytes, into), undefined)
      assert.equal(
        decompressor.decompress(frame, plain.length, Buffer.alloc(plain.length))?.equals(plain),
        true,
      )
    }
  })

  test(`${name}: a frame that says its length goes where it is wanted, and nothing behind it`, () => {
    const decompressor = make()
    for (const lengthBytes of [1, 100, 255, 256, 257, 4095, 8192 - 64]) {
      const bytes = Buffer.concat([plain, plain]).subarray(0, lengthBytes)
      const memory = Buffer.alloc(lengthBytes + 128, 7)
      const into = memory.subarray(64, 64 + lengthBytes)
      const got = decompressor.decompress(zstdCompressSync(bytes), lengthBytes, into)
      assert.ok(got?.equals(bytes))
      if (lengthBytes > 100) assert.equal(got, into)
      const around = [memory.subarray(0, 64), memory.subarray(64 + lengthBytes)]
      if (got === into) for (const side of around) assert.ok(side.every((byte) => byte === 7))
    }
  })

  test(`${name}: a frame that does not say its length is right as well`, async () => {
    const silent = await silentFrame()
    const decompressor = make()
    assert.ok(decompressor.decompress(silent, plain.length, Buffer.alloc(plain.length))?.equals(plain))
    assert.equal(decompressor.decompress(silent, plain.length - 1, Buffer.alloc(plain.length - 1)), undefined)
    assert.ok(decompressor.decompress(silent, plain.length, Buffer.alloc(plain.length))?.equals(plain))
  })
}

/** Made in pieces, so that its head cannot know the length. */
async function silentFrame(): Promise<Buffer> {
  const stream = createZstdCompress()
  const pieces = Array.fromAsync<Buffer>(stream)
  stream.write(plain.subarray(0, 1000))
  await new Promise((resolve) => stream.flush(resolve as () => void))
  stream.end(plain.subarray(1000))
  return Buffer.concat(await pieces)
}

test('a frame that becomes much more than it should is refused', () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))
  for (const make of Object.values(makes)) assert.equal(make().decompress(bomb, 4096), undefined)
})
