import { createHash, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import {
  bitString,
  boolean,
  explicit,
  generalizedTime,
  integer,
  objectId,
  octetString,
  sequence,
  set,
  utcTime,
  utf8String,
} from './der.ts'

/** What an installation shows to others, and proves that it is its own. PEM. The key is never to be logged. */
export interface PeerIdentity {
  readonly certificate: string
  readonly key: string
}

const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2'
const COMMON_NAME = '2.5.4.3'
const BASIC_CONSTRAINTS = '2.5.29.19'
const KEY_USAGE = '2.5.29.15'
const EXTENDED_KEY_USAGE = '2.5.29.37'
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'

/**
 * A new key (ECDSA, P-256) and a certificate that it signed itself, for both ends of TLS. It does not end: others know it
 * by its fingerprint, and forget it by taking that out of their settings. Source: RFC 5280, section 4.1.
 */
export function makeIdentity(): PeerIdentity {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = sequence(objectId(ECDSA_WITH_SHA256))
  const name = sequence(set(sequence(objectId(COMMON_NAME), utf8String('calotype'))))
  const toSign = sequence(
    explicit(0, integer(Buffer.from([2]))),
    // Positive and never 0, as the RFC wants it.
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    name,
    // From a fixed day on, so that a server whose clock is late is believed as well. "99991231235959Z": no known end.
    sequence(utcTime('240101000000Z'), generalizedTime('99991231235959Z')),
    name,
    publicKey.export({ format: 'der', type: 'spki' }),
    explicit(
      3,
      sequence(
        extension(BASIC_CONSTRAINTS, sequence()),
        // Digital signature alone: the first bit.
        extension(KEY_USAGE, bitString(Buffer.from([0x80]), 7)),
        extension(EXTENDED_KEY_USAGE, sequence(objectId(SERVER_AUTH), objectId(CLIENT_AUTH))),
      ),
    ),
  )
  const signature = sign('sha256', toSign, { key: privateKey, dsaEncoding: 'der' })
  const certificate = sequence(toSign, algorithm, bitString(signature))
  return {
    certificate: pem(certificate),
    key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  }
}

/** The SHA-256 of a certificate, by which others know it: 64 lower-case hex digits. Throws Fault 'corrupt' for no certificate. */
export function fingerprintOf(certificate: string): string {
  try {
    return fingerprintOfDer(new X509Certificate(certificate).raw)
  } catch (cause) {
    throw new Fault(
      'corrupt',
      "The certificate of this installation is damaged. Restore it from a backup, or remove it with its key: then a new one is made, which the other installations' settings have to name.",
      { subject: 'peer', cause },
    )
  }
}

export function fingerprintOfDer(certificate: Uint8Array): string {
  return createHash('sha256').update(certificate).digest('hex')
}

function extension(id: string, value: Uint8Array): Buffer {
  return sequence(objectId(id), boolean(true), octetString(value))
}

function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}
