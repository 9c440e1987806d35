import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type AccessRequest, evaluate } from './evaluate.ts'
import { type Policy, parsePolicy, type Statement } from './policy.ts'
import { systemPolicies } from './system-policies.ts'

const context = { sourceIp: '192.0.2.77', nowMs: Date.UTC(2026, 0, 31), isSecure: false }
const anywhere = ['acs:ecd:cn-hangzhou:1234:*']
const of = (...statements: object[]) => parsePolicy({ Version: '1', Statement: statements })
const ask = (policies: readonly Policy[], action: string, resources: readonly string[] = anywhere) => {
  return evaluate({ policies, action, resources, context })
}
const builtIn = (name: string): Policy => {
  const found = systemPolicies.get(name)
  assert(found !== undefined)
  return found.policy
}

test('what nothing allows is denied, what one statement allows is allowed', () => {
  const one = of({ Effect: 'Allow', Action: 'ecd:CreateImage', Resource: '*' })
  assert.deepEqual(ask([], 'ecd:CreateImage'), { allowed: false, why: 'implicit' })
  assert.deepEqual(ask([one], 'ecd:CreateImage'), { allowed: true })
  for (const other of ['ecd:CreateImages', 'ecd:CreateDesktops', 'uhost:CreateImage', 'xecd:CreateImage']) {
    assert.deepEqual(ask([one], other), { allowed: false, why: 'implicit' })
  }
})

test('a Deny wins wherever it stands, and is named', () => {
  const allow = { Effect: 'Allow', Action: '*', Resource: '*' }
  const deny = { Effect: 'Deny', Action: ['ecd:Delete*', 'uhost:Terminate*'], Resource: '*' }
  for (const policies of [
    [of(allow), of(deny)],
    [of(deny), of(allow)],
    [of(allow, deny)],
    [of(deny, allow)],
  ]) {
    const decision = ask(policies, 'ecd:DeleteImages')
    assert(!decision.allowed && decision.why === 'explicit')
    const { policyIndex, statementIndex } = decision.statement
    assert.equal(policies[policyIndex]?.statements[statementIndex]?.effect, 'Deny')
    assert.deepEqual(ask(policies, 'ecd:CreateImage'), { allowed: true })
  }
})

test('action names match in any case, resources as written', () => {
  const policy = of({ Effect: 'Allow', Action: 'ECD:createimage', Resource: 'acs:ecd:*:1234:*' })
  assert.deepEqual(ask([policy], 'ecd:CreateImage'), { allowed: true })
  assert.equal(ask([policy], 'ecd:CreateImage', ['acs:ecd:cn-hangzhou:9999:*']).allowed, false)
  assert.equal(ask([policy], 'ecd:CreateImage', ['ACS:ecd:cn-hangzhou:1234:*']).allowed, false)
})

test('NotAction covers everything but what it names', () => {
  const allow = of({ Effect: 'Allow', NotAction: 'ecd:Delete*', Resource: '*' })
  assert.equal(ask([allow], 'ecd:CreateImage').allowed, true)
  assert.deepEqual(ask([allow], 'ecd:DeleteImages'), { allowed: false, why: 'implicit' })
  const deny = of({ Effect: 'Deny', NotAction: ['ecd:Describe*', 'ecd:Get*'], Resource: '*' })
  const everything = builtIn('AdministratorAccess')
  assert.equal(ask([everything, deny], 'ecd:DescribeImages').allowed, true)
  assert.equal(ask([everything, deny], 'ecd:CreateImage').allowed, false)
})

test('both forms of resource names; every resource needs its own Allow, one Deny is enough', () => {
  const image = 'acs:ecd:cn-hangzhou:1234:image/m-1'
  const host = 'ucs:uhost:cn-bj2:1234:instance/uhost-1'
  const policy = of(
    { Effect: 'Allow', Action: '*', Resource: ['acs:ecd:*:*:*', 'ucs:uhost:*:1234:instance/uhost-?'] },
    { Effect: 'Deny', Action: '*', Resource: 'ucs:uhost:*:*:instance/uhost-9' },
  )
  assert.equal(ask([policy], 'uhost:CopyCustomImage', [image, host]).allowed, true)
  assert.equal(
    ask([policy], 'uhost:CopyCustomImage', [image, 'ucs:uhost:cn-bj2:5:instance/uhost-1']).allowed,
    false,
  )
  const denied = ask([policy], 'uhost:CopyCustomImage', [image, 'ucs:uhost:cn-bj2:1234:instance/uhost-9'])
  assert(!denied.allowed && denied.why === 'explicit')
  assert.throws(() => ask([policy], 'uhost:CopyCustomImage', []), assert.AssertionError)
})

test('a statement whose condition does not hold says nothing', () => {
  const policy = of(
    { Effect: 'Allow', Action: 'ecd:*', Resource: '*' },
    {
      Effect: 'Deny',
      Action: 'ecd:*',
      Resource: '*',
      Condition: { NotIpAddress: { 'acs:SourceIp': ['192.0.2.0/24'] } },
    },
  )
  assert.equal(ask([policy], 'ecd:CreateImage').allowed, true)
  const elsewhere = { ...context, sourceIp: '198.51.100.1' }
  const decision = evaluate({
    policies: [policy],
    action: 'ecd:CreateImage',
    resources: anywhere,
    context: elsewhere,
  })
  assert.equal(decision.allowed, false)
})

test('the built-in policies allow what their names say', () => {
  const cases: [string, string, boolean][] = [
    ['AdministratorAccess', 'calotype:DeleteProject', true],
    ['AliyunECDFullAccess', 'ecd:CreateImage', true],
    ['AliyunECDFullAccess', 'uhost:CreateCustomImage', false],
    ['AliyunECDReadOnlyAccess', 'ecd:DescribeImages', true],
    ['AliyunECDReadOnlyAccess', 'ecd:GetConnectionTicket', true],
    ['AliyunECDReadOnlyAccess', 'ecd:ListTagResources', true],
    ['AliyunECDReadOnlyAccess', 'ecd:CreateImage', false],
    ['UHostFullAccess', 'uhost:CopyCustomImage', true],
    ['UHostFullAccess', 'uaccount:GetRegion', true],
    ['UHostFullAccess', 'ecd:CreateImage', false],
    ['UHostReadOnlyAccess', 'uhost:DescribeImage', true],
    ['UHostReadOnlyAccess', 'uhost:GetImageCopyProgress', true],
    ['UHostReadOnlyAccess', 'uaccount:GetProjectList', true],
    ['UHostReadOnlyAccess', 'uhost:CopyCustomImage', false],
    ['CalotypeFullAccess', 'calotype:VerifyStore', true],
    ['CalotypeFullAccess', 'ecd:DescribeImages', false],
  ]
  for (const [name, action, expected] of cases) {
    assert.equal(ask([builtIn(name)], action).allowed, expected, `${name} ${action}`)
  }
})

const actions = ['ecd:CreateImage', 'ecd:DescribeImages', 'uhost:CopyCustomImage'] as const
const resources = ['acs:ecd:cn-hangzhou:1:*', 'ucs:uhost:hk:1:image/uimage-1'] as const
const statements = (effect: fc.Arbitrary<'Allow' | 'Deny'>): fc.Arbitrary<Statement> =>
  fc.record({
    effect,
    actions: fc.record({
      cover: fc.constantFrom('only', 'except'),
      patterns: fc.array(fc.constantFrom(...actions, '*', 'ecd:*', '*:Describe*', 'uhost:?opy*'), {
        minLength: 1,
        maxLength: 3,
      }),
    }),
    resources: fc.array(fc.constantFrom(...resources, '*', 'acs:*', 'ucs:uhost:hk:?:*'), {
      minLength: 1,
      maxLength: 3,
    }),
    conditions: fc.constantFrom(
      [],
      [{ operator: 'Bool', key: 'acs:SecureTransport', values: ['true'] }],
      [{ operator: 'IpAddress', key: 'acs:SourceIp', values: ['192.0.2.0/24'] }],
    ),
  })
const policiesOf = (effect: fc.Arbitrary<'Allow' | 'Deny'>): fc.Arbitrary<Policy[]> =>
  fc.array(
    fc.array(statements(effect), { minLength: 1, maxLength: 4 }).map((list) => {
      return { version: '1', statements: list } as const
    }),
    { maxLength: 4 },
  )
const anyEffect = fc.constantFrom<'Allow' | 'Deny'>('Allow', 'Deny')
const requests = fc.record<AccessRequest>({
  policies: policiesOf(anyEffect),
  action: fc.constantFrom(...actions),
  resources: fc.subarray([...resources], { minLength: 1 }),
  context: fc.record({
    sourceIp: fc.constantFrom('192.0.2.1', '198.51.100.1', '2001:db8::1'),
    nowMs: fc.constant(0),
    isSecure: fc.boolean(),
  }),
})

test('property: a Deny that fits always wins, wherever it is put', () => {
  fc.assert(
    fc.property(requests, fc.nat(), (request, place) => {
      const deny = of({ Effect: 'Deny', Action: request.action, Resource: request.resources[0] })
      const policies = request.policies.toSpliced(place % (request.policies.length + 1), 0, deny)
      const decision = evaluate({ ...request, policies })
      assert(!decision.allowed && decision.why === 'explicit')
    }),
  )
})

test('property: adding an Allow never takes a right away, adding a Deny never gives one', () => {
  fc.assert(
    fc.property(requests, policiesOf(fc.constant('Allow')), (request, more) => {
      const after = evaluate({ ...request, policies: [...more, ...request.policies] })
      if (evaluate(request).allowed) assert.equal(after.allowed, true)
    }),
  )
  fc.assert(
    fc.property(requests, policiesOf(fc.constant('Deny')), (request, more) => {
      const after = evaluate({ ...request, policies: [...more, ...request.policies] })
      if (!evaluate(request).allowed) assert.equal(after.allowed, false)
    }),
  )
})

test('property: the order of the policies changes no answer', () => {
  fc.assert(
    fc.property(requests, (request) => {
      const reversed = request.policies.map(({ version, statements }) => {
        return { version, statements: statements.toReversed() }
      })
      const after = evaluate({ ...request, policies: reversed.toReversed() })
      assert.equal(after.allowed, evaluate(request).allowed)
    }),
  )
})
