import { createHmac, timingSafeEqual } from 'node:crypto'
import { Fault } from '../../image/fault.ts'
import { percentEncode } from '../acs3.ts'

/** Longer strings to sign are cut in the refusal: one megabyte of body must not be answered by five. */
const SHOWN_LENGTH_MAX = 65_536

/**
 * The text that the RPC scheme (`SignatureVersion=1.0`, HMAC-SHA1) signs: every decoded query and form parameter but
 * `Signature`, empty ones too, sorted by raw name. Headers, host and body bytes are not signed. Source: wuying.md §2.1.
 */
export function rpcStringToSign(method: string, parameters: ReadonlyMap<string, string>): string {
  const canonical = [...parameters.keys()]
    .filter((name) => name !== 'Signature')
    .sort() // Code-unit order, so that ImageId.10 stands before ImageId.2.
    .map((name) => `${percentEncode(name)}=${percentEncode(parameters.get(name) ?? '')}`)
    .join('&')
  return `${method}&%2F&${percentEncode(canonical)}`
}

/** Base64 of the HMAC-SHA1, whose key is the secret and an ampersand. */
export function signRpc(stringToSign: string, secret: string): string {
  return createHmac('sha1', `${secret}&`).update(stringToSign).digest('base64')
}

/**
 * Throws Fault 'denied' reason 'signature-mismatch' unless the parameter `Signature` is that of `secret`. The message
 * carries our string to sign behind its only colon of prose: clients split there to tell a wrong secret from a bug.
 */
export function verifyRpc(method: string, parameters: ReadonlyMap<string, string>, secret: string): void {
  const stringToSign = rpcStringToSign(method, parameters)
  const expected = Buffer.from(signRpc(stringToSign, secret))
  const given = Buffer.from(parameters.get('Signature') ?? '')
  if (expected.length === given.length && timingSafeEqual(expected, given)) return
  throw new Fault(
    'denied',
    `Specified signature is not matched with our calculation. server string to sign is:${stringToSign.slice(0, SHOWN_LENGTH_MAX)}`,
    { reason: 'signature-mismatch' },
  )
}
