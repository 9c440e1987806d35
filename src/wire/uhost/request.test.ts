import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { formRequest, jsonRequest, wireRequest } from './fixture.ts'
import { parseRequest } from './request.ts'

const FORM = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }

test('query and body are one map; a name in both with one value counts once', () => {
  const { flat } = parseRequest({
    ...formRequest({ Action: 'GetRegion', a: 'x y+&' }),
    url: '/?Action=GetRegion&b=%E6' + '%B5%8B',
  })
  assert.deepEqual(Object.fromEntries(flat), { Action: 'GetRegion', b: '测', a: 'x y+&' })
  assert.deepEqual(Object.fromEntries(parseRequest(jsonRequest('{"Limit":10.0}', '/?Limit=10')).flat), {
    Limit: '10',
  })
})

test('nested and flat JSON are the same parameters', () => {
  const nested = parseRequest(
    jsonRequest('{"Disks":[{"Size":40,"IsBoot":"True"},{"Size":2e1}],"Flag":true,"None":null}'),
  )
  const flat = parseRequest(
    jsonRequest('{"Disks.0.Size":40,"Disks.0.IsBoot":"True","Disks.1.Size":20,"Flag":true,"None":""}'),
  )
  assert.deepEqual(nested.flat, flat.flat)
  assert.deepEqual(nested.signed.get('None'), { is: 'null' })
})

const refused: readonly (readonly [string, Parameters<typeof parseRequest>[0], RegExp])[] = [
  ['a name twice in the query', wireRequest({ url: '/?a=1&a=1' }), /twice/],
  ['a name twice in the form', wireRequest({ headers: FORM, body: Buffer.from('a=1&%61=1') }), /twice/],
  ['two values for one name', { ...formRequest({ a: '1' }), url: '/?a=2' }, /twice/],
  ['a list beside its query', jsonRequest('{"a":["1"]}', '/?a=1'), /twice/],
  ['one parameter flat and nested', jsonRequest('{"a":{"b":1},"a.b":1}'), /twice/],
  ['half a percent', wireRequest({ url: '/?a=%4' }), /percent-encoded/],
  ['bytes that are no UTF-8, encoded', wireRequest({ url: '/?a=%ff' }), /percent-encoded/],
  ['bytes that are no UTF-8', wireRequest({ headers: FORM, body: Buffer.from([0x61, 0x3d, 0xff]) }), /UTF-8/],
  ['a JSON list', jsonRequest('[]'), /one object/],
  ['half a JSON object', jsonRequest('{"a":'), /not JSON/],
  ['a huge exponent', jsonRequest('{"a":1e99999999}'), /out of range/],
  [
    'another content type',
    wireRequest({ headers: { 'content-type': 'text/xml' }, body: Buffer.from('<a/>') }),
    /Content-Type/,
  ],
  ['another method', wireRequest({ method: 'PUT' }), /GET/],
]
for (const [what, request, why] of refused) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => parseRequest(request),
      (error) => error instanceof Fault && error.kind === 'invalid' && why.test(error.message),
    )
  })
}
