import { Fault } from '../image/fault.ts'

/**
 * The numbers and fixed headers of NBD's transmission phase, fixed newstyle with structured replies.
 * All integers are big-endian. Source: doc/proto.md of the NetworkBlockDevice project.
 */
export const REQUEST_MAGIC = 0x25609513
export const SIMPLE_REPLY_MAGIC = 0x67446698
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef

export const REQUEST_BYTES = 28
export const REPLY_BYTES = 16
export const CHUNK_BYTES = 20
/** The most payload of one request, as every known client and server assumes where nothing else is agreed. */
export const PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
export const TEXT_BYTES_MAX = 4096

export const EXPORT_FLAG = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDontFragment: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
} as const

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const

export const COMMAND_FLAG = { fua: 1, noHole: 2, dontFragment: 4, requestOne: 8, fastZero: 16 } as const

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const
/** Every chunk type with this bit set is an error, also those a later protocol adds. */
export const CHUNK_ERROR_BIT = 0x8000
export const CHUNK_DONE = 1

export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const
const ERRNO_NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, value]) => [value, name]))

/** 'EIO' for 5; `error N` for a number the protocol does not name. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `error ${errno}`
}

/** The allocation of a run in `base:allocation`. A hole without `zero` may read as anything. */
export const STATE = { hole: 1, zero: 2 } as const

/** The fault of a peer that does not speak NBD as agreed: nothing more can be trusted on this connection. */
export function breach(what: string): Fault {
  return new Fault('unavailable', `The other side broke the NBD protocol: ${what}.`, {
    subject: 'disk',
    reason: 'protocol',
  })
}

/** Exact below 2^53. Above, only good to see that a number is out of range, which is all we do with it. */
export function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4)
}

export function writeUint64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at)
  bytes.writeUInt32BE(value % 0x1_0000_0000, at + 4)
}

export interface Request {
  readonly flags: number
  readonly command: number
  readonly cookie: bigint
  readonly offset: number
  readonly lengthBytes: number
}

export function encodeRequest(request: Request): Buffer {
  const bytes = Buffer.allocUnsafe(REQUEST_BYTES)
  bytes.writeUInt32BE(REQUEST_MAGIC, 0)
  bytes.writeUInt16BE(request.flags, 4)
  bytes.writeUInt16BE(request.command, 6)
  bytes.writeBigUInt64BE(request.cookie, 8)
  writeUint64(bytes, request.offset, 16)
  bytes.writeUInt32BE(request.lengthBytes, 24)
  return bytes
}

/** Throws the breach of a wrong magic number. */
export function decodeRequest(bytes: Buffer): Request {
  if (bytes.readUInt32BE(0) !== REQUEST_MAGIC) throw breach('a request begins with a wrong number')
  return {
    flags: bytes.readUInt16BE(4),
    command: bytes.readUInt16BE(6),
    cookie: bytes.readBigUInt64BE(8),
    offset: readUint64(bytes, 16),
    lengthBytes: bytes.readUInt32BE(24),
  }
}

export function encodeSimpleReply(cookie: bigint, errno: number): Buffer {
  const bytes = Buffer.allocUnsafe(REPLY_BYTES)
  bytes.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0)
  bytes.writeUInt32BE(errno, 4)
  bytes.writeBigUInt64BE(cookie, 8)
  return bytes
}

export interface ChunkStart {
  readonly flags: number
  readonly type: number
  readonly cookie: bigint
}

/** The header of a chunk whose payload, of `payloadBytes`, is the fields in `rest` and what follows them. */
export function encodeChunk(start: ChunkStart, payloadBytes: number, rest: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.allocUnsafe(CHUNK_BYTES + rest.length)
  bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0)
  bytes.writeUInt16BE(start.flags, 4)
  bytes.writeUInt16BE(start.type, 6)
  bytes.writeBigUInt64BE(start.cookie, 8)
  bytes.writeUInt32BE(payloadBytes, 16)
  rest.copy(bytes, CHUNK_BYTES)
  return bytes
}

/** The first 16 bytes of any reply; a chunk's are followed by 4 bytes with the length of its payload. */
export type ReplyStart =
  | { readonly is: 'simple'; readonly errno: number; readonly cookie: bigint }
  | ({ readonly is: 'chunk' } & ChunkStart)

/** Throws the breach of a wrong magic number. */
export function decodeReplyStart(bytes: Buffer): ReplyStart {
  const cookie = bytes.readBigUInt64BE(8)
  switch (bytes.readUInt32BE(0)) {
    case SIMPLE_REPLY_MAGIC:
      return { is: 'simple', errno: bytes.readUInt32BE(4), cookie }
    case STRUCTURED_REPLY_MAGIC:
      return { is: 'chunk', flags: bytes.readUInt16BE(4), type: bytes.readUInt16BE(6), cookie }
    default:
      throw breach('a reply begins with a wrong number')
  }
}

export function encodeError(cookie: bigint, errno: number, message: string): Buffer {
  const text = clipText(message)
  const rest = Buffer.allocUnsafe(6 + text.length)
  rest.writeUInt32BE(errno, 0)
  rest.writeUInt16BE(text.length, 4)
  text.copy(rest, 6)
  return encodeChunk({ flags: CHUNK_DONE, type: CHUNK.error, cookie }, rest.length, rest)
}

/** Any error chunk's payload, also with the offset that some have behind. Throws the breach of a malformed one. */
export function decodeError(payload: Buffer): { errno: number; message: string } {
  if (payload.length < 6) throw breach('an error reply is cut short')
  const errno = payload.readUInt32BE(0)
  const end = 6 + payload.readUInt16BE(4)
  if (errno === 0 || end > payload.length) throw breach('an error reply is malformed')
  return { errno, message: payload.toString('utf8', 6, end) }
}

/** One run of a meta context; runs follow each other from the offset asked for. */
export interface StatusRun {
  readonly lengthBytes: number
  readonly state: number
}

/** Of several contexts only the last chunk is `CHUNK_DONE`. */
export function encodeBlockStatus(
  cookie: bigint,
  contextId: number,
  runs: readonly StatusRun[],
  flags: number = CHUNK_DONE,
): Buffer {
  const rest = Buffer.allocUnsafe(4 + 8 * runs.length)
  rest.writeUInt32BE(contextId, 0)
  runs.forEach((run, index) => {
    rest.writeUInt32BE(run.lengthBytes, 4 + 8 * index)
    rest.writeUInt32BE(run.state, 8 + 8 * index)
  })
  return encodeChunk({ flags, type: CHUNK.blockStatus, cookie }, rest.length, rest)
}

/** What follows the context's number. Throws the breach of a payload that is no list of runs, or has an empty one. */
export function decodeStatusRuns(payload: Buffer): StatusRun[] {
  if (payload.length === 0 || payload.length % 8 !== 0) throw breach('a block status reply is malformed')
  const runs: StatusRun[] = []
  for (let at = 0; at < payload.length; at += 8) {
    const run = { lengthBytes: payload.readUInt32BE(at), state: payload.readUInt32BE(at + 4) }
    if (run.lengthBytes === 0) throw breach('a block status run is empty')
    runs.push(run)
  }
  return runs
}

/** `text` as UTF-8, cut to what the protocol allows in one string. */
export function clipText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return bytes.length <= TEXT_BYTES_MAX ? bytes : bytes.subarray(0, TEXT_BYTES_MAX)
}
