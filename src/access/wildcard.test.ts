import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { matchesWildcard } from './wildcard.ts'

test('* stands for any run, ? for one character, the rest for itself', () => {
  const cases: [string, string, boolean][] = [
    ['*', '', true],
    ['', '', true],
    ['', 'a', false],
    ['?', '', false],
    ['?', '像', true],
    ['?', '😀', true],
    ['ecd:Describe*', 'ecd:DescribeImages', true],
    ['ecd:Describe*', 'ecd:Describe', true],
    ['ecd:Describe*', 'ecd:CreateImage', false],
    ['a*c', 'abcbc', true],
    ['a*c', 'abcb', false],
    ['a?c', 'ac', false],
    ['*a*b', 'ab*ab', true],
    ['a.c', 'abc', false],
    ['**x', 'x', true],
    ['*?', '', false],
    // A star in the text is an ordinary character there.
    ['*b', '*b', true],
    ['a*', '*a', false],
  ]
  for (const [pattern, text, expected] of cases) {
    assert.equal(matchesWildcard(pattern, text), expected, `'${pattern}' against '${text}'`)
  }
})

test('it agrees with a regular expression', () => {
  const symbols = fc.array(fc.constantFrom('a', 'b', '*', '?'), { maxLength: 8 }).map((list) => list.join(''))
  fc.assert(
    fc.property(symbols, symbols, (pattern, text) => {
      const expression = new RegExp(`^${pattern.replaceAll('*', '[^]*').replaceAll('?', '[^]')}$`)
      assert.equal(matchesWildcard(pattern, text), expression.test(text))
    }),
    { numRuns: 2000 },
  )
})

test('many stars cost no more than pattern × text', () => {
  // An exponential matcher would not come back from this within the life of the machine.
  assert.equal(matchesWildcard(`${'a*'.repeat(250)}b`, 'a'.repeat(20_000)), false)
  assert.equal(matchesWildcard('a*a*a*a*b', 'a'.repeat(50_000)), false)
})
