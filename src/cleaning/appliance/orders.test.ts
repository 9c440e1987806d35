import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../../image/fault.ts'
import type { Edit } from '../../volume/contract.ts'
import { encodeOrders } from './orders.ts'

const fieldsOf = (bytes: Buffer) => {
  assert.equal(bytes.at(-1), 0)
  return bytes.subarray(0, -1).toString('latin1').split('\0')
}
const remove = (...path: string[]): Edit => ({ is: 'remove', path })

test('orders are fields between zero bytes', () => {
  const edits: Edit[] = [
    remove('home', 'a\nb'),
    { is: 'empty', path: ['-x'] },
    { is: 'write', path: ['etc', 'id'], content: 'one\ntwo\n', mode: 0o44 },
    { is: 'link', path: ['l'], target: '../o\udcff' },
  ]
  assert.deepEqual(
    fieldsOf(
      encodeOrders([
        { volume: 2, edits },
        { volume: 3, edits: [] },
      ]),
    ),
    [
      ...['volume', '2', 'remove', '2', 'home', 'a\nb', 'empty', '1', '-x'],
      ...['write', '0044', 'one\ntwo\n', '2', 'etc', 'id', 'link', '../o\xff', '1', 'l', 'end'],
    ],
  )
})

test('bytes that are no UTF-8 come out as they were', () => {
  // The contract's way of reading them: what does not decode becomes U+DC80 to U+DCFF.
  const read = (bytes: Uint8Array) => {
    const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    let text = ''
    for (let at = 0; at < bytes.length; ) {
      let lengthBytes = 4
      for (; lengthBytes > 0; lengthBytes -= 1) {
        try {
          const one = strict.decode(bytes.subarray(at, at + lengthBytes))
          if ([...one].length === 1) {
            text += one
            break
          }
        } catch {}
      }
      if (lengthBytes === 0) text += String.fromCharCode(0xdc00 + (bytes[at] ?? 0))
      at += Math.max(1, lengthBytes)
    }
    return text
  }
  const name = fc
    .uint8Array({ minLength: 1, maxLength: 60 })
    .map((bytes) => bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0xff : byte)))
  fc.assert(
    fc.property(name, (bytes) => {
      const text = read(bytes)
      fc.pre(text !== '.' && text !== '..')
      const fields = fieldsOf(encodeOrders([{ volume: 0, edits: [remove(text)] }]))
      assert.equal(fields[4], Buffer.from(bytes).toString('latin1'))
    }),
  )
})

test('names that no file can have are refused, and so is too much', () => {
  const encode = (...edits: Edit[]) => encodeOrders([{ volume: 0, edits }])
  for (const name of ['', '.', '..', 'a/b', 'a\0b', 'x'.repeat(256), '李'.repeat(86)])
    assert.throws(
      () => encode(remove('home', name)),
      (error) => isFault(error, 'conflict') && error.reason === 'damaged',
    )
  const long = Array.from({ length: 20 }, () => 'x'.repeat(250))
  assert.throws(
    () => encode(remove(...long)),
    (error) => isFault(error, 'conflict') && error.reason === 'unsupported',
  )
  const isTooLarge = (error: unknown) => isFault(error, 'conflict') && error.reason === 'too-large'
  assert.throws(() => encode(...Array.from({ length: 100_001 }, () => remove('x'))), isTooLarge)
  const content = 'x'.repeat(17 << 20)
  assert.throws(() => encode({ is: 'write', path: ['x'], content, mode: 0o600 }), isTooLarge)
})

test('what the appliance does not do is a bug', () => {
  assert.throws(() => encodeOrders([{ volume: 0, edits: [remove()] }]), assert.AssertionError)
  const blank: Edit = { is: 'blank', path: ['swapfile'], keepBytes: 0 }
  assert.throws(() => encodeOrders([{ volume: 0, edits: [blank] }]), assert.AssertionError)
})
