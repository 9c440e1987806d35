import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
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
  })
}

test('a frame that becomes much more than it should is refused', () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))
  for (const make of Object.values(makes)) assert.equal(make().decompress(bomb, 4096), undefined)
})
