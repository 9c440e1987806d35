import assert from 'node:assert/strict'
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { CIPHER, NONCE_BYTES, TAG_BYTES } from './keys.ts'

/** Of the text; far above what a plan may list. */
const REPORT_BYTES_MAX = 32 * 1024 * 1024
/** In an image object. */
export const SEALED_REPORT_CHARS_MAX = 16 * 1024 * 1024

/**
 * A cleaning report as an image object carries it: zstd, then encrypted as chunks are, because it names the users who were
 * removed and image objects are readable. Source: docs/format.md, "Image object".
 */
export function sealReport(key: Buffer, text: string): string {
  const plain = Buffer.from(text, 'utf8')
  assert(plain.length <= REPORT_BYTES_MAX, 'a report is bounded')
  // Of the text itself: a step that runs twice makes the same image object, and no two texts share a nonce.
  const nonce = createHmac('sha256', key).update('nonce').update(plain).digest().subarray(0, NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, key, nonce)
  const sealed = cipher.update(zstdCompressSync(plain))
  cipher.final()
  const text64 = Buffer.concat([nonce, sealed, cipher.getAuthTag()]).toString('base64')
  assert(text64.length <= SEALED_REPORT_CHARS_MAX, 'a report is bounded')
  return text64
}

/** Undefined unless it was sealed with this key, and is as it was. */
export function openReport(key: Buffer, sealed: string): string | undefined {
  const bytes = Buffer.from(sealed, 'base64')
  if (bytes.length <= NONCE_BYTES + TAG_BYTES) return undefined
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES))
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  const plain = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES))
  try {
    decipher.final()
    return zstdDecompressSync(plain, { maxOutputLength: REPORT_BYTES_MAX }).toString('utf8')
  } catch {
    return undefined
  }
}
