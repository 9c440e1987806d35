/** What a certificate is written in: DER. Source: ITU-T X.690. Each function answers one whole element. */

function element(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([tag]), lengthOf(body.length), body])
}

function lengthOf(bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.from([bytes])
  const digits = Buffer.from(evenHex(bytes.toString(16)), 'hex')
  return Buffer.concat([Buffer.from([0x80 | digits.length]), digits])
}

const evenHex = (hex: string): string => (hex.length % 2 === 0 ? hex : `0${hex}`)

export const sequence = (...parts: readonly Uint8Array[]): Buffer => element(0x30, ...parts)
export const set = (...parts: readonly Uint8Array[]): Buffer => element(0x31, ...parts)
export const boolean = (value: boolean): Buffer => element(0x01, Buffer.from([value ? 0xff : 0]))
export const octetString = (bytes: Uint8Array): Buffer => element(0x04, bytes)
export const utf8String = (text: string): Buffer => element(0x0c, Buffer.from(text))
/** YYYYMMDDHHMMSSZ. */
export const generalizedTime = (text: string): Buffer => element(0x18, Buffer.from(text))
/** YYMMDDHHMMSSZ: what times before 2050 are written as. */
export const utcTime = (text: string): Buffer => element(0x17, Buffer.from(text))
/** `[number]`, around a whole element. */
export const explicit = (number: number, part: Uint8Array): Buffer => element(0xa0 | number, part)

/** The bytes of a number that is not negative, highest first. */
export function integer(bytes: Uint8Array): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0)
  const digits = first < 0 ? Buffer.from([0]) : bytes.subarray(first)
  // The highest bit would make it negative.
  const sign = (digits[0] ?? 0) >= 0x80 ? Buffer.from([0]) : Buffer.alloc(0)
  return element(0x02, sign, digits)
}

/** `unusedCount`: how many of the last byte's bits are none. */
export function bitString(bytes: Uint8Array, unusedCount = 0): Buffer {
  return element(0x03, Buffer.from([unusedCount]), bytes)
}

/** `dotted`: 1.2.840.10045.4.3.2, two numbers or more. */
export function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number)
  return element(0x06, ...[40 * first + second, ...others].map(base128))
}

function base128(number: number): Buffer {
  const digits = [number & 0x7f]
  for (let rest = number >>> 7; rest > 0; rest >>>= 7) digits.unshift(0x80 | (rest & 0x7f))
  return Buffer.from(digits)
}
