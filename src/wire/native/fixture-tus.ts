import assert from 'node:assert/strict'
import type { NativeServer, Said } from './fixture-server.ts'

// Uploads by hand, for tests.

export const TUS = { 'tus-resumable': '1.0.0' }
export const PART = { ...TUS, 'content-type': 'application/offset+octet-stream' }

export const tokenOf = (path: string): string => path.split('/').at(-1) ?? ''

/** A new place for so many bytes, as a path; without a number their count is told later. */
export async function makePlace(server: NativeServer, lengthBytes?: number): Promise<string> {
  const made = await server.askSigned('POST', '/v1/uploads', { name: 'disk', lengthBytes })
  assert.equal(made.status, 201, made.body.toString())
  return made.json().location
}

/** What came to a place. */
export function bytesAt({ fake }: NativeServer, path: string): Buffer {
  return Buffer.concat(fake.transfers.uploads.get(tokenOf(path))?.bytes ?? [])
}

export function sendPart(
  server: NativeServer,
  path: string,
  offset: number,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Said> {
  return server.ask('PATCH', path, { ...PART, 'upload-offset': String(offset), ...headers }, body)
}
