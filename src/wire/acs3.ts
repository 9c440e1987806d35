import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { Fault } from '../image/fault.ts'

export const ACS3_SCHEME = 'ACS3-HMAC-SHA256'

/** One decoded name and value, in the order in which they were sent. */
export type Pair = readonly [name: string, value: string]

/** What the scheme signs. `path` and `query` are taken from the request line as it was sent, not from a router. */
export interface Acs3Request {
  readonly method: string
  readonly path: string
  readonly query: readonly Pair[]
  readonly headers: IncomingHttpHeaders
  readonly body: Uint8Array
}

export interface Acs3Authorization {
  readonly keyId: string
  readonly signedHeaders: readonly string[]
  readonly signature: string
}

/**
 * Percent-encoding of UTF-8 in which only `A-Z a-z 0-9 - _ . ~` stay as they are, hex digits in upper case.
 * Source: wuying.md §2.1.
 */
export function percentEncode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

/** Several times what the longest lists of both clouds need; a megabyte of names would cost a hundred of memory. */
export const PARAMETER_COUNT_MAX = 5000

/** The parts of a query or form between its `&`, one at a time, without the empty ones. */
export function* splitPairs(text: string): Generator<string> {
  for (let at = 0; at < text.length; ) {
    const next = text.indexOf('&', at)
    const end = next < 0 ? text.length : next
    if (end > at) yield text.slice(at, end)
    at = end + 1
  }
}

/**
 * The decoded pairs of a query or form body. A space may come as `+` or `%20`; a name without `=` has an empty
 * value. Throws Fault 'invalid' reason 'malformed' where a percent sign does not begin valid UTF-8, 'too-large' for
 * more than 5 000 pairs.
 */
export function decodePairs(text: string): Pair[] {
  const pairs: Pair[] = []
  for (const part of splitPairs(text)) {
    if (pairs.length === PARAMETER_COUNT_MAX) {
      const message = `There are more than ${PARAMETER_COUNT_MAX} parameters. Send fewer in one request.`
      throw new Fault('invalid', message, { reason: 'too-large' })
    }
    const cut = part.indexOf('=')
    const name = cut < 0 ? part : part.slice(0, cut)
    pairs.push([decodePart(name), cut < 0 ? '' : decodePart(part.slice(cut + 1))])
  }
  return pairs
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch (cause) {
    throw new Fault(
      'invalid',
      `'${text.slice(0, 40)}' is not percent-encoded UTF-8. Encode each name and value once.`,
      { reason: 'malformed', cause },
    )
  }
}

/** Path and query of a request line; a proxy's absolute form loses its scheme and authority. */
export function splitUrl(url: string): { readonly path: string; readonly queryText: string } {
  const target = url.replace(/^https?:\/\/[^/?#]*/i, '')
  const cut = target.indexOf('?')
  const path = cut < 0 ? target : target.slice(0, cut)
  return { path: path === '' ? '/' : path, queryText: cut < 0 ? '' : target.slice(cut + 1) }
}

/**
 * Reads `ACS3-HMAC-SHA256 Credential=…,SignedHeaders=a;b,Signature=hex`; undefined for any other scheme.
 * Throws Fault 'invalid' reason 'authorization-malformed' if a part is missing.
 */
export function findAcs3(header: string | undefined): Acs3Authorization | undefined {
  if (header === undefined || !header.startsWith(`${ACS3_SCHEME} `)) return undefined
  const match =
    /^Credential=([^,\s]{1,128}),\s*SignedHeaders=([a-z0-9;_-]+),\s*Signature=([0-9a-f]{64})$/.exec(
      header.slice(ACS3_SCHEME.length + 1).trim(),
    )
  const [, keyId, names, signature] = match ?? []
  if (keyId === undefined || names === undefined || signature === undefined) {
    throw new Fault(
      'invalid',
      `Send 'Authorization: ${ACS3_SCHEME} Credential=<key>,SignedHeaders=<a;b>,Signature=<64 hex digits>'.`,
      { reason: 'authorization-malformed' },
    )
  }
  return { keyId, signedHeaders: names.split(';'), signature }
}

/** The text whose HMAC is the signature. Source: wuying.md §2.2. */
export function acs3StringToSign(request: Acs3Request, signedHeaders: readonly string[]): string {
  const names = [...signedHeaders].sort()
  const query = [...request.query]
    .sort(([a, x], [b, y]) => compare(a, b) || compare(x, y))
    .map(([name, value]) => `${name}=${percentEncode(value)}`)
    .join('&')
  const headers = names.map((name) => `${name}:${headerText(request.headers[name])}\n`).join('')
  const canonical = [
    request.method,
    request.path,
    query,
    headers,
    names.join(';'),
    sha256(request.body), // The bytes themselves, because the header only claims to be their hash.
  ].join('\n')
  return `${ACS3_SCHEME}\n${sha256(canonical)}`
}

/**
 * Throws Fault 'denied' reason 'signature-mismatch' unless the signature is that of `secret` over this request.
 * Every name in `required`, and every `x-acs-*` header that is present, has to be among the signed ones: a header
 * that nobody signed could be put there by anyone on the way.
 */
export function verifyAcs3(
  request: Acs3Request,
  authorization: Acs3Authorization,
  secret: string,
  required: readonly string[],
): void {
  const signed = new Set(authorization.signedHeaders)
  const owed = new Set([
    ...required,
    ...Object.keys(request.headers).filter((name) => name.startsWith('x-acs-')),
  ])
  for (const name of owed) {
    if (!signed.has(name)) throw mismatch(`: the header ${name} has to be sent and named in SignedHeaders.`)
  }
  for (const name of signed) {
    if (request.headers[name] === undefined)
      throw mismatch(`: SignedHeaders names ${name}, which was not sent.`)
  }
  if (headerText(request.headers['x-acs-content-sha256']) !== sha256(request.body))
    throw mismatch(`: x-acs-content-sha256 is not the SHA-256 of the body that arrived.`)
  const stringToSign = acs3StringToSign(request, authorization.signedHeaders)
  const expected = createHmac('sha256', secret).update(stringToSign).digest()
  if (!timingSafeEqual(expected, Buffer.from(authorization.signature, 'hex')))
    throw mismatch(`. server StringToSign is [${stringToSign}]`)
}

export interface Acs3Draft {
  readonly method: string
  /** Path and query, percent-encoded, as they will stand in the request line. */
  readonly url: string
  /** With the port unless it is the scheme's own, as the client will send it. */
  readonly host: string
  readonly body: Uint8Array
  /** Further headers to send and sign, lower-case: content-type, x-acs-action, … */
  readonly headers?: Readonly<Record<string, string>>
  readonly keyId: string
  readonly secret: string
  readonly nonce: string
  readonly nowMs: number
}

/** The headers to send with a request so that `verifyAcs3` accepts it; all of them are signed. */
export function signAcs3(draft: Acs3Draft): Record<string, string> {
  const headers: Record<string, string> = {
    ...draft.headers,
    host: draft.host,
    'x-acs-content-sha256': sha256(draft.body),
    'x-acs-date': new Date(draft.nowMs).toISOString().replace(/\.\d+Z$/, 'Z'),
    'x-acs-signature-nonce': draft.nonce,
  }
  const { path, queryText } = splitUrl(draft.url)
  const signedHeaders = Object.keys(headers).sort()
  const request = { method: draft.method, path, query: decodePairs(queryText), headers, body: draft.body }
  const stringToSign = acs3StringToSign(request, signedHeaders)
  const signature = createHmac('sha256', draft.secret).update(stringToSign).digest('hex')
  const names = signedHeaders.join(';')
  return {
    ...headers,
    authorization: `${ACS3_SCHEME} Credential=${draft.keyId},SignedHeaders=${names},Signature=${signature}`,
  }
}

function mismatch(rest: string): Fault {
  return new Fault('denied', `Specified signature does not match our calculation${rest}`, {
    reason: 'signature-mismatch',
  })
}

function headerText(value: string | string[] | undefined): string {
  if (Array.isArray(value))
    return value
      .map((one) => one.trim())
      .sort()
      .join(',')
  return (value ?? '').trim()
}

function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
