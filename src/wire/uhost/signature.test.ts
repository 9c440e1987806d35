import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { type JsonNode, parseJson } from '../strict-json.ts'
import { parseRequest } from './request.ts'
import { isSignedBy, signText, textToSign } from './signature.ts'

interface Vector {
  readonly id: string
  readonly method: string
  readonly target: string
  readonly content_type: string | null
  readonly body: string
  readonly private_key: string
  readonly string_to_sign: string
  readonly signature: string
}
interface Published {
  readonly id: string
  readonly params: unknown
  readonly private_key: string
  readonly string_to_sign: string
  readonly signature: string
}
const file = JSON.parse(
  readFileSync(new URL('../../../test/vectors/uhost.json', import.meta.url), 'utf8'),
) as {
  readonly vectors: readonly Vector[]
  readonly divergent: { readonly vectors: readonly Vector[] }
  readonly published: readonly Published[]
  readonly negative: { readonly vectors: readonly { readonly id: string }[] }
}

function requestOf(vector: Vector) {
  return parseRequest({
    method: vector.method,
    url: vector.target,
    headers: vector.content_type === null ? {} : { 'content-type': vector.content_type },
    body: Buffer.from(vector.body),
  })
}

test('the vectors are all there', () => {
  assert.deepEqual(
    [file.vectors, file.divergent.vectors, file.published, file.negative.vectors].map((each) => each.length),
    [40, 1, 4, 5],
  )
})

for (const vector of file.vectors) {
  test(vector.id, () => {
    const { signed } = requestOf(vector)
    assert.equal(textToSign(signed, vector.private_key, 'plain'), vector.string_to_sign)
    assert.ok(isSignedBy(signed, vector.private_key, vector.signature))
    assert.ok(!isSignedBy(signed, `${vector.private_key}x`, vector.signature))
    assert.ok(!isSignedBy(signed, vector.private_key, vector.signature.toUpperCase()))
    assert.ok(!isSignedBy(signed, vector.private_key, vector.signature.slice(1)))
  })
}

for (const vector of file.divergent.vectors) {
  test(`${vector.id}: numbers signed as sent`, () => {
    const { signed } = requestOf(vector)
    assert.equal(textToSign(signed, vector.private_key, 'as-sent'), vector.string_to_sign)
    assert.notEqual(textToSign(signed, vector.private_key, 'plain'), vector.string_to_sign)
    assert.ok(isSignedBy(signed, vector.private_key, vector.signature))
  })
}

for (const vector of file.published) {
  test(vector.id, () => {
    const node = parseJson(JSON.stringify(vector.params))
    assert.equal(node.is, 'object')
    const text = textToSign(node.is === 'object' ? node.members : new Map(), vector.private_key, 'plain')
    assert.equal(text, vector.string_to_sign)
    assert.equal(signText(text), vector.signature)
  })
}

test('names are ordered by their bytes, not by UTF-16 units', () => {
  const node = (text: string): JsonNode => ({ is: 'text', text })
  const parameters = new Map([
    ['\u{1f680}', node('2')],
    ['\uff5e', node('1')],
  ])
  assert.equal(textToSign(parameters, 'key', 'plain'), '\uff5e1\u{1f680}2key')
})
