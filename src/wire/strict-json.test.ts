import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../image/fault.ts'
import { parseJson, plainValue } from './strict-json.ts'

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
