import { type Pair, percentEncode, signAcs3 } from '../acs3.ts'
import type { WireAnswer, WireRequest } from '../gateway-contract.ts'
import { rpcStringToSign, signRpc } from './signature.ts'

/** The moment of the recorded requests, and of the fixtures' things. */
export const CREATED_AT_MS = Date.UTC(2026, 10, 21, 19, 44, 49)

export interface FakeKey {
  readonly keyId: string
  readonly secret: string
  readonly isActive?: boolean
}

export const KEY: FakeKey = { keyId: 'LTAI-EXAMPLE-NOT-REAL-0001', secret: 'example-secret-not-real-0001' }

export function rawRequest(change: Partial<WireRequest>): WireRequest {
  return {
    method: 'GET',
    url: '/',
    headers: { host: '127.0.0.1:18099' },
    body: Buffer.alloc(0),
    sourceIp: '127.0.0.1',
    secureTransport: false,
    requestId: `00000000-0000-4000-8000-000000000001`,
    signal: new AbortController().signal,
    ...change,
  }
}

export function spellPairs(pairs: Iterable<Pair>): string {
  return [...pairs].map(([name, value]) => `${percentEncode(name)}=${percentEncode(value)}`).join('&')
}

let nonceCount = 0

/** All parameters of a request in the older scheme, signed; `undefined` in `change` takes one out before signing. */
export function rpcParameters(
  method: string,
  action: string,
  parameters: Record<string, string | undefined> = {},
  key: FakeKey = KEY,
): Map<string, string> {
  const all: Record<string, string | undefined> = {
    Action: action,
    Version: '2020-09-30',
    Format: 'JSON',
    AccessKeyId: key.keyId,
    Timestamp: '2026-11-21T19:44:49Z',
    SignatureMethod: 'HMAC-SHA1',
    SignatureVersion: '1.0',
    SignatureNonce: `nonce-${++nonceCount}`,
    RegionId: 'cn-hangzhou',
    ...parameters,
  }
  const signed = new Map<string, string>()
  for (const [name, value] of Object.entries(all)) if (value !== undefined) signed.set(name, value)
  if (!signed.has('Signature')) signed.set('Signature', signRpc(rpcStringToSign(method, signed), key.secret))
  return signed
}

export function rpcRequest(
  action: string,
  parameters: Record<string, string | undefined> = {},
  key: FakeKey = KEY,
): WireRequest {
  return rawRequest({ url: `/?${spellPairs(rpcParameters('GET', action, parameters, key))}` })
}

/** A request signed by ACS3; `headers` are signed with it, `late` are put beside the signed ones afterwards. */
export function acs3Request(
  action: string,
  parameters: Record<string, string> = {},
  {
    method = 'POST',
    inBody = false,
    headers = {},
    late = {},
    nowMs = CREATED_AT_MS,
    key = KEY,
  }: {
    method?: 'GET' | 'POST'
    inBody?: boolean
    headers?: Record<string, string>
    late?: Record<string, string>
    nowMs?: number
    key?: FakeKey
  } = {},
): WireRequest {
  const text = spellPairs(Object.entries({ RegionId: 'cn-hangzhou', ...parameters }))
  const url = inBody ? '/' : `/?${text}`
  const body = Buffer.from(inBody ? text : '')
  const signed = signAcs3({
    method,
    url,
    host: '127.0.0.1:18099',
    body,
    headers: {
      'x-acs-action': action,
      'x-acs-version': '2020-09-30',
      ...(inBody ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
      ...headers,
    },
    keyId: key.keyId,
    secret: key.secret,
    nonce: `nonce-${++nonceCount}`,
    nowMs,
  })
  return rawRequest({ method, url, body, headers: { ...signed, ...late } })
}

export function contentOf(answer: WireAnswer): Record<string, unknown> {
  return JSON.parse(String(answer.body)) as Record<string, unknown>
}

/** Status and code of a refusal, for short assertions. */
export function refusalOf(answer: WireAnswer): readonly [number, unknown] {
  return [answer.status, contentOf(answer).Code]
}
