import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { parseObjectName } from './names.ts'

test('object names are safe below a folder', () => {
  for (const good of ['keys/public', 'packs/ab/abcd', 'images/0f.sig', 'a/b/c/d']) {
    assert.equal(parseObjectName(good), good)
  }
  const bad = [
    '',
    '/',
    '/a',
    'a/',
    'a//b',
    '..',
    '../a',
    'a/../b',
    './a',
    '.tmp/a',
    'a/.b',
    'A',
    'a b',
    'a\\b',
  ]
  for (const name of [...bad, 'a\0', 'a\n', 'a/b/c/d/e', 'é', 'x'.repeat(200)]) {
    assert.throws(
      () => parseObjectName(name),
      (error) => isFault(error, 'invalid'),
      name,
    )
  }
})
