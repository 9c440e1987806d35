import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Fault } from '../image/fault.ts'

/** Keeps what nobody is to read in rows. */
export interface Seal<Value> {
  seal(value: Value): string
  /** Throws what `lost` makes for what was sealed with another key, or changed. */
  open(sealed: string): Value
}

const NONCE_BYTES = 12
const TAG_BYTES = 16

/** `key`: 32 bytes of the installation. JSON in AES-256-GCM: nonce, ciphertext, tag, in base64. */
export function createSeal<Value>(key: Uint8Array, lost: (cause: unknown) => Fault): Seal<Value> {
  return {
    seal(value) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', key, nonce)
      const text = Buffer.from(JSON.stringify(value))
      const parts = [nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]
      return Buffer.concat(parts).toString('base64')
    },
    open(sealed) {
      try {
        const bytes = Buffer.from(sealed, 'base64')
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES))
        decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
        const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES))
        return JSON.parse(Buffer.concat([text, decipher.final()]).toString()) as Value
      } catch (cause) {
        throw lost(cause)
      }
    },
  }
}
