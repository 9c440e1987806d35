import type { Keyring } from '../../app/contract.ts'
import { Fault } from '../../image/fault.ts'
import { verifyAcs3 } from '../acs3.ts'
import { missing, type Unpacked } from './request.ts'
import { verifyRpc } from './signature.ts'

export interface Authenticated {
  readonly userId: string
  /** Never leaves the door: it keys the page tokens handed to this caller. */
  readonly secret: string
}

const ACS3_REQUIRED = [
  'host',
  'x-acs-action',
  'x-acs-content-sha256',
  'x-acs-date',
  'x-acs-signature-nonce',
  'x-acs-version',
]
const RPC_REQUIRED = [
  'SignatureMethod',
  'SignatureVersion',
  'AccessKeyId',
  'Timestamp',
  'SignatureNonce',
  'Signature',
]
const NONCE_LENGTH_MAX = 256

interface Claim {
  readonly keyId: string
  readonly timestamp: string
  readonly nonce: string
  readonly token: string | undefined
  verify(secret: string): void
}

/**
 * Who sent the request. Checks in this order: system parameters, timestamp, key, signature, nonce, token; a nonce is
 * stored only after its signature was found good, so that nobody can use up another's. Throws Fault with the reasons
 * of `errors.ts`. `windowMs` is how far the timestamp may lie from our clock, either way.
 */
export async function authenticate(
  unpacked: Unpacked,
  keyring: Keyring,
  nowMs: number,
  windowMs: number,
): Promise<Authenticated> {
  refuseBearer(unpacked)
  const claim = unpacked.authorization === undefined ? rpcClaim(unpacked) : acs3Claim(unpacked)
  if (claim.nonce.length > NONCE_LENGTH_MAX)
    throw new Fault('invalid', `At most ${NONCE_LENGTH_MAX} characters.`, { field: 'SignatureNonce' })
  const timestampMs = parseTimestamp(claim.timestamp)
  if (Math.abs(nowMs - timestampMs) > windowMs) {
    throw new Fault('denied', `This server's clock says ${new Date(nowMs).toISOString()}. Set yours.`, {
      reason: 'clock',
    })
  }
  const key = claim.keyId.length > 128 ? undefined : await keyring.find(claim.keyId)
  if (key === undefined) throw new Fault('denied', '', { reason: 'key-unknown' })
  if (!key.isActive) throw new Fault('denied', '', { reason: 'key-inactive' })
  claim.verify(key.secret)
  // Past this moment the timestamp alone refuses a replay, so the nonce need not be remembered longer.
  const isNew = await keyring.useNonce(claim.keyId, claim.nonce, timestampMs + windowMs + 1)
  if (!isNew) throw new Fault('denied', '', { reason: 'nonce-used' })
  if (claim.token !== undefined) throw new Fault('denied', '', { reason: 'token-mismatch' })
  return { userId: key.userId, secret: key.secret }
}

function rpcClaim({ raw, parameters }: Unpacked): Claim {
  for (const name of RPC_REQUIRED) if (!parameters.get(name)) throw missing(name)
  if (parameters.get('SignatureMethod') !== 'HMAC-SHA1')
    throw new Fault('invalid', 'Sign with HMAC-SHA1 or ACS3-HMAC-SHA256.', { reason: 'method-unknown' })
  if (parameters.get('SignatureVersion') !== '1.0')
    throw new Fault('invalid', 'It takes 1.0.', { field: 'SignatureVersion' })
  if (parameters.get('SignatureType'))
    throw new Fault('invalid', 'Leave it empty or out.', { field: 'SignatureType' })
  return {
    keyId: parameters.get('AccessKeyId') ?? '',
    timestamp: parameters.get('Timestamp') ?? '',
    nonce: parameters.get('SignatureNonce') ?? '',
    token: parameters.get('SecurityToken') || undefined,
    verify: (secret) => verifyRpc(raw.method, parameters, secret),
  }
}

function acs3Claim({ raw, path, query, authorization }: Unpacked): Claim {
  if (authorization === undefined) throw missing('Authorization')
  const header = (name: string): string => {
    const value = raw.headers[name]
    return (Array.isArray(value) ? value.join(',') : (value ?? '')).trim()
  }
  for (const name of ACS3_REQUIRED) if (header(name) === '') throw missing(name)
  const request = { method: raw.method, path, query, headers: raw.headers, body: raw.body }
  return {
    keyId: authorization.keyId,
    timestamp: header('x-acs-date'),
    nonce: header('x-acs-signature-nonce'),
    token: header('x-acs-security-token') || undefined,
    verify: (secret) => verifyAcs3(request, authorization, secret, ACS3_REQUIRED),
  }
}

/** No bearer tokens are issued here, so none can be good; said plainly, because there is no key to call unknown. */
function refuseBearer({ raw, parameters }: Unpacked): void {
  const isBearer =
    parameters.get('SignatureType') === 'BEARERTOKEN' ||
    raw.headers['x-acs-signature-type'] === 'BEARERTOKEN' ||
    raw.headers['x-acs-bearer-token'] !== undefined
  if (!isBearer) return
  throw new Fault('denied', 'This server issues no bearer tokens. Sign with an access key.', {
    reason: 'bearer',
    field: 'BearerToken',
  })
}

function parseTimestamp(text: string): number {
  const timestampMs = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(timestampMs))
    throw new Fault('invalid', 'Write UTC as yyyy-MM-ddTHH:mm:ssZ.', { reason: 'clock-malformed' })
  return timestampMs
}
