import assert from 'node:assert/strict'
import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib'

const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1 }

/** What Node's own `zlib` calls to compress in place. It is not documented: we look whether it is there. */
interface Binding {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputBytes: number,
    output: Uint8Array,
    outputOffset: number,
    outputBytes: number,
  ): void
}

/** The parts of a zlib stream that we use. */
export interface ZstdStream {
  readonly _handle?: Binding | null
  /** After a call: the bytes left free in the output, the bytes left over of the input. */
  readonly _writeState?: Uint32Array
}

/** The most that zstd makes of so many bytes. Source: ZSTD_COMPRESSBOUND in zstd.h; for short inputs it is less. */
const boundOf = (plainBytes: number) => plainBytes + (plainBytes >> 8) + 64

/**
 * Compresses chunks, each to one zstd frame. One per thread. `zstdCompressSync` makes a context and an output buffer for
 * every call, which costs a quarter of the time that a chunk takes and keeps the garbage collector busy; this has one
 * of each for as long as it lives. The frames are the same bytes.
 */
export class Compressor {
  readonly #output: Buffer
  readonly #stream: ZstdStream

  /** `stream` is for tests: a Node whose streams look different is worked with the documented way. */
  constructor(
    plainBytesMax: number,
    stream: ZstdStream = createZstdCompress({ params: PARAMS }) as ZstdStream,
  ) {
    this.#output = Buffer.allocUnsafeSlow(boundOf(plainBytesMax))
    this.#stream = stream
  }

  /** The frame of `plain`: good until the next call. */
  compress(plain: Uint8Array): Uint8Array {
    const output = this.#output
    assert(boundOf(plain.length) <= output.length)
    const { _handle: binding, _writeState: state } = this.#stream
    if (typeof binding?.writeSync !== 'function' || state?.length !== 2) {
      // Node's default output buffer of 16 KiB would cost a call per 16 KiB and a copy at the end.
      return zstdCompressSync(plain, { chunkSize: output.length, params: PARAMS })
    }
    // The end of the frame is asked for at once and has room: zstd writes the whole frame and is ready for the next one.
    // What an earlier call left must not be taken for the answer of one that failed.
    state.fill(1)
    binding.writeSync(constants.ZSTD_e_end, plain, 0, plain.length, output, 0, output.length)
    const [freeBytes = 0, leftBytes] = state
    assert(leftBytes === 0 && freeBytes < output.length, 'zstd takes a whole chunk at once')
    return output.subarray(0, output.length - freeBytes)
  }
}
