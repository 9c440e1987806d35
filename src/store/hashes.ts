import { hash } from 'node:crypto'
import { Blake3Hasher } from '@napi-rs/blake-hash'

/** Bytes of every id: chunk, page, pack. */
export const ID_BYTES = 32
/** The id of a chunk or page that is all zeroes and is therefore never stored. Source: docs/format.md, "Zero". */
export const ZERO_ID = '0'.repeat(2 * ID_BYTES)

const ZEROES = Buffer.alloc(4 * 1024 * 1024)

export function sha256(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex')
}

/** As `sha256`, on the thread pool, which reads a copy. */
export async function sha256Beside(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)
  return Buffer.from(digest).toString('hex')
}

/** True if every byte is zero; an empty run is all zero. */
export function isAllZero(bytes: Uint8Array): boolean {
  for (let start = 0; start < bytes.length; start += ZEROES.length) {
    const part = bytes.subarray(start, start + ZEROES.length)
    if (ZEROES.compare(part, 0, part.length, 0, part.length) !== 0) return false
  }
  return true
}

/** True if the id at `offset` of `ids` is the zero id. */
export function isZeroId(ids: Uint8Array, offset: number): boolean {
  for (let i = 0; i < ID_BYTES; i++) if (ids[offset + i] !== 0) return false
  return true
}

const plainHasher = new Blake3Hasher()

/** BLAKE3 of a chunk's plain bytes: the first of the two steps of a chunk id, the same in every domain. */
export function hashPlain(bytes: Uint8Array): Buffer {
  plainHasher.reset()
  return plainHasher.update(bytes).digestBuffer()
}

/** The second step: the plain hash under one domain's key. Not shared between threads. */
export class IdHasher {
  readonly #hasher: Blake3Hasher

  constructor(idKey: Buffer) {
    this.#hasher = Blake3Hasher.newKeyed(idKey)
  }

  idOf(plainHash: Buffer): Buffer {
    this.#hasher.reset()
    return this.#hasher.update(plainHash).digestBuffer()
  }
}
