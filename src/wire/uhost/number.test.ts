import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { plainDecimal } from './number.ts'

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
