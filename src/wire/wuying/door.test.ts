import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { WireRequest } from '../gateway-contract.ts'
import { createBench } from './fixture.ts'
import {
  acs3Request,
  contentOf,
  KEY,
  rawRequest,
  refusalOf,
  rpcParameters,
  rpcRequest,
  spellPairs,
} from './fixture-requests.ts'

const FORM = { host: '127.0.0.1:18099', 'content-type': 'application/x-www-form-urlencoded' }

suite('every shape of a request is understood', () => {
  const named = { AcceptLanguage: 'en-US' }
  const post = rpcParameters('POST', 'DescribeRegions', named)
  const mixed = rpcParameters('POST', 'DescribeRegions', named)
  const isOfBody = (name: string): boolean => name === 'RegionId' || name === 'AcceptLanguage'
  const plus = rpcParameters('GET', 'DescribeRegions', { AcceptLanguage: 'en US' })
  const shapes: Record<string, WireRequest> = {
    'older scheme, GET': rpcRequest('DescribeRegions', named),
    'older scheme, POST form': rawRequest({
      method: 'POST',
      headers: FORM,
      body: Buffer.from(spellPairs(post)),
    }),
    'older scheme, POST query with a content type and no body': rawRequest({
      method: 'POST',
      headers: FORM,
      url: `/?${spellPairs(rpcParameters('POST', 'DescribeRegions', named))}`,
    }),
    'older scheme, query and form': rawRequest({
      method: 'POST',
      headers: FORM,
      url: `/?${spellPairs([...mixed].filter(([name]) => !isOfBody(name)))}`,
      body: Buffer.from(spellPairs([...mixed].filter(([name]) => isOfBody(name)))),
    }),
    'older scheme, spaces as plus signs': rawRequest({ url: `/?${spellPairs(plus).replaceAll('%20', '+')}` }),
    'older scheme, absolute request target': rawRequest({
      url: `http://127.0.0.1:18099/?${spellPairs(rpcParameters('GET', 'DescribeRegions', named))}`,
    }),
    'ACS3, POST query': acs3Request('DescribeRegions', named),
    'ACS3, GET': acs3Request('DescribeRegions', named, { method: 'GET' }),
    'ACS3, POST form': acs3Request('DescribeRegions', named, { inBody: true }),
    'ACS3 with a signed retry header': acs3Request('DescribeRegions', named, {
      headers: { 'x-acs-retry-attempts': '1' },
    }),
  }
  for (const [name, raw] of Object.entries(shapes)) {
    test(name, async () => {
      const answer = await createBench().door.handle(raw)
      assert.equal(answer.status, 200, String(answer.body))
      assert.match(String(answer.body), /"LocalName":"Hangzhou"/)
    })
  }

  test('where query and form both name a parameter the form wins', async () => {
    const parameters = rpcParameters('POST', 'DescribeRegions', { RegionId: 'cn-shanghai' })
    const raw = rawRequest({
      method: 'POST',
      headers: FORM,
      url: '/?RegionId=nowhere',
      body: Buffer.from(spellPairs(parameters)),
    })
    assert.equal((await createBench().door.handle(raw)).status, 200)
  })
})

suite('what the gateway refuses', () => {
  const refusals: Record<string, [WireRequest, number, string]> = {
    'a method but GET and POST': [rawRequest({ method: 'PUT' }), 400, 'UnsupportedHTTPMethod'],
    'no action': [rawRequest({}), 400, 'MissingAction'],
    'no version': [rpcRequest('DescribeRegions', { Version: undefined }), 400, 'MissingVersion'],
    'another version': [rpcRequest('DescribeRegions', { Version: '2014-05-26' }), 400, 'InvalidVersion'],
    'an unknown action': [rpcRequest('MakeCoffee'), 404, 'InvalidAction.NotFound'],
    'an action in other letters': [rpcRequest('describeregions'), 404, 'InvalidAction.NotFound'],
    'another path': [
      { ...rpcRequest('DescribeRegions'), url: `/x${rpcRequest('DescribeRegions').url.slice(1)}` },
      404,
      'InvalidAction.NotFound',
    ],
    'an unknown format': [rpcRequest('DescribeRegions', { Format: 'YAML' }), 400, 'InvalidParameter.Format'],
    'an unknown signature method': [
      rpcRequest('DescribeRegions', { SignatureMethod: 'HMAC-MD5' }),
      400,
      'InvalidSignatureMethod',
    ],
    'an unknown signature version': [
      rpcRequest('DescribeRegions', { SignatureVersion: '2.0' }),
      400,
      'InvalidSignatureVersion',
    ],
    'another signature type': [
      rpcRequest('DescribeRegions', { SignatureType: 'PRIVATEKEY' }),
      400,
      'InvalidSignatureType',
    ],
    'a bearer token': [
      rpcRequest('DescribeRegions', { SignatureType: 'BEARERTOKEN', BearerToken: 'x' }),
      400,
      'InvalidBearerToken',
    ],
    'another Authorization scheme of the family': [
      rawRequest({ headers: { host: 'h', authorization: 'ACS3-HMAC-SM3 Credential=a' } }),
      400,
      'InvalidSignatureMethod',
    ],
    'an Authorization in pieces': [
      rawRequest({ headers: { host: 'h', authorization: 'ACS3-HMAC-SHA256 Credential=a' } }),
      400,
      'InvalidAuthorization',
    ],
    'a malformed timestamp': [
      rpcRequest('DescribeRegions', { Timestamp: '2026-11-21 19:44' }),
      400,
      'InvalidTimeStamp.Format',
    ],
    'a timestamp that is no time': [
      rpcRequest('DescribeRegions', { Timestamp: '2026-13-41T19:44:49Z' }),
      400,
      'InvalidTimeStamp.Format',
    ],
    'a clock 20 minutes late': [
      rpcRequest('DescribeRegions', { Timestamp: '2026-11-21T19:24:49Z' }),
      400,
      'InvalidTimeStamp.Expired',
    ],
    'a clock 20 minutes early': [
      rpcRequest('DescribeRegions', { Timestamp: '2026-11-21T20:04:49Z' }),
      400,
      'InvalidTimeStamp.Expired',
    ],
    'a clock 20 minutes late, ACS3': [
      acs3Request('DescribeRegions', {}, { nowMs: Date.UTC(2026, 10, 21, 19, 24, 49) }),
      400,
      'InvalidTimeStamp.Expired',
    ],
    'an unknown key': [
      rpcRequest('DescribeRegions', {}, { keyId: 'nobody', secret: 'x' }),
      404,
      'InvalidAccessKeyId.NotFound',
    ],
    'an unknown temporary key': [
      rpcRequest('DescribeRegions', { SecurityToken: 't' }, { keyId: 'STS.nobody', secret: 'x' }),
      404,
      'InvalidAccessKeyId.NotFound',
    ],
    'an unknown key, ACS3': [
      acs3Request('DescribeRegions', {}, { key: { keyId: 'nobody', secret: 'x' } }),
      404,
      'InvalidAccessKeyId.NotFound',
    ],
    'a disabled key': [
      rpcRequest('DescribeRegions', {}, { keyId: 'asleep', secret: 's' }),
      400,
      'InvalidAccessKeyId.Inactive',
    ],
    'a token with a key that has none': [
      acs3Request('DescribeRegions', {}, { headers: { 'x-acs-security-token': 't' } }),
      400,
      'InvalidSecurityToken.MismatchWithAccessKey',
    ],
    'a wrong secret': [
      rpcRequest('DescribeRegions', {}, { ...KEY, secret: 'wrong' }),
      400,
      'SignatureDoesNotMatch',
    ],
    'a wrong secret, ACS3': [
      acs3Request('DescribeRegions', {}, { key: { ...KEY, secret: 'wrong' } }),
      400,
      'SignatureDoesNotMatch',
    ],
    'an unsigned x-acs header': [
      acs3Request('DescribeRegions', {}, { late: { 'x-acs-security-token': 't' } }),
      400,
      'SignatureDoesNotMatch',
    ],
    'a signed host that was changed': [
      acs3Request('DescribeRegions', {}, { late: { host: 'elsewhere' } }),
      400,
      'SignatureDoesNotMatch',
    ],
    'a parameter twice': [
      rawRequest({ url: `${rpcRequest('DescribeRegions').url}&RegionId=x` }),
      400,
      'InvalidRegionId',
    ],
    'a broken percent sign': [rawRequest({ url: '/?Action=%ZZ' }), 400, 'MalformedRequest'],
    'a body that is not UTF-8': [
      rawRequest({ method: 'POST', headers: FORM, body: Buffer.from([0x61, 0x3d, 0xff]) }),
      400,
      'MalformedRequest',
    ],
    'a body that is no form': [
      rawRequest({
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: Buffer.from('{}'),
      }),
      400,
      'InvalidContentType',
    ],
    'a nonce without end': [
      rpcRequest('DescribeRegions', { SignatureNonce: 'n'.repeat(257) }),
      400,
      'InvalidSignatureNonce',
    ],
  }
  for (const name of [
    'AccessKeyId',
    'Timestamp',
    'SignatureNonce',
    'SignatureMethod',
    'SignatureVersion',
    'RegionId',
  ])
    refusals[`no ${name}`] = [rpcRequest('DescribeRegions', { [name]: undefined }), 400, `Missing${name}`]
  refusals['no Signature'] = [rpcRequest('DescribeRegions', { Signature: '' }), 400, 'MissingSignature']
  for (const name of ['x-acs-date', 'x-acs-signature-nonce', 'x-acs-content-sha256'])
    refusals[`no ${name}`] = [
      acs3Request('DescribeRegions', {}, { late: { [name]: '' } }),
      400,
      `Missing${name}`,
    ]

  for (const [name, [raw, status, code]] of Object.entries(refusals)) {
    test(name, async () => {
      const bench = createBench([KEY, { keyId: 'asleep', secret: 's', isActive: false }])
      const answer = await bench.door.handle(raw)
      assert.deepEqual(refusalOf(answer), [status, code], String(answer.body))
      assert.equal(answer.headers['content-type'], 'application/json;charset=utf-8')
      const content = contentOf(answer)
      const keys = ['RequestId', 'HostId', 'Code', 'Message']
      assert.deepEqual(Object.keys(content).slice(0, 4), keys)
      assert.notEqual(content.Message, '')
      assert.deepEqual(bench.app.calls, [], 'nothing reached the inside')
      assert.deepEqual(bench.bugs, [])
    })
  }

  test('both sides of the clock window are open to the last second', async () => {
    const bench = createBench()
    for (const minutes of [-15, 15]) {
      const nowMs = bench.nowMs + minutes * 60_000
      assert.equal((await bench.door.handle(acs3Request('DescribeRegions', {}, { nowMs }))).status, 200)
    }
  })

  test('a nonce is used up by a good signature alone, and remembered as long as its timestamp is good', async () => {
    const bench = createBench()
    const nonce = { SignatureNonce: 'once' }
    const forged = rpcRequest('DescribeRegions', nonce, { ...KEY, secret: 'wrong' })
    assert.deepEqual(refusalOf(await bench.door.handle(forged)), [400, 'SignatureDoesNotMatch'])
    assert.equal(bench.keyring.nonces.size, 0)
    assert.equal((await bench.door.handle(rpcRequest('DescribeRegions', nonce))).status, 200)
    const again = await bench.door.handle(rpcRequest('DescribeRegions', nonce))
    assert.deepEqual(refusalOf(again), [400, 'SignatureNonceUsed'])
    assert.ok([...bench.keyring.nonces.values()].every((at) => at > bench.nowMs + 15 * 60_000))
  })

  test('a mismatch says our string to sign behind the first colon', async () => {
    const raw = rpcRequest('DescribeRegions', {}, { ...KEY, secret: 'wrong' })
    const { Message } = contentOf(await createBench().door.handle(raw)) as { Message: string }
    const [before, after] = Message.split(':')
    assert.equal(before, 'Specified signature is not matched with our calculation. server string to sign is')
    assert.match(String(after), /^GET&%2F&AccessKeyId%3DLTAI/)
    const acs3 = acs3Request('DescribeRegions', {}, { key: { ...KEY, secret: 'wrong' } })
    const third = contentOf(await createBench().door.handle(acs3)) as { Message: string }
    assert.match(third.Message, /server StringToSign is \[ACS3-HMAC-SHA256\n[0-9a-f]{64}\]$/)
  })
})
