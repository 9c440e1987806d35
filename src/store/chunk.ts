import assert from 'node:assert/strict'
import { promisify } from 'node:util'
import { crc32, zstdDecompress } from 'node:zlib'
import { Compressor } from './compressor.ts'
import type { Decompressor } from './decompressor.ts'
import { CHUNK_HEADER_BYTES, type ChunkSealer, SEAL_BYTES } from './seal.ts'

/** Source: docs/format.md, "Stored chunk". */
export const CHUNK_BYTES_DEFAULT = 256 * 1024
export const CHUNK_BYTES_MIN = 64 * 1024
export const CHUNK_BYTES_MAX = 4 * 1024 * 1024

const VERSION = 1
const CODEC_RAW = 0
const CODEC_ZSTD = 1
const SEAL_NONE = 0
const SEAL_GCM = 1
/** Compression that saves less than 3 % costs every later reader more than it saves. */
const RAW_SHARE = 0.97

/** True for a power of two in the range that the format allows. */
export function isChunkBytes(value: number): boolean {
  return value >= CHUNK_BYTES_MIN && value <= CHUNK_BYTES_MAX && Number.isInteger(Math.log2(value))
}

/** Chunks of a disk; the last one may be short. */
export function chunkCountOf(sizeBytes: number, chunkBytes: number): number {
  return Math.ceil(sizeBytes / chunkBytes)
}

/** Plain bytes of chunk `index`. */
export function plainBytesOf(sizeBytes: number, chunkBytes: number, index: number): number {
  return Math.min(chunkBytes, sizeBytes - index * chunkBytes)
}

/** Compresses chunks, and encrypts them if it is given a sealer. One per thread. */
export class ChunkEncoder {
  readonly #compressor: Compressor
  readonly #sealer: ChunkSealer | undefined

  constructor(chunkBytes: number, sealer?: ChunkSealer) {
    this.#compressor = new Compressor(chunkBytes)
    this.#sealer = sealer
  }

  /** The stored form of `plain`, written to `target` at `offset`; answers its length, at most 32 more than plain. */
  encodeInto(id: Uint8Array, plain: Uint8Array, target: Buffer, offset: number): number {
    assert(plain.length > 0 && target.length - offset >= plain.length + CHUNK_HEADER_BYTES + SEAL_BYTES)
    const packed = this.#compressor.compress(plain)
    const isRaw = packed.length > plain.length * RAW_SHARE
    const payload = isRaw ? plain : packed
    target[offset] = VERSION
    target[offset + 1] = isRaw ? CODEC_RAW : CODEC_ZSTD
    target[offset + 2] = this.#sealer === undefined ? SEAL_NONE : SEAL_GCM
    target[offset + 3] = 0
    if (this.#sealer !== undefined) return this.#sealer.sealInto(id, plain.length, payload, target, offset)
    target.set(payload, offset + CHUNK_HEADER_BYTES)
    return payload.length + CHUNK_HEADER_BYTES
  }
}

const decompress = promisify(zstdDecompress) as (
  bytes: Uint8Array,
  options: { chunkSize: number; maxOutputLength: number },
) => Promise<Buffer>

/** What a reader knows of a chunk before it looks at the stored bytes. `crc32` is of the stored bytes. */
export interface ExpectedChunk {
  readonly id: Uint8Array
  readonly plainBytes: number
  readonly crc32: number
}

/**
 * The plain bytes of a stored chunk, or undefined if anything about them is wrong: checksum, header, seal, length.
 * Decompression runs on the thread pool, decryption on the calling thread. The id is the caller's to check.
 */
export async function decodeChunk(
  stored: Uint8Array,
  expected: ExpectedChunk,
  sealer: ChunkSealer,
): Promise<Buffer | undefined> {
  const payload = openPayload(stored, expected, sealer)
  if (payload?.isPacked !== true) return payload?.bytes
  const { plainBytes } = expected
  const plain = await decompress(payload.bytes, outputOf(plainBytes)).catch(() => undefined)
  return plain?.length === plainBytes ? plain : undefined
}

/**
 * As `decodeChunk`, whole on the calling thread, so that the bytes stay in its core's cache: for threads that do
 * nothing else, one for each core. A seal that opens stands for the checksum. The bytes may be the decompressor's, and
 * good until its next call; or in `into`, see `Decompressor.decompress`.
 */
export function decodeChunkHere(
  stored: Uint8Array,
  expected: ExpectedChunk,
  sealer: ChunkSealer,
  decompressor: Decompressor,
  into?: Buffer,
): Buffer | undefined {
  const payload = openPayload(stored, expected, sealer, 'seal')
  if (payload?.isPacked !== true) return payload?.bytes
  return decompressor.decompress(payload.bytes, expected.plainBytes, into)
}

/**
 * True for a sealed chunk whose seal fits this id and plain length, byte by byte: what lies there is what somebody with
 * the domain's keys stored as this chunk. Neither decompressed nor hashed. False also for a chunk without a seal.
 */
export function isSealedFor(
  stored: Uint8Array,
  { id, plainBytes }: Pick<ExpectedChunk, 'id' | 'plainBytes'>,
  sealer: ChunkSealer,
): boolean {
  if (stored[0] !== VERSION || stored[2] !== SEAL_GCM || stored[3] !== 0) return false
  if (stored[1] !== CODEC_RAW && stored[1] !== CODEC_ZSTD) return false
  return (
    (stored[1] === CODEC_ZSTD || stored.length === plainBytes + CHUNK_HEADER_BYTES + SEAL_BYTES) &&
    sealer.isSealed(id, plainBytes, stored)
  )
}

/** One buffer for all of the output; more than it should be is refused. */
function outputOf(plainBytes: number) {
  return { chunkSize: plainBytes + 64, maxOutputLength: plainBytes }
}

/** What is inside: still to be decompressed, or the plain bytes, of the right length and nobody else's. */
interface Payload {
  readonly bytes: Buffer
  readonly isPacked: boolean
}

function openPayload(
  stored: Uint8Array,
  { id, plainBytes, crc32: checksum }: ExpectedChunk,
  sealer: ChunkSealer,
  enough: 'checksum' | 'seal' = 'checksum',
): Payload | undefined {
  if (stored.length <= CHUNK_HEADER_BYTES) return undefined
  // A seal says more about every byte than the checksum, which is there for those who have no key.
  const isChecked = enough === 'checksum' || stored[2] !== SEAL_GCM
  if (isChecked && crc32(stored) !== checksum) return undefined
  if (stored[0] !== VERSION || stored[3] !== 0) return undefined
  const codec = stored[1]
  const seal = stored[2]
  if (codec !== CODEC_RAW && codec !== CODEC_ZSTD) return undefined
  if (seal !== SEAL_NONE && seal !== SEAL_GCM) return undefined
  const isSealed = seal === SEAL_GCM
  const payload = isSealed ? sealer.open(id, plainBytes, stored) : stored.subarray(CHUNK_HEADER_BYTES)
  if (payload === undefined) return undefined
  if (codec === CODEC_ZSTD) return { bytes: payload as Buffer, isPacked: true }
  if (payload.length !== plainBytes) return undefined
  // Never a view of the pack's bytes: it would keep all of them alive as long as it is cached.
  return { bytes: isSealed ? (payload as Buffer) : Buffer.from(payload), isPacked: false }
}
