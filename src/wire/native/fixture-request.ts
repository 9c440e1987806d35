import { randomUUID } from 'node:crypto'
import type { Keyring } from '../../app/contract.ts'
import { signAcs3 } from '../acs3.ts'
import type { WireRequest } from '../gateway-contract.ts'
import { NOW_MS, PROJECT } from './fixture-nouns.ts'

export const KEY = { accessKeyId: 'AKEXAMPLE', accessKeySecret: 'a-secret-for-tests' }

/** Knows two keys of the root user: KEY, and 'AKOFF', which is switched off. */
export function createFakeKeyring(): Keyring {
  const nonces = new Set<string>()
  return {
    async find(keyId) {
      if (keyId === 'AKOFF') return { secret: KEY.accessKeySecret, isActive: false, userId: 'user-1' }
      return keyId === KEY.accessKeyId
        ? { secret: KEY.accessKeySecret, isActive: true, userId: 'user-1' }
        : undefined
    },
    async useNonce(keyId, nonce) {
      const isNew = !nonces.has(`${keyId}/${nonce}`)
      nonces.add(`${keyId}/${nonce}`)
      return isNew
    },
    caller: async (userId, door, request) => ({
      accountId: 'account-1',
      userId,
      userName: 'root',
      isRoot: true,
      defaultProjectId: PROJECT,
      door,
      ...request,
    }),
  }
}

/** A signed request as the gateway would hand it to the native door. */
export function signedRequest(
  method: string,
  url: string,
  body?: unknown,
  changes: {
    keyId?: string
    secret?: string
    nonce?: string
    nowMs?: number
    host?: string
    headers?: Record<string, string>
  } = {},
): WireRequest {
  const bytes =
    body === undefined ? Buffer.alloc(0) : Buffer.from(Buffer.isBuffer(body) ? body : JSON.stringify(body))
  const headers = signAcs3({
    method,
    url,
    host: '127.0.0.1:8370',
    body: bytes,
    keyId: KEY.accessKeyId,
    secret: KEY.accessKeySecret,
    nonce: randomUUID(),
    nowMs: NOW_MS,
    ...changes,
  })
  return {
    method,
    url,
    headers,
    body: bytes,
    sourceIp: '127.0.0.1',
    secureTransport: false,
    requestId: randomUUID().toUpperCase(),
    signal: new AbortController().signal,
  }
}
