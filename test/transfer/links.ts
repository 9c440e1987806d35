import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { Link } from '../../src/cli/download.ts'
import { HOME } from '../e2e/failure-steps.ts'
import type { TransferPlace } from './transfer-place.ts'

/** A link to one disk of an image as a file. */
export const makeLink = (
  { server }: TransferPlace,
  imageId: string,
  what: { format: string; disk?: number; compress?: 'zstd'; digest?: boolean },
): Promise<Link> =>
  server.native.call<Link>('POST', `/v1/images/${imageId}/exports`, { body: { region: HOME, ...what } })

export interface Got {
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer
}

/** What is behind it, by a client that knows nothing but the address. */
export async function get(
  { server }: Pick<TransferPlace, 'server'>,
  { path }: Link,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<Got> {
  const response = await fetch(new URL(path, server.endpoint), { method, headers })
  return {
    status: response.status,
    headers: response.headers,
    body: Buffer.from(await response.arrayBuffer()),
  }
}

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes)

/** The digest of a header like `sha-256=:…:`, as hex. */
export function headerDigest({ headers }: Got, name: string): string {
  const text = headers.get(name)
  const base64 = /^sha-256=:([A-Za-z0-9+/=]+):$/.exec(text ?? '')?.[1]
  assert(base64 !== undefined, `${name}: ${text}`)
  return Buffer.from(base64, 'base64').toString('hex')
}
