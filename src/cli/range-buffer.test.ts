import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { createShelf } from './range-buffer.ts'

test('zeroes are left out, and the digest is that of what came', () => {
  const shelf = createShelf(5000)
  const buffer = shelf.take()
  const zero = Buffer.alloc(1000)
  const data = randomBytes(1000)
  for (const chunks of [
    [],
    [zero],
    [data],
    [data, zero, data, zero, data],
    [zero, zero, data],
    // What was there before is not there any more.
    [zero, zero, zero, zero, data.subarray(0, 10)],
    [zero, zero],
  ]) {
    buffer.clear()
    for (const chunk of chunks) buffer.append(chunk)
    const whole = Buffer.concat(chunks)
    assert.equal(buffer.digest(), createHash('sha256').update(whole).digest('base64'))
    const { lengthBytes, bytes } = buffer.piece()
    assert.equal(lengthBytes, whole.length)
    assert.equal(bytes === undefined, !chunks.some((chunk) => chunk !== zero))
    assert.ok(bytes === undefined || bytes.equals(whole))
  }
  shelf.giveBack(buffer)
  assert.equal(shelf.take(), buffer)
  assert.notEqual(shelf.take(), buffer)
})
