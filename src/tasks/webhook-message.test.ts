import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { messageOf, signMessage } from './webhook-message.ts'

const text = readFileSync(new URL('../../docs/copies.md', import.meta.url), 'utf8')
const SECRET = 'sixteen of them!'

test('a signature is of seconds and body together', () => {
  // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'sixteen of them!'
  const known = '013131f1a68219c6b9ca8e5cba0643f8b05536fef37a0913db87740143ac07b9'
  assert.equal(signMessage(SECRET, Buffer.from('{"a":1}'), 1_700_000_000_999), `t=1700000000,v1=${known}`)
})

test('docs/copies.md tells how to check one, and that works', async () => {
  const [, code = ''] = /```js\n(.*?)```/s.exec(text) ?? []
  const { isGood } = await import(`data:text/javascript,${encodeURIComponent(code)}`)
  const told = { eventId: 1, webhookId: 'w', body: { name: 'é' } }
  const { headers, body } = messageOf(told, SECRET, Date.now())
  const signature = headers['Calotype-Signature'] ?? ''
  assert.equal(isGood(SECRET, signature, body), true)
  assert.equal(isGood('another secret!!', signature, body), false)
  assert.equal(isGood(SECRET, signature, Buffer.from(`${body} `)), false)
  assert.equal(isGood(SECRET, signature.replace(/\d+/, '1'), body), false)
  assert.equal(
    isGood(SECRET, messageOf(told, SECRET, Date.now() - 400_000).headers['Calotype-Signature'], body),
    false,
  )
  assert.equal(isGood(SECRET, 'v1=x', body), false)
})
