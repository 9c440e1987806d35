import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../../image/fault.ts'
import type { WireAnswer } from '../gateway-contract.ts'
import { formRequest, jsonRequest, NOW_MS, REQUEST_ID, signed, testDoor, wireRequest } from './fixture.ts'

interface Negative {
  readonly id: string
  readonly expect: string
  readonly method: string
  readonly target: string
  readonly content_type: string
  readonly body: string
}
const { negative } = JSON.parse(
  readFileSync(new URL('../../../test/vectors/uhost.json', import.meta.url), 'utf8'),
) as { negative: { vectors: readonly Negative[] } }

function bodyOf(answer: WireAnswer) {
  assert.equal(answer.status, 200)
  assert.equal(answer.headers['Content-Type'], 'application/json')
  assert.equal(answer.headers['X-UCLOUD-REQUEST-UUID'], REQUEST_ID)
  return JSON.parse(answer.body.toString()) as { RetCode: number; Action?: string; Message?: string }
}

for (const vector of negative.vectors) {
  test(vector.id, async () => {
    const { door, calls } = testDoor()
    const answer = await door.handle(
      wireRequest({
        method: vector.method,
        url: vector.target,
        headers: { 'content-type': vector.content_type },
        body: Buffer.from(vector.body),
      }),
    )
    assert.equal(`RetCode ${bodyOf(answer).RetCode}`, vector.expect)
    assert.deepEqual(calls, [])
  })
}

const REGION = { Action: 'GetRegion' }
const refusals: readonly (readonly [string, Parameters<typeof formRequest>[0], number, RegExp])[] = [
  ['no Action', signed({ Region: 'hk' }), 160, /^Missing Action/],
  ['an unknown Action', signed({ Action: 'MoveImage' }), 161, /^Action \[MoveImage\] not found/],
  [
    'an unknown Action, badly signed',
    { ...signed({ Action: 'MoveImage' }), x: 'y' },
    171,
    /^Signature VerifyAC Error/,
  ],
  ['no signature', { ...REGION, PublicKey: 'x' }, 170, /^Missing signature/],
  ['no key', { ...REGION, Signature: 'x' }, 220, /^Missing params \[PublicKey\]$/],
  ['a wrong signature', { ...signed(REGION), Signature: '0'.repeat(40) }, 171, /^Signature VerifyAC Error/],
  ['an unknown key', signed(REGION, 'nobody'), 172, /^User Not Exists/],
  ['an inactive key', signed(REGION, 'sleeping-key'), 172, /^User Not Exists/],
  ['a SecurityToken', signed({ ...REGION, SecurityToken: 'x' }), 174, /^Token Not Exists/],
]
for (const [what, parameters, retCode, message] of refusals) {
  test(`${what} answers ${retCode}`, async () => {
    const { door, calls } = testDoor()
    const body = bodyOf(await door.handle(formRequest(parameters)))
    assert.equal(body.RetCode, retCode)
    assert.match(body.Message ?? '', message)
    assert.deepEqual(Object.keys(body), ['RetCode', 'Message'])
    assert.deepEqual(calls, [])
  })
}

test('an empty SecurityToken is none; it is signed all the same', async () => {
  const { ask } = testDoor()
  assert.equal((await ask({ ...REGION, SecurityToken: '' })).RetCode, 0)
})

test('a Bearer token answers 174, beside a signature 171', async () => {
  const { door } = testDoor()
  const headers = { authorization: 'Bearer abc' }
  assert.equal(bodyOf(await door.handle(wireRequest({ url: '/?Action=GetRegion', headers }))).RetCode, 174)
  const both = formRequest(signed(REGION))
  assert.equal(bodyOf(await door.handle({ ...both, headers: { ...both.headers, ...headers } })).RetCode, 171)
})

test('the window of U-Timestamp-Ms is off by default, refuses a request without it, or with an old one', async () => {
  const at = (header: string | undefined) => {
    const request = formRequest(signed(REGION))
    return header === undefined
      ? request
      : { ...request, headers: { ...request.headers, 'u-timestamp-ms': header } }
  }
  const old = at(String(NOW_MS - 20 * 60_000))
  assert.equal(bodyOf(await testDoor().door.handle(at(undefined))).RetCode, 0)
  assert.equal(bodyOf(await testDoor().door.handle(old)).RetCode, 0)
  const { door } = testDoor({}, { strictReplayWindowMs: 15 * 60_000 })
  const without = bodyOf(await door.handle(at(undefined)))
  assert.deepEqual([without.RetCode, without.Message], [220, 'Missing params [U-Timestamp-Ms]'])
  assert.equal(bodyOf(await door.handle(at(String(NOW_MS + 60_000)))).RetCode, 0)
  for (const request of [old, at(String(NOW_MS + 20 * 60_000)), at('yesterday')]) {
    const body = bodyOf(await door.handle(request))
    assert.equal(body.RetCode, 171)
    assert.match(body.Message ?? '', /U-Timestamp-Ms/)
  }
})

test('GET, form, flat and nested JSON reach the same operation', async () => {
  const { door, calls } = testDoor()
  const query = new URLSearchParams(signed({ Action: 'DescribeImage', Region: 'hk', Limit: '5' })).toString()
  assert.equal(bodyOf(await door.handle(wireRequest({ method: 'GET', url: `/?${query}` }))).RetCode, 0)
  const all = signed({ Action: 'DescribeImage', Region: 'hk', Limit: '5' })
  assert.equal(bodyOf(await door.handle(formRequest(all))).RetCode, 0)
  assert.equal(bodyOf(await door.handle(jsonRequest(JSON.stringify({ ...all, Limit: 5 })))).RetCode, 0)
  const inputs = calls.map((call) => call.input)
  assert.equal(inputs.length, 3)
  assert.deepEqual(inputs[0], inputs[1])
  assert.deepEqual(inputs[1], inputs[2])
})

test('malformed JSON answers 230, a body that is too large 240, neither with an Action', async () => {
  const { door } = testDoor()
  const malformed = bodyOf(await door.handle(jsonRequest('{"Action":')))
  assert.equal(malformed.RetCode, 230)
  assert.match(malformed.Message ?? '', /^Params \[Body\] not available: .*not JSON/)
  const fault = new Fault('invalid', 'The body is over 1048576 bytes.', { reason: 'too-large' })
  const large = bodyOf(door.refuse(fault, wireRequest({})))
  assert.deepEqual(large, {
    RetCode: 240,
    Message: 'Params [Body] too large: The body is over 1048576 bytes.',
  })
  const http = new Fault('invalid', 'The request is not well-formed HTTP.', { reason: 'malformed' })
  assert.deepEqual(bodyOf(door.refuse(http, wireRequest({}))), {
    RetCode: 230,
    Message: 'The request is not well-formed HTTP.',
  })
})

test('a bug answers 150 without its words, and is reported', async () => {
  const bug = new TypeError('secret path /srv/x')
  const { door, reports } = testDoor({ fault: bug })
  const answer = await door.handle(formRequest(signed(REGION)))
  const body = bodyOf(answer)
  assert.equal(body.RetCode, 150)
  assert.equal(body.Action, 'GetRegionResponse')
  assert.ok(!answer.body.toString().includes('secret'))
  assert.deepEqual(reports, [bug])
})

test('the cause of a fault is reported, and not answered', async () => {
  const fault = new Fault('unavailable', 'Try again.', { cause: new Error('secret') })
  const { door, reports } = testDoor({ fault })
  const answer = await door.handle(formRequest(signed(REGION)))
  assert.equal(bodyOf(answer).RetCode, 8024)
  assert.ok(!answer.body.toString().includes('secret'))
  assert.deepEqual(reports, [fault])
})

test('whatever comes, the answer is JSON with a RetCode and nothing is reported as a bug', async () => {
  const { door, reports } = testDoor()
  const types = fc.constantFrom('application/json', 'application/x-www-form-urlencoded', '', 'text/plain')
  await fc.assert(
    fc.asyncProperty(fc.string(), types, fc.uint8Array({ maxLength: 200 }), async (query, type, body) => {
      const request = wireRequest({
        url: `/?${query}`,
        headers: { 'content-type': type },
        body: Buffer.from(body),
      })
      assert.ok(bodyOf(await door.handle(request)).RetCode > 0)
    }),
    { numRuns: 500 },
  )
  const names = fc.constantFrom(
    'Region',
    'Zone',
    'Disks',
    'Disks.0',
    'Disks.0.Size',
    'ImageId',
    'Labels.-1.Key',
    '__proto__',
    'constructor',
    'UHostIds.0',
  )
  const actions = fc.constantFrom(
    'CreateUHostInstance',
    'DescribeImage',
    'CopyCustomImage',
    'DescribeUHostInstance',
  )
  await fc.assert(
    fc.asyncProperty(actions, fc.dictionary(names, fc.string()), async (action, parameters) => {
      const all = signed({ Region: 'hk', ...parameters, Action: action })
      assert.equal(typeof bodyOf(await door.handle(formRequest(all))).RetCode, 'number')
    }),
    { numRuns: 500 },
  )
  assert.deepEqual(reports, [])
})
