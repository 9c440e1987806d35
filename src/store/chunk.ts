import assert from 'node:assert/strict'
import { promisify } from 'node:util'
import { constants, crc32, zstdCompressSync, zstdDecompress } from 'node:zlib'

/** Source: docs/format.md, "Stored chunk". */
export const CHUNK_HEADER_BYTES = 4
export const CHUNK_BYTES_DEFAULT = 256 * 1024
export const CHUNK_BYTES_MIN = 64 * 1024
export const CHUNK_BYTES_MAX = 4 * 1024 * 1024

const VERSION = 1
const CODEC_RAW = 0
const CODEC_ZSTD = 1
const SEAL_NONE = 0
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

/** Compresses chunks. One per thread: the options are made once. */
export class ChunkEncoder {
  readonly #options

  constructor(chunkBytes: number) {
    // Node's default output buffer of 16 KiB would cost a call per 16 KiB and a copy at the end.
    const chunkSize = chunkBytes + 1024
    this.#options = { chunkSize, params: { [constants.ZSTD_c_compressionLevel]: 1 } }
  }

  /** The stored form of `plain`, written to `target` at `offset`; answers its length, at most plain + header. */
  encodeInto(plain: Uint8Array, target: Buffer, offset: number): number {
    assert(plain.length > 0 && target.length - offset >= plain.length + CHUNK_HEADER_BYTES)
    const packed = zstdCompressSync(plain, this.#options)
    const isRaw = packed.length > plain.length * RAW_SHARE
    const payload = isRaw ? plain : packed
    target[offset] = VERSION
    target[offset + 1] = isRaw ? CODEC_RAW : CODEC_ZSTD
    target[offset + 2] = SEAL_NONE
    target[offset + 3] = 0
    target.set(payload, offset + CHUNK_HEADER_BYTES)
    return payload.length + CHUNK_HEADER_BYTES
  }
}

const decompress = promisify(zstdDecompress) as (
  bytes: Uint8Array,
  options: { chunkSize: number; maxOutputLength: number },
) => Promise<Buffer>

/**
 * The plain bytes of a stored chunk, or undefined if anything about them is wrong: checksum, header, length.
 * Decompression runs on the thread pool, not on the calling thread. The id is the caller's to check.
 */
export async function decodeChunk(
  stored: Uint8Array,
  plainBytes: number,
  checksum: number,
): Promise<Buffer | undefined> {
  if (stored.length <= CHUNK_HEADER_BYTES || crc32(stored) !== checksum) return undefined
  if (stored[0] !== VERSION || stored[2] !== SEAL_NONE || stored[3] !== 0) return undefined
  const payload = stored.subarray(CHUNK_HEADER_BYTES)
  if (stored[1] === CODEC_RAW) return payload.length === plainBytes ? Buffer.from(payload) : undefined
  if (stored[1] !== CODEC_ZSTD) return undefined
  try {
    const plain = await decompress(payload, { chunkSize: plainBytes + 64, maxOutputLength: plainBytes })
    return plain.length === plainBytes ? plain : undefined
  } catch {
    return undefined
  }
}
