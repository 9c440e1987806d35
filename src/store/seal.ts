import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type DecipherGCM,
  type KeyObject,
} from 'node:crypto'
import { ID_BYTES } from './hashes.ts'
import { CIPHER, type FillRandom, fillRandom, NONCE_BYTES, TAG_BYTES } from './keys.ts'

/** Source of everything here: docs/format.md, "Stored chunk". */
export const CHUNK_HEADER_BYTES = 4
/** What sealing adds to a stored chunk. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES

/** Random bytes are fetched for so many chunks at once: one call a chunk would cost as much as the nonce is long. */
const NONCES_AHEAD = 256

/** What is decrypted to be dropped fits a core's cache. */
const SEAL_PIECE_BYTES = 32 * 1024

/** Encrypts and decrypts the chunks of one domain. One per thread. */
export class ChunkSealer {
  readonly #dataKey: KeyObject
  readonly #fill: FillRandom
  readonly #nonces = Buffer.alloc(NONCES_AHEAD * NONCE_BYTES)
  #nonceAt = this.#nonces.length
  /** Header, id and plain length of the chunk at hand. */
  readonly #context = Buffer.alloc(CHUNK_HEADER_BYTES + ID_BYTES + 4)

  constructor(dataKey: Uint8Array, fill: FillRandom = fillRandom) {
    this.#dataKey = createSecretKey(dataKey)
    this.#fill = fill
  }

  /**
   * Writes nonce, encrypted payload and tag behind the header that is at `offset` of `target`; answers the length of
   * the whole stored chunk.
   */
  sealInto(id: Uint8Array, plainBytes: number, payload: Uint8Array, target: Buffer, offset: number): number {
    const nonceAt = offset + CHUNK_HEADER_BYTES
    const payloadAt = nonceAt + NONCE_BYTES
    const nonce = this.#nextNonce()
    target.set(nonce, nonceAt)
    const cipher = createCipheriv(CIPHER, this.#keyOf(id), nonce)
    cipher.setAAD(this.#contextOf(target, offset, id, plainBytes))
    target.set(cipher.update(payload), payloadAt)
    cipher.final()
    target.set(cipher.getAuthTag(), payloadAt + payload.length)
    return CHUNK_HEADER_BYTES + SEAL_BYTES + payload.length
  }

  /** The payload of a sealed chunk, or undefined unless it was sealed for this id and plain length, byte by byte. */
  open(id: Uint8Array, plainBytes: number, stored: Uint8Array): Buffer | undefined {
    const [payloadAt, tagAt] = payloadOf(stored)
    if (tagAt <= payloadAt) return undefined
    const decipher = this.#decipherOf(id, plainBytes, stored)
    const payload = decipher.update(stored.subarray(payloadAt, tagAt))
    try {
      decipher.final()
      return payload
    } catch {
      return undefined
    }
  }

  /** As `open`, for who wants to know whether it opens and not what is inside: little of it is in memory at once. */
  isSealed(id: Uint8Array, plainBytes: number, stored: Uint8Array): boolean {
    const [payloadAt, tagAt] = payloadOf(stored)
    if (tagAt <= payloadAt) return false
    const decipher = this.#decipherOf(id, plainBytes, stored)
    for (let at = payloadAt; at < tagAt; at += SEAL_PIECE_BYTES) {
      decipher.update(stored.subarray(at, Math.min(at + SEAL_PIECE_BYTES, tagAt)))
    }
    try {
      decipher.final()
      return true
    } catch {
      return false
    }
  }

  #decipherOf(id: Uint8Array, plainBytes: number, stored: Uint8Array): DecipherGCM {
    const [payloadAt, tagAt] = payloadOf(stored)
    const nonce = stored.subarray(CHUNK_HEADER_BYTES, payloadAt)
    const decipher = createDecipheriv(CIPHER, this.#keyOf(id), nonce)
    decipher.setAAD(this.#contextOf(stored, 0, id, plainBytes))
    decipher.setAuthTag(stored.subarray(tagAt))
    return decipher
  }

  /** A key for each id, so that random nonces meet only where one chunk is stored twice. */
  #keyOf(id: Uint8Array): Buffer {
    return createHmac('sha256', this.#dataKey).update(id).digest()
  }

  #nextNonce(): Buffer {
    if (this.#nonceAt === this.#nonces.length) {
      this.#fill(this.#nonces)
      this.#nonceAt = 0
    }
    this.#nonceAt += NONCE_BYTES
    return this.#nonces.subarray(this.#nonceAt - NONCE_BYTES, this.#nonceAt)
  }

  #contextOf(stored: Uint8Array, headerAt: number, id: Uint8Array, plainBytes: number): Buffer {
    this.#context.set(stored.subarray(headerAt, headerAt + CHUNK_HEADER_BYTES))
    this.#context.set(id, CHUNK_HEADER_BYTES)
    this.#context.writeUInt32LE(plainBytes, CHUNK_HEADER_BYTES + ID_BYTES)
    return this.#context
  }
}

/** Where the encrypted payload of a sealed chunk begins and ends; a chunk too short for one has its end before. */
function payloadOf(stored: Uint8Array): readonly [number, number] {
  return [CHUNK_HEADER_BYTES + NONCE_BYTES, stored.length - TAG_BYTES]
}
