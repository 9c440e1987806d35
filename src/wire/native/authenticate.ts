import assert from 'node:assert/strict'
import type { Caller, Keyring } from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import { ACS3_SCHEME, decodePairs, findAcs3, splitUrl, verifyAcs3 } from '../acs3.ts'
import type { WireHead, WireRequest } from '../gateway-contract.ts'

const REQUIRED = ['host', 'x-acs-content-sha256', 'x-acs-date', 'x-acs-signature-nonce']
const NONCE_LENGTH_MAX = 256

function denied(reason: string, message: string): Fault {
  return new Fault('denied', message, { subject: 'user', reason })
}

function header(request: WireRequest, name: string): string {
  const value = request.headers[name]
  const text = (Array.isArray(value) ? value.join(',') : (value ?? '')).trim()
  if (text === '') throw denied('header-missing', `The header ${name} is missing. Send it, and sign it.`)
  return text
}

/**
 * Who sent the request: signed as V3 of WUYING (wuying.md §2.2), with neither action nor version. The nonce is kept
 * only after its signature was found good, so that nobody can use up another's. Throws Fault 'denied' 'user'.
 */
export async function authenticate(
  request: WireRequest,
  keyring: Keyring,
  nowMs: number,
  windowMs: number,
): Promise<Caller> {
  const authorization = findAcs3(request.headers.authorization)
  if (authorization === undefined) {
    throw denied(
      'unsigned',
      `The request is not signed. Send 'Authorization: ${ACS3_SCHEME} …' with an access key.`,
    )
  }
  for (const name of REQUIRED) header(request, name)
  const date = header(request, 'x-acs-date')
  const dateMs = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(date) ? Date.parse(date) : Number.NaN
  if (Number.isNaN(dateMs)) throw denied('clock', 'x-acs-date takes UTC as yyyy-MM-ddTHH:mm:ssZ.')
  if (Math.abs(nowMs - dateMs) > windowMs) {
    const minutes = Math.round(windowMs / 60_000)
    const now = new Date(nowMs).toISOString()
    throw denied(
      'clock',
      `x-acs-date is over ${minutes} minutes from this server's clock (${now}). Set yours.`,
    )
  }
  const nonce = header(request, 'x-acs-signature-nonce')
  if (nonce.length > NONCE_LENGTH_MAX) {
    throw denied('nonce', `x-acs-signature-nonce takes up to ${NONCE_LENGTH_MAX} characters.`)
  }
  const key = await keyring.find(authorization.keyId)
  if (key === undefined) throw denied('key-unknown', 'There is no such access key. Check its id.')
  if (!key.isActive) throw denied('key-inactive', 'This access key is switched off. Use another.')
  const { path, queryText } = splitUrl(request.url)
  verifyAcs3(
    {
      method: request.method,
      path,
      query: decodePairs(queryText),
      headers: request.headers,
      body: request.body,
    },
    authorization,
    key.secret,
    REQUIRED,
  )
  // Past this moment the date alone refuses a replay, so the nonce need not be remembered longer.
  if (!(await keyring.useNonce(authorization.keyId, nonce, dateMs + windowMs + 1))) {
    throw denied('nonce-used', 'This request was sent before. Sign a new one with a new nonce.')
  }
  return keyring.caller(key.userId, 'native', {
    requestId: request.requestId,
    sourceIp: request.sourceIp,
    secureTransport: request.secureTransport,
  })
}

/** Who sent a request that `authenticate` found good, as the key now stands. Throws Fault 'denied' 'user'. */
export async function callerAgain(request: WireHead, keyring: Keyring): Promise<Caller> {
  const authorization = findAcs3(request.headers.authorization)
  assert(authorization !== undefined)
  const key = await keyring.find(authorization.keyId)
  if (key === undefined) throw denied('key-unknown', 'There is no such access key any more. Use another.')
  if (!key.isActive) throw denied('key-inactive', 'This access key was switched off. Use another.')
  const { requestId, sourceIp, secureTransport } = request
  return keyring.caller(key.userId, 'native', { requestId, sourceIp, secureTransport })
}
