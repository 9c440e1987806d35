import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../../image/fault.ts'
import { type JsonNode, parseJson } from './json.ts'
import { plainDecimal } from './number.ts'

function plainValue(node: JsonNode): unknown {
  switch (node.is) {
    case 'text':
      return node.text
    case 'number':
      return Number(node.token)
    case 'flag':
      return node.flag
    case 'null':
      return null
    case 'list':
      return node.items.map(plainValue)
    case 'object':
      return Object.fromEntries([...node.members].map(([name, member]) => [name, plainValue(member)]))
    default:
      return node satisfies never
  }
}

test('it reads whatever JSON.parse reads', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom(undefined, 2), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent)
      if (!text.isWellFormed() || /\\ud[89a-f]/i.test(text)) return
      assert.deepEqual(plainValue(parseJson(text)), JSON.parse(text))
    }),
  )
})

test('it refuses whatever JSON.parse refuses, always with a fault', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\0123eE.-+ tfnrualse\n') }), (text) => {
      let isJson = true
      try {
        JSON.parse(text)
      } catch {
        isJson = false
      }
      if (!isJson) assert.throws(() => parseJson(text), Fault)
    }),
    { numRuns: 2000 },
  )
})

test('a name that is there twice, an unpaired surrogate and deep nesting are refused', () => {
  assert.throws(() => parseJson('{"a":1,"b":{"c":1,"c":1}}'), /'c' is there twice/)
  assert.throws(() => parseJson('{"a":1,"\\u0061":1}'), /twice/)
  assert.throws(() => parseJson('"\\ud800"'), /not Unicode/)
  assert.throws(() => parseJson('['.repeat(100_000)), /nested deeper than 32/)
})

test('number tokens stay as they were sent', () => {
  for (const token of ['9007199254740993', '1e-7', '1E+21', '-0', '1.50']) {
    assert.deepEqual(parseJson(token), { is: 'number', token })
  }
})

test('plain decimals', () => {
  const cases = [
    ['42', '42'],
    ['42.0', '42'],
    ['0.10', '0.1'],
    ['1e-7', '0.0000001'],
    ['1e+21', '1000000000000000000000'],
    ['12.34e1', '123.4'],
    ['12.34e-3', '0.01234'],
    ['9007199254740993', '9007199254740993'],
    ['-7', '-7'],
    ['-0', '0'],
    ['-0.0', '0'],
    ['0e5', '0'],
    ['-1.5E2', '-150'],
  ]
  for (const [token = '', plain] of cases) assert.equal(plainDecimal(token), plain)
  assert.throws(() => plainDecimal('1e999999999'), Fault)
})
