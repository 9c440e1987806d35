import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { Fault } from '../image/fault.ts'
import type { RemoteSource } from '../intake/contract.ts'

/** Keeps addresses, which may hold passwords and keys, in the rows of tasks without anybody reading them there. */
export interface SourceSeal {
  seal(source: RemoteSource): string
  /** Throws Fault 'corrupt' for what was sealed with another key. */
  open(sealed: string): RemoteSource
}

const NONCE_BYTES = 12
const TAG_BYTES = 16

/** `key`: 32 bytes of the installation. AES-256-GCM: nonce, ciphertext, tag, in base64. */
export function createSourceSeal(key: Uint8Array): SourceSeal {
  return {
    seal(source) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', key, nonce)
      const text = Buffer.from(JSON.stringify(source))
      const parts = [nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]
      return Buffer.concat(parts).toString('base64')
    },
    open(sealed) {
      try {
        const bytes = Buffer.from(sealed, 'base64')
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES))
        decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
        const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES))
        return JSON.parse(Buffer.concat([text, decipher.final()]).toString()) as RemoteSource
      } catch (cause) {
        const message =
          'The address of the file cannot be read any more: its key was changed. Import it anew.'
        throw new Fault('corrupt', message, { subject: 'file', cause })
      }
    },
  }
}
