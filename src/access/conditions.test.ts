import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conditionsHold, parseConditions, type RequestContext } from './conditions.ts'

const noon: RequestContext = {
  sourceIp: '192.0.2.77',
  nowMs: Date.UTC(2026, 0, 31, 12, 0, 0, 250),
  isSecure: true,
}
const judge = (json: unknown, changes: Partial<RequestContext> = {}) => {
  return conditionsHold(parseConditions('Condition', json), { ...noon, ...changes })
}

test('every operator, holding and not holding', () => {
  const at = noon.nowMs - 250
  const second = String(at / 1000)
  const cases: [string, string, string, boolean][] = [
    ['StringEquals', 'acs:SourceIp', '192.0.2.77', true],
    ['StringEquals', 'acs:CurrentTime', '2026-01-31T12:00:00Z', true],
    ['StringEquals', 'acs:SecureTransport', 'TRUE', false],
    ['StringNotEquals', 'acs:SecureTransport', 'TRUE', true],
    ['StringNotEquals', 'acs:SecureTransport', 'true', false],
    ['StringEqualsIgnoreCase', 'acs:SecureTransport', 'TRUE', true],
    ['StringEqualsIgnoreCase', 'acs:SecureTransport', 'FALSE', false],
    ['StringNotEqualsIgnoreCase', 'acs:SecureTransport', 'TRUE', false],
    ['StringNotEqualsIgnoreCase', 'acs:SecureTransport', 'FALSE', true],
    ['StringLike', 'acs:SourceIp', '192.0.2.*', true],
    ['StringLike', 'acs:SourceIp', '192.0.?.1*', false],
    ['StringNotLike', 'acs:SourceIp', '192.0.2.*', false],
    ['StringNotLike', 'acs:SourceIp', '10.*', true],
    ['NumericEquals', 'acs:CurrentTime', `${second}.0`, true],
    ['NumericEquals', 'acs:CurrentTime', '0', false],
    ['NumericNotEquals', 'acs:CurrentTime', second, false],
    ['NumericNotEquals', 'acs:CurrentTime', '0', true],
    ['NumericLessThan', 'acs:CurrentTime', second, false],
    ['NumericLessThan', 'acs:CurrentTime', `${second}.5`, true],
    ['NumericLessThanEquals', 'acs:CurrentTime', second, true],
    ['NumericLessThanEquals', 'acs:CurrentTime', '9', false],
    ['NumericGreaterThan', 'acs:CurrentTime', second, false],
    // As text '9…' would be the greater one.
    ['NumericGreaterThan', 'acs:CurrentTime', '9', true],
    ['NumericGreaterThanEquals', 'acs:CurrentTime', second, true],
    ['NumericGreaterThanEquals', 'acs:CurrentTime', `${second}.5`, false],
    ['DateEquals', 'acs:CurrentTime', '2026-01-31T20:00:00+08:00', true],
    ['DateEquals', 'acs:CurrentTime', '2026-01-31T12:00:01Z', false],
    ['DateNotEquals', 'acs:CurrentTime', '2026-01-31T12:00Z', false],
    ['DateNotEquals', 'acs:CurrentTime', '2026-01-31T12:00:01Z', true],
    ['DateLessThan', 'acs:CurrentTime', '2026-01-31T12:00:00Z', false],
    ['DateLessThan', 'acs:CurrentTime', '2026-01-31T12:00:01Z', true],
    ['DateLessThanEquals', 'acs:CurrentTime', '2026-01-31T12:00:00Z', true],
    ['DateLessThanEquals', 'acs:CurrentTime', '2026-01-31T11:59:59Z', false],
    ['DateGreaterThan', 'acs:CurrentTime', '2026-01-31T12:00:00Z', false],
    ['DateGreaterThan', 'acs:CurrentTime', '2026-01-31T19:59:59+08:00', true],
    ['DateGreaterThanEquals', 'acs:CurrentTime', '2026-01-31T12:00:00Z', true],
    ['DateGreaterThanEquals', 'acs:CurrentTime', '2026-01-31T12:00:01Z', false],
    ['Bool', 'acs:SecureTransport', 'true', true],
    ['Bool', 'acs:SecureTransport', 'false', false],
    ['Bool', 'acs:MFAPresent', 'true', false],
    ['Bool', 'acs:MFAPresent', 'false', true],
    ['IpAddress', 'acs:SourceIp', '192.0.2.77', true],
    ['IpAddress', 'acs:SourceIp', '192.0.2.64/26', true],
    ['IpAddress', 'acs:SourceIp', '192.0.2.0/26', false],
    ['IpAddress', 'acs:SourceIp', '2001:db8::/32', false],
    ['NotIpAddress', 'acs:SourceIp', '192.0.2.0/24', false],
    ['NotIpAddress', 'acs:SourceIp', '198.51.100.0/24', true],
  ]
  for (const [operator, key, value, expected] of cases) {
    assert.equal(judge({ [operator]: { [key]: value } }), expected, `${operator} ${key} ${value}`)
  }
})

test('addresses: IPv6 blocks, zones, and IPv4 in IPv6 clothes', () => {
  const within = (sourceIp: string, block: string) => {
    return judge({ IpAddress: { 'acs:SourceIp': block } }, { sourceIp })
  }
  assert.equal(within('2001:db8:1::5', '2001:db8::/32'), true)
  assert.equal(within('2001:DB9::5', '2001:db8::/32'), false)
  assert.equal(within('0:0:0:0:0:0:0:1', '::1'), true)
  assert.equal(within('fe80::1%eth0', 'fe80::/10'), true)
  assert.equal(within('::ffff:192.0.2.1', '192.0.2.0/24'), true)
  assert.equal(within('::ffff:198.51.100.1', '192.0.2.0/24'), false)
  assert.equal(within('2001:db8::1', '0.0.0.0/0'), false)
})

test('values of one key are alternatives; keys and operators must all hold', () => {
  const both = ['198.51.100.0/24', '192.0.2.0/24']
  assert.equal(judge({ IpAddress: { 'acs:SourceIp': both } }), true)
  // A list of exceptions excepts each of its members.
  assert.equal(judge({ NotIpAddress: { 'acs:SourceIp': both } }), false)
  assert.equal(judge({ StringNotEquals: { 'acs:SourceIp': ['10.0.0.1', '192.0.2.77'] } }), false)
  assert.equal(judge({ Bool: { 'acs:SecureTransport': 'true', 'acs:MFAPresent': 'false' } }), true)
  assert.equal(judge({ Bool: { 'acs:SecureTransport': 'true', 'acs:MFAPresent': 'true' } }), false)
  const twoOperators = { IpAddress: { 'acs:SourceIp': both }, Bool: { 'acs:SecureTransport': 'true' } }
  assert.equal(judge(twoOperators), true)
  assert.equal(judge(twoOperators, { isSecure: false }), false)
  assert.equal(judge(twoOperators, { sourceIp: '10.0.0.1' }), false)
  assert.equal(judge({}), true)
})
