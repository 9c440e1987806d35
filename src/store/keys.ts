import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type KeyObject,
  randomFillSync,
} from 'node:crypto'

/**
 * The key of one region, wherever it is kept: here, or in a key service that never gives it away. It wraps the domains'
 * keys and nothing else.
 */
export interface KeyWrapper {
  /** Names the key without telling anything of it: 1 to 64 of a-z and 0-9. A part of object names. */
  readonly keyId: string
  /** How it wraps, as key objects say it. */
  readonly method: string
  /** `context` has to be the same at `unwrap`. */
  wrap(plain: Uint8Array, context: string): Promise<Buffer>
  /** What was wrapped, or undefined if `wrapped` is not what this key made for this context. */
  unwrap(wrapped: Uint8Array, context: string): Promise<Buffer | undefined>
}

/** Fills the bytes it is given at random. */
export type FillRandom = (bytes: Uint8Array) => void

export const KEY_BYTES = 32
export const NONCE_BYTES = 12
export const TAG_BYTES = 16
export const CIPHER = 'aes-256-gcm'

export const fillRandom: FillRandom = (bytes) => {
  randomFillSync(bytes)
}

/** A region's key that this process holds itself. Source: docs/format.md, "Key object". */
export class LocalWrapper implements KeyWrapper {
  readonly keyId: string
  readonly method = CIPHER
  readonly #key: KeyObject
  readonly #fill: FillRandom

  constructor(key: Uint8Array, fill: FillRandom = fillRandom) {
    this.#key = createSecretKey(key)
    this.#fill = fill
    this.keyId = createHmac('sha256', this.#key).update('calotype region key id').digest('hex').slice(0, 16)
  }

  async wrap(plain: Uint8Array, context: string): Promise<Buffer> {
    const nonce = Buffer.alloc(NONCE_BYTES)
    this.#fill(nonce)
    const cipher = createCipheriv(CIPHER, this.#key, nonce)
    cipher.setAAD(Buffer.from(context))
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  }

  async unwrap(wrapped: Uint8Array, context: string): Promise<Buffer | undefined> {
    if (wrapped.length < NONCE_BYTES + TAG_BYTES) return undefined
    const end = wrapped.length - TAG_BYTES
    const decipher = createDecipheriv(CIPHER, this.#key, wrapped.subarray(0, NONCE_BYTES))
    decipher.setAAD(Buffer.from(context))
    decipher.setAuthTag(wrapped.subarray(end))
    const plain = decipher.update(wrapped.subarray(NONCE_BYTES, end))
    try {
      return Buffer.concat([plain, decipher.final()])
    } catch {
      return undefined
    }
  }
}
