import { constants, createZstdDecompress, zstdDecompressSync } from 'node:zlib'
import type { ZstdStream } from './compressor.ts'

/** Room behind the bytes that are expected. */
const SLACK_BYTES = 64
const MAGIC = 0xfd2f_b528
/** A frame of fewer bytes is not looked at. */
const HEADER_BYTES_MAX = 18
const DICTIONARY_BYTES = [0, 1, 2, 4]

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
    this.#output = Buffer.allocUnsafeSlow(plainBytesMax + SLACK_BYTES)
    this.#open = open
    this.#stream = open()
  }

  /**
   * The bytes of one whole frame, if they are exactly so many; undefined otherwise. They are in `into`, as long as they
   * are to be, if that is given and the frame says how long it is; else they are ours, and good until the next call. What
   * is in `into` after a failure means nothing.
   */
  decompress(frame: Uint8Array, plainBytes: number, into?: Buffer): Buffer | undefined {
    if (into !== undefined && into.length === plainBytes && frameBytesOf(frame) === plainBytes)
      return this.#run(frame, into, 0) ? into : undefined
    const output = this.#output
    if (plainBytes + SLACK_BYTES > output.length) return undefined
    const plain = output.subarray(0, plainBytes)
    return this.#run(frame, plain, SLACK_BYTES) ? plain : undefined
  }

  /** `slackBytes`: behind the target, to see of a frame which does not say so that it is longer. */
  #run(frame: Uint8Array, target: Buffer, slackBytes: number): boolean {
    const { _handle: binding, _writeState: state } = this.#stream
    if (typeof binding?.writeSync !== 'function' || state?.length !== 2) return slowly(frame, target)
    state.fill(1)
    const { buffer, byteOffset, length } = target
    const output = slackBytes === 0 ? target : Buffer.from(buffer, byteOffset, length + slackBytes)
    binding.writeSync(constants.ZSTD_e_end, frame, 0, frame.length, output, 0, output.length)
    const [freeBytes, leftBytes] = state
    if (freeBytes === slackBytes && leftBytes === 0) return true
    // A context that met an error, or is in the middle of a frame, is of no use any more.
    this.#stream = this.#open()
    return false
  }
}

function openStream(): ZstdStream {
  const stream = createZstdDecompress()
  // We see by what came out that something was wrong; unheard, the event would end the process.
  stream.on('error', () => {})
  return stream as ZstdStream
}

function slowly(frame: Uint8Array, target: Buffer): boolean {
  const { length } = target
  try {
    const plain = zstdDecompressSync(frame, { chunkSize: length + SLACK_BYTES, maxOutputLength: length })
    return plain.copy(target) === length
  } catch {
    return false
  }
}

/** What a frame says of its length, where it does. Source: RFC 8878, 3.1.1.1 "Frame_Header". */
function frameBytesOf(frame: Uint8Array): number | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, Math.min(frame.length, HEADER_BYTES_MAX))
  if (view.byteLength < HEADER_BYTES_MAX || view.getUint32(0, true) !== MAGIC) return undefined
  const descriptor = view.getUint8(4)
  const isSingle = (descriptor & 0x20) !== 0
  const at = 5 + (isSingle ? 0 : 1) + (DICTIONARY_BYTES[descriptor & 3] ?? 0)
  switch (descriptor >> 6) {
    case 0:
      return isSingle ? view.getUint8(at) : undefined
    case 1:
      return view.getUint16(at, true) + 256
    case 2:
      return view.getUint32(at, true)
    default:
      return Number(view.getBigUint64(at, true))
  }
}
