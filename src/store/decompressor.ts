import { constants, createZstdDecompress, zstdDecompressSync } from 'node:zlib'
import type { ZstdStream } from './compressor.ts'

/**
 * Decompresses chunks on the calling thread, one zstd frame each. One per thread. `zstdDecompressSync` makes a context
 * and an output buffer for every call; this has one of each for as long as it lives.
 */
export class Decompressor {
  readonly #output: Buffer
  readonly #open: () => ZstdStream
  #stream: ZstdStream

  /** `open` is for tests: a Node whose streams look different is worked with the documented way. */
  constructor(plainBytesMax: number, open: () => ZstdStream = openStream) {
    this.#output = Buffer.allocUnsafeSlow(plainBytesMax + 64)
    this.#open = open
    this.#stream = open()
  }

  /** The bytes of one whole frame, if they are exactly so many: good until the next call. Undefined otherwise. */
  decompress(frame: Uint8Array, plainBytes: number): Buffer | undefined {
    const output = this.#output
    if (plainBytes + 64 > output.length) return undefined
    const { _handle: binding, _writeState: state } = this.#stream
    if (typeof binding?.writeSync !== 'function' || state?.length !== 2) return slowly(frame, plainBytes)
    state.fill(0)
    binding.writeSync(constants.ZSTD_e_end, frame, 0, frame.length, output, 0, plainBytes + 64)
    const [freeBytes, leftBytes] = state
    if (freeBytes === 64 && leftBytes === 0) return output.subarray(0, plainBytes)
    // A context that met an error, or is in the middle of a frame, is of no use any more.
    this.#stream = this.#open()
    return undefined
  }
}

function openStream(): ZstdStream {
  const stream = createZstdDecompress()
  // We see by what came out that something was wrong; unheard, the event would end the process.
  stream.on('error', () => {})
  return stream as ZstdStream
}

function slowly(frame: Uint8Array, plainBytes: number): Buffer | undefined {
  try {
    const plain = zstdDecompressSync(frame, { chunkSize: plainBytes + 64, maxOutputLength: plainBytes })
    return plain.length === plainBytes ? plain : undefined
  } catch {
    return undefined
  }
}
