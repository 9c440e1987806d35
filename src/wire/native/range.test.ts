import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { namesEtag, parseRange, wantsSha256 } from './range.ts'

test('one range is read, and what is none is passed over', () => {
  for (const [header, range] of [
    ['bytes=0-0', { first: 0, last: 0 }],
    ['bytes=5-9', { first: 5, last: 9 }],
    ['Bytes= 5-9 ', { first: 5, last: 9 }],
    ['bytes=5-', { first: 5, last: undefined }],
    ['bytes=-5', { suffixBytes: 5 }],
    ['bytes=-0', { suffixBytes: 0 }],
    [`bytes=${'9'.repeat(30)}-`, { first: Number.MAX_SAFE_INTEGER, last: undefined }],
    [`bytes=1-${'9'.repeat(30)}`, { first: 1, last: Number.MAX_SAFE_INTEGER }],
    [`bytes=-${'9'.repeat(30)}`, { suffixBytes: Number.MAX_SAFE_INTEGER }],
    ['bytes=9-5', undefined],
    ['bytes=0-1,3-4', undefined],
    ['bytes=-', undefined],
    ['bytes=a-b', undefined],
    ['bytes=0x1-2', undefined],
    ['bytes=1.5-2', undefined],
    ['bytes=--5', undefined],
    ['bytes 0-1', undefined],
    ['items=0-1', undefined],
    [`bytes=${'9'.repeat(50)}-`, undefined],
    ['', undefined],
    [undefined, undefined],
  ] as const)
    assert.deepEqual(parseRange(header), range, String(header))
})

test('no header of a stranger is more than a range or nothing', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^bytes=[-0-9, ]{0,60}$/)), (header) => {
      const range = parseRange(header)
      if (range === undefined) return
      for (const value of Object.values(range))
        assert.ok(value === undefined || (Number.isSafeInteger(value) && value >= 0))
      wantsSha256(header)
      namesEtag(header, '"x"', true)
    }),
  )
})

test('tags and wishes for digests', () => {
  assert.ok(namesEtag('*', '"a"', false))
  assert.ok(namesEtag('"b", "a"', '"a"', false))
  assert.ok(!namesEtag('W/"a"', '"a"', false))
  assert.ok(namesEtag('W/"a"', '"a"', true))
  assert.ok(!namesEtag('"ab"', '"a"', true))
  assert.ok(!namesEtag('a', '"a"', true))
  for (const [header, isWanted] of [
    ['sha-256=1', true],
    ['sha-512=3, sha-256=10', true],
    ['SHA-256=5;x=1', true],
    ['sha-256=0', false],
    ['sha-512=1', false],
    ['xsha-256=1', false],
    ['sha-256', false],
    [undefined, false],
  ] as const)
    assert.equal(wantsSha256(header), isWanted, String(header))
})
