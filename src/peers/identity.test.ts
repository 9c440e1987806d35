import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { integer, objectId, octetString } from './der.ts'
import { fingerprintOf, makeIdentity } from './identity.ts'

test('a certificate is what others read in it', () => {
  // Signatures and serial numbers differ in length, so one certificate would not show all forms.
  for (let i = 0; i < 20; i++) {
    const { certificate, key } = makeIdentity()
    const read = new X509Certificate(certificate)
    assert.equal(read.subject, 'CN=calotype')
    assert.equal(read.issuer, 'CN=calotype')
    assert.ok(read.verify(read.publicKey), 'signed with its own key')
    assert.ok(read.checkPrivateKey(createPrivateKey(key)))
    assert.equal(read.ca, false)
    assert.equal(read.validTo, 'Dec 31 23:59:59 9999 GMT')
    assert.deepEqual(read.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
    assert.equal(read.fingerprint256.replaceAll(':', '').toLowerCase(), fingerprintOf(certificate))
  }
})

test('OpenSSL reads the same', () => {
  const { certificate } = makeIdentity()
  const openssl = (...wish: string[]) =>
    execFileSync('openssl', ['x509', '-noout', ...wish], { input: certificate, encoding: 'utf8' })
  const text = openssl('-text')
  for (const part of [
    /Version: 3 \(0x2\)/,
    /Signature Algorithm: ecdsa-with-SHA256/,
    /Issuer: CN ?= ?calotype/,
    /Not Before: Jan {2}1 00:00:00 2024 GMT/,
    /Not After : Dec 31 23:59:59 9999 GMT/,
    /ASN1 OID: prime256v1/,
    /Basic Constraints: critical\s+CA:FALSE/,
    /Key Usage: critical\s+Digital Signature\n/,
    /Extended Key Usage: critical\s+TLS Web Server Authentication, TLS Web Client Authentication/,
  ]) {
    assert.match(text, part)
  }
  const [, fingerprint = ''] = openssl('-fingerprint', '-sha256').split('=')
  assert.equal(fingerprint.trim().replaceAll(':', '').toLowerCase(), fingerprintOf(certificate))
})

test('no two identities are equal, and what is no certificate has no fingerprint', () => {
  assert.notEqual(fingerprintOf(makeIdentity().certificate), fingerprintOf(makeIdentity().certificate))
  for (const text of ['', 'no certificate', makeIdentity().certificate.replace(/\n[A-Za-z0-9]/, '\n*')]) {
    assert.throws(
      () => fingerprintOf(text),
      (error) => isFault(error, 'corrupt'),
    )
  }
})

test('DER has one form for each thing', () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
  assert.equal(hex(integer(Buffer.from([0, 0]))), '020100')
  assert.equal(hex(integer(Buffer.from([0, 0x7f]))), '02017f')
  assert.equal(hex(integer(Buffer.from([0x80]))), '02020080')
  assert.equal(hex(objectId('1.2.840.10045.4.3.2')), '06082a8648ce3d040302')
  assert.equal(hex(octetString(Buffer.alloc(127))).slice(0, 4), '047f')
  assert.equal(hex(octetString(Buffer.alloc(128))).slice(0, 6), '048180')
  assert.equal(hex(octetString(Buffer.alloc(256))).slice(0, 8), '04820100')
})
