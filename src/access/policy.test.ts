import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { parsePolicy } from './policy.ts'
import { systemPolicies } from './system-policies.ts'

const statement = { Effect: 'Allow', Action: 'ecd:CreateImage', Resource: '*' }
const policy = (changes: object) => ({ Version: '1', Statement: [{ ...statement, ...changes }] })
const condition = (operator: string, key: string, value: unknown) => {
  return policy({ Condition: { [operator]: { [key]: value } } })
}

test('a document becomes statements; single values become lists', () => {
  const parsed = parsePolicy({
    Version: '1',
    Statement: [
      statement,
      {
        Effect: 'Deny',
        NotAction: ['ecd:Describe*', 'uhost:Get?mage'],
        Resource: ['acs:ecd:cn-hangzhou:1234:*', 'ucs:uhost:*:1234:instance/uhost-1'],
        Condition: { NotIpAddress: { 'acs:SourceIp': ['192.0.2.0/24', '2001:db8::/32'] } },
      },
    ],
  })
  assert.deepEqual(parsed, {
    version: '1',
    statements: [
      {
        effect: 'Allow',
        actions: { cover: 'only', patterns: ['ecd:CreateImage'] },
        resources: ['*'],
        conditions: [],
      },
      {
        effect: 'Deny',
        actions: { cover: 'except', patterns: ['ecd:Describe*', 'uhost:Get?mage'] },
        resources: ['acs:ecd:cn-hangzhou:1234:*', 'ucs:uhost:*:1234:instance/uhost-1'],
        conditions: [
          { operator: 'NotIpAddress', key: 'acs:SourceIp', values: ['192.0.2.0/24', '2001:db8::/32'] },
        ],
      },
    ],
  })
})

test('every error names the element and what it takes', () => {
  const without = (name: 'Effect' | 'Action' | 'Resource') => {
    const { [name]: _gone, ...rest } = statement
    return { Version: '1', Statement: [rest] }
  }
  const cases: [unknown, string, RegExp][] = [
    [undefined, 'Policy', /takes an object with Version and Statement, not nothing/],
    ['{}', 'Policy', /takes an object/],
    [[], 'Policy', /takes an object/],
    [{}, 'Version', /takes "1", not nothing/],
    [{ Version: 1, Statement: [statement] }, 'Version', /takes "1", not 1/],
    [{ Version: '2', Statement: [statement] }, 'Version', /takes "1", not "2"/],
    [{ Version: '1' }, 'Statement', /takes a list of statements/],
    [{ Version: '1', Statement: statement }, 'Statement', /takes a list of statements/],
    [{ Version: '1', Statement: [] }, 'Statement', /1 to 100 statements, not 0/],
    [{ Version: '1', Statement: Array(101).fill(statement) }, 'Statement', /not 101/],
    [{ Version: '1', Statement: [statement], Id: 'x' }, 'Id', /a policy takes Version, Statement/],
    [{ Version: '1', Statement: ['x'] }, 'Statement[0]', /takes an object with Effect/],
    [policy({ Effect: 'allow' }), 'Statement[0].Effect', /takes "Allow" or "Deny", not "allow"/],
    [without('Effect'), 'Statement[0].Effect', /not nothing/],
    [without('Action'), 'Statement[0]', /one of Action and NotAction, not neither/],
    [policy({ NotAction: 'ecd:*' }), 'Statement[0]', /not both/],
    [policy({ Action: [] }), 'Statement[0].Action', /not an empty list/],
    [policy({ Action: ['ecd:*', 7] }), 'Statement[0].Action[1]', /"ecd:CreateImage".*not 7/],
    [policy({ Action: 'CreateImage' }), 'Statement[0].Action', /not "CreateImage"/],
    [policy({ Action: 'ecd:Create Image' }), 'Statement[0].Action', /not "ecd:Create Image"/],
    [policy({ Action: Array(201).fill('ecd:*') }), 'Statement[0].Action', /up to 200 values/],
    [without('Resource'), 'Statement[0].Resource', /takes a resource as "acs:ecd:\*:\*:\*"/],
    [policy({ Resource: '' }), 'Statement[0].Resource', /1 to 512 characters/],
    [policy({ Resource: 'x'.repeat(513) }), 'Statement[0].Resource', /not 513/],
    [policy({ NotResource: '*' }), 'Statement[0].NotResource', /a statement takes Effect, Action/],
    [policy({ Principal: '*' }), 'Statement[0].Principal', /is not known here/],
    [policy({ Condition: null }), 'Statement[0].Condition', /an object of operators/],
    [condition('StringMatches', 'acs:SourceIp', 'x'), 'Statement[0].Condition.StringMatches', /no operator/],
    [policy({ Condition: { Bool: {} } }), 'Statement[0].Condition.Bool', /at least one condition key/],
    [condition('Bool', 'acs:Moon', 'true'), 'Statement[0].Condition.Bool.acs:Moon', /keys are acs:SourceIp/],
    [
      condition('Bool', 'acs:SourceIp', 'true'),
      'Statement[0].Condition.Bool.acs:SourceIp',
      /cannot be judged by Bool; use .*IpAddress, NotIpAddress/,
    ],
    [
      condition('Bool', 'acs:SecureTransport', true),
      'Statement[0].Condition.Bool.acs:SecureTransport',
      /takes "true" or "false".*not true/,
    ],
  ]
  for (const [json, field, pattern] of cases) {
    assert.throws(
      () => parsePolicy(json),
      (error) =>
        isFault(error, 'invalid') &&
        error.subject === 'policy' &&
        error.field === field &&
        error.message.startsWith(`Policy element ${field} `) &&
        pattern.test(error.message),
      `${JSON.stringify(json)?.slice(0, 200)} should be refused at ${field} with ${pattern}`,
    )
  }
})

test('condition values must be of the kind their operator compares', () => {
  const bad: [string, string, string[]][] = [
    [
      'IpAddress',
      'acs:SourceIp',
      ['', '10.0.0', '10.0.0.0/33', '10.0.0.0/', '::/129', '10.0.0.0/8/8', 'x', 'fe80::1%lo'],
    ],
    [
      'DateLessThan',
      'acs:CurrentTime',
      ['2026-01-31', '2026-02-30T00:00:00Z', '2026-01-31T08:00:00', 'now', '1'],
    ],
    ['NumericEquals', 'acs:CurrentTime', ['', ' 1', '0x10', '1e3', 'NaN', '1.']],
    ['Bool', 'acs:SecureTransport', ['True', 'yes', '1']],
  ]
  for (const [operator, key, values] of bad) {
    for (const value of values) {
      assert.throws(() => parsePolicy(condition(operator, key, value)), /takes/, `${operator} ${value}`)
      assert.throws(() => parsePolicy(condition(operator, key, [value])), /takes/, `${operator} [${value}]`)
    }
  }
  const good: [string, string, string[]][] = [
    ['NotIpAddress', 'acs:SourceIp', ['10.0.0.1', '10.0.0.0/8', '0.0.0.0/0', '::1', '2001:db8::/32']],
    ['DateNotEquals', 'acs:CurrentTime', ['2028-02-29T00:00Z', '2026-01-31T08:00:00+08:00']],
    ['NumericGreaterThanEquals', 'acs:CurrentTime', ['-1', '0', '1769846400.5']],
    ['StringNotLike', 'acs:SourceIp', ['10.*']],
  ]
  for (const [operator, key, values] of good) parsePolicy(condition(operator, key, values))
})

test('names that every object has are no elements', () => {
  for (const name of ['constructor', 'toString', '__proto__']) {
    const json: unknown = JSON.parse(
      `{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {"${name}": {"acs:SourceIp": "10.0.0.1"}}}]}`,
    )
    assert.throws(() => parsePolicy(json), /is no operator/)
  }
})

test('the built-in policies are documents of the same grammar', () => {
  assert.deepEqual(
    [...systemPolicies.keys()],
    [
      'AdministratorAccess',
      'AliyunECDFullAccess',
      'AliyunECDReadOnlyAccess',
      'UHostFullAccess',
      'UHostReadOnlyAccess',
      'CalotypeFullAccess',
    ],
  )
  for (const [name, entry] of systemPolicies) {
    assert.equal(entry.name, name)
    assert.deepEqual(parsePolicy(JSON.parse(entry.document)), entry.policy)
  }
})
