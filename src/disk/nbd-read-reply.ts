import { Fault } from '../image/fault.ts'
import type { Disk, Piece } from './contract.ts'
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_DONE,
  COMMAND_FLAG,
  encodeSimpleReply,
  REPLY_BYTES,
  type Request,
  STRUCTURED_REPLY_MAGIC,
  writeUint64,
} from './nbd-protocol.ts'

/** From here on it pays to ask for holes before reading, and not to send them. */
const SPARSE_BYTES_MIN = 64 * 1024
/** A read in more runs than this is sent whole. */
const RUN_COUNT_MAX = 32
/** Copying so little is cheaper than to hand the kernel two places instead of one. */
const COPY_BYTES_MAX = 16 * 1024
const ZEROES = Buffer.alloc(256 * 1024)

/** The answer to a read of at least one byte whose bytes are `pieces`, as buffers to send in this order. */
export function encodeReadReply(
  request: Request,
  pieces: readonly Piece[],
  structured: boolean,
): readonly Uint8Array[] {
  const { cookie, flags, offset, lengthBytes } = request
  if (!structured) return withPayload(encodeSimpleReply(cookie, 0), pieces, lengthBytes)
  const mayHaveHoles = (flags & COMMAND_FLAG.dontFragment) === 0 && lengthBytes >= SPARSE_BYTES_MIN
  const runs = mayHaveHoles ? runsOf(pieces) : undefined
  if (runs === undefined) {
    return withPayload(dataStart(cookie, CHUNK_DONE, offset, lengthBytes), pieces, lengthBytes)
  }
  const buffers: Uint8Array[] = []
  let at = offset
  for (const [index, run] of runs.entries()) {
    const chunkFlags = index === runs.length - 1 ? CHUNK_DONE : 0
    if (run.holds === 'zero') buffers.push(hole(cookie, chunkFlags, at, run.lengthBytes))
    else {
      buffers.push(
        ...withPayload(dataStart(cookie, chunkFlags, at, run.lengthBytes), run.pieces, run.lengthBytes),
      )
    }
    at += run.lengthBytes
  }
  return buffers
}

interface Run {
  readonly holds: 'data' | 'zero'
  readonly pieces: Piece[]
  lengthBytes: number
}

/** Pieces of one kind joined; undefined where that makes too many runs. */
function runsOf(pieces: readonly Piece[]): Run[] | undefined {
  const runs: Run[] = []
  for (const piece of pieces) {
    const holds = piece.bytes === undefined ? 'zero' : 'data'
    const last = runs.at(-1)
    if (last?.holds === holds) {
      last.pieces.push(piece)
      last.lengthBytes += piece.lengthBytes
    } else if (runs.push({ holds, pieces: [piece], lengthBytes: piece.lengthBytes }) > RUN_COUNT_MAX) {
      return undefined
    }
  }
  return runs
}

function withPayload(start: Buffer, pieces: readonly Piece[], lengthBytes: number): Uint8Array[] {
  if (lengthBytes <= COPY_BYTES_MAX) {
    const whole = Buffer.allocUnsafe(start.length + lengthBytes)
    let at = start.copy(whole)
    for (const { bytes, lengthBytes } of pieces) {
      if (bytes === undefined) whole.fill(0, at, at + lengthBytes)
      else whole.set(bytes, at)
      at += lengthBytes
    }
    return [whole]
  }
  const buffers: Uint8Array[] = [start]
  for (const { bytes, lengthBytes } of pieces) {
    if (bytes !== undefined) buffers.push(bytes)
    else
      for (let done = 0; done < lengthBytes; done += ZEROES.length)
        buffers.push(ZEROES.subarray(0, lengthBytes - done))
  }
  return buffers
}

/** Header and offset of a chunk of data that follows. */
function dataStart(cookie: bigint, flags: number, offset: number, lengthBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(CHUNK_BYTES + 8)
  writeStart(bytes, cookie, flags, CHUNK.offsetData, 8 + lengthBytes)
  writeUint64(bytes, offset, CHUNK_BYTES)
  return bytes
}

function hole(cookie: bigint, flags: number, offset: number, lengthBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(CHUNK_BYTES + 12)
  writeStart(bytes, cookie, flags, CHUNK.offsetHole, 12)
  writeUint64(bytes, offset, CHUNK_BYTES)
  bytes.writeUInt32BE(lengthBytes, CHUNK_BYTES + 8)
  return bytes
}

function writeStart(bytes: Buffer, cookie: bigint, flags: number, type: number, payloadBytes: number): void {
  bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0)
  bytes.writeUInt16BE(flags, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeBigUInt64BE(cookie, 8)
  bytes.writeUInt32BE(payloadBytes, REPLY_BYTES)
}

/** The pieces of a disk that has only `read` and `extents`: what is zero is not read, where it is worth to ask. */
export async function readPieces(
  disk: Disk,
  request: Pick<Request, 'flags' | 'offset' | 'lengthBytes'>,
  structured: boolean,
  signal: AbortSignal,
): Promise<Piece[]> {
  const { flags, offset, lengthBytes } = request
  const asks = structured && (flags & COMMAND_FLAG.dontFragment) === 0 && lengthBytes >= SPARSE_BYTES_MIN
  const extents = asks ? await disk.extents(offset, lengthBytes, signal) : []
  const isWhole = extents.length === 0 || extents.length > RUN_COUNT_MAX
  const parts = isWhole ? [{ offset, lengthBytes, holds: 'data' as const }] : extents
  const pieces: Piece[] = []
  for (const part of parts) {
    const isZero = part.holds === 'zero'
    const bytes = isZero ? undefined : await readExactly(disk, part.offset, part.lengthBytes, signal)
    pieces.push({ lengthBytes: part.lengthBytes, bytes })
  }
  return pieces
}

/** As `Disk.read`; throws Fault 'unavailable' for a disk that answers short. */
export async function readExactly(
  disk: Disk,
  offset: number,
  lengthBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const bytes = await disk.read(offset, lengthBytes, signal)
  if (bytes.length !== lengthBytes) {
    throw new Fault('unavailable', 'The disk answered short.', { subject: 'disk' })
  }
  return bytes
}
