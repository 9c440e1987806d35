import type { Transform } from 'node:stream'
import { pipeline } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import { type Packing, refuseFile } from '../disk/formats/contract.ts'
import { isFault } from '../image/fault.ts'
import type { Unpack, UnpackLimits } from './contract.ts'
import { unpackXz } from './unpack-xz.ts'

const MIB = 1024 * 1024
const PIECE_BYTES = 256 * 1024
/** Before that much has come out, the ratio says nothing: every disk begins with runs of zeroes. */
const RATIO_FREE_BYTES = 64 * MIB
/** 128 MiB: what `zstd --long` uses, and `zstd -d` takes unasked. */
const ZSTD_WINDOW_LOG_MAX = 27

/** What went in so far, and whether its source failed: its faults are the caller's, not the file's. */
interface Intake {
  bytes: number
  failure: { readonly error: unknown } | undefined
}

/** See the contract. Gzip and zstd are unpacked by Node's own threads, xz by a process that is shut in. */
export const unpack: Unpack = async function* (packed, packing, limits, signal) {
  signal.throwIfAborted()
  const intake: Intake = { bytes: 0, failure: undefined }
  const metered = meter(packed, intake, signal)
  const opened =
    packing === 'xz'
      ? unpackXz(metered, limits.sizeBytesMax, signal)
      : unpackHere(metered, packing, intake, signal)
  let unpackedBytes = 0
  try {
    for await (const piece of opened) {
      unpackedBytes += piece.length
      checkLimits(unpackedBytes, intake.bytes, limits)
      yield piece
    }
    // What came was whole, and yet the source has more to say.
    if (intake.failure !== undefined) throw intake.failure.error
  } catch (error) {
    signal.throwIfAborted()
    throw intake.failure === undefined ? error : intake.failure.error
  }
}

async function* meter(packed: AsyncIterable<Uint8Array>, intake: Intake, signal: AbortSignal) {
  try {
    for await (const piece of packed) {
      signal.throwIfAborted()
      intake.bytes += piece.length
      // To a stream, nothing at all would be the end.
      if (piece.length > 0) yield piece
    }
  } catch (error) {
    intake.failure = { error }
    throw error
  }
}

function checkLimits(unpackedBytes: number, packedBytes: number, limits: UnpackLimits): void {
  const { sizeBytesMax, ratioMax } = limits
  if (unpackedBytes > sizeBytesMax) {
    throw refuseFile(
      'too-large',
      `The file unpacks to more than the ${Math.floor(sizeBytesMax / MIB)} MiB that it may have. Bring a smaller disk, or have the limit raised.`,
    )
  }
  if (unpackedBytes > RATIO_FREE_BYTES && unpackedBytes > packedBytes * ratioMax) {
    throw refuseFile(
      'too-large',
      `The file unpacks to more than ${ratioMax} times its size, as no disk in use does. Unpack it first, then bring the disk itself.`,
    )
  }
}

async function* unpackHere(
  packed: AsyncIterable<Uint8Array>,
  packing: Exclude<Packing, 'xz'>,
  intake: Intake,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const stream = streamOf(packing)
  const abort = () => stream.destroy(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  // The stream is read below, and whatever ends the pipeline ends the reading.
  pipeline(packed, stream, () => {})
  try {
    for await (const piece of stream as AsyncIterable<Buffer>) yield piece
    // It stops at the first byte that begins no further member.
    if (stream.bytesWritten !== intake.bytes) throw trailing()
  } catch (error) {
    throw isFault(error) || intake.failure !== undefined ? error : damaged(error)
  } finally {
    signal.removeEventListener('abort', abort)
    stream.destroy()
  }
}

function streamOf(packing: Exclude<Packing, 'xz'>): Transform & { readonly bytesWritten: number } {
  if (packing === 'gzip') return createGunzip({ chunkSize: PIECE_BYTES })
  return createZstdDecompress({
    chunkSize: PIECE_BYTES,
    params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
  })
}

function trailing() {
  return refuseFile(
    'packing',
    'Something that is not packed follows the end of the packed file. Pack the disk anew, then bring it again.',
  )
}

/** `cause`: of the library, which tells what it met by a code alone. */
function damaged(cause: unknown) {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined
  const fault = isWindowError(code)
    ? refuseFile(
        'packing',
        'The file was packed with a window over 128 MiB. Pack it anew without --long, or with --long=27.',
      )
    : refuseFile(
        'packing',
        'The packed file is damaged or cut off. Compare its checksum with its source, then bring it again.',
      )
  fault.cause = cause
  return fault
}

function isWindowError(code: string | undefined): boolean {
  return code === 'ZSTD_error_frameParameter_windowTooLarge'
}
