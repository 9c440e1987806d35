import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseFstab } from './fstab.ts'
import { decodeNames, sameName, shownName } from './names.ts'

test('bytes that are not UTF-8 have a letter each, and text stays as it is', () => {
  assert.equal(decodeNames(Buffer.from('zoë:李雷:😀')), 'zoë:李雷:😀')
  assert.equal(decodeNames(Buffer.from([0x61, 0xff, 0xc3, 0xa9, 0xc3, 0x62])), 'a\udcffé\udcc3b')
  assert.equal(decodeNames(Buffer.from([0xed, 0xa0, 0x80])), '\udced\udca0\udc80')
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      assert.equal(decodeNames(Buffer.concat([Buffer.from(text), Buffer.from([0xff])])), `${text}\udcff`)
    }),
  )
})

test('names are compared without the case of A to Z alone', () => {
  assert(sameName('Public', 'PUBLIC'))
  assert(!sameName('publıc', 'PUBLIC'))
  assert(!sameName('Kelvin', '\u212aelvin'))
})

test('what is shown is well-formed and without controls', () => {
  assert.equal(shownName('a\u001b[31m\udcff\ud800b😀�'), 'a\\x1b[31m\\xff\\ud800b😀�')
  assert.equal(shownName('line\nbreak\u202e'), 'line\\x0abreak\\x202e')
})

test('a table of mounts is read as mount reads it', () => {
  const [entry, ...others] = parseFstab(
    '\n# x\nUUID="a-b"\t/my\\040disk/ ext4 noatime,bind 0 0\nhalf a\n/dev/x /a/../b ext4',
  )
  assert.deepEqual(entry, { source: 'UUID=a-b', point: ['my disk'], type: 'ext4', isBind: true })
  assert.deepEqual(others, [])
})
