import assert from 'node:assert/strict'
import { Fault, isFault } from '../image/fault.ts'
import type { Extent } from './contract.ts'
import type { Link } from './nbd-link.ts'
import {
  CHUNK,
  CHUNK_DONE,
  COMMAND,
  COMMAND_FLAG,
  decodeRequest,
  ERRNO,
  encodeBlockStatus,
  encodeChunk,
  encodeError,
  encodeSimpleReply,
  PAYLOAD_BYTES_MAX,
  REQUEST_BYTES,
  type Request,
  STATE,
  writeUint64,
} from './nbd-protocol.ts'
import { CONTEXT_ID, type Session } from './nbd-server-handshake.ts'

/** What one connection may make us hold, from the request until the kernel took the reply. */
const IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
const IN_FLIGHT_COUNT_MAX = 128
/** From here on it pays to ask for holes before reading, and not to send them. */
const SPARSE_BYTES_MIN = 64 * 1024
/** A read in more pieces than this is read whole. */
const PIECE_COUNT_MAX = 32
const STATUS_COUNT_MAX = 128 * 1024
const CACHE_STEP_BYTES = 1024 * 1024

/** A request that we understood and will not serve; the connection goes on. */
class Refusal extends Error {
  readonly errno: number

  constructor(errno: number, message: string) {
    super(message)
    this.errno = errno
  }
}

/**
 * Serves the requests of one connection, many at once, each answered when it is ready. Reads no further request
 * while the client has too much under way: a client that does not take its answers holds back only itself.
 */
export class ServerSession {
  readonly #link: Link
  readonly #session: Session
  readonly #report: (error: unknown) => void
  readonly #header = Buffer.alloc(REQUEST_BYTES)
  readonly #gone = new AbortController()
  readonly #over = Promise.withResolvers<void>()
  #held: Request | undefined
  #leaving = false
  #inFlightCount = 0
  #inFlightBytes = 0

  constructor(link: Link, session: Session, report: (error: unknown) => void) {
    this.#link = link
    this.#session = session
    this.#report = report
  }

  /** Resolves when the connection has ended and nothing of it touches the disk any more. */
  async run(): Promise<void> {
    this.#link.ended.then((fault) => {
      this.#gone.abort(fault)
      this.#settle()
    })
    this.#next()
    await this.#over.promise
  }

  #next(): void {
    this.#link.want(this.#header, () => this.#admit(decodeRequest(this.#header)))
  }

  #admit(request: Request): void {
    if (request.command === COMMAND.disconnect) {
      this.#leaving = true
      this.#settle()
      return
    }
    const costBytes = costOf(request)
    const full =
      this.#inFlightCount >= IN_FLIGHT_COUNT_MAX || this.#inFlightBytes + costBytes > IN_FLIGHT_BYTES_MAX
    if (full && this.#inFlightCount > 0) {
      this.#held = request
      return
    }
    if (request.command === COMMAND.write) {
      // The payload of a refused write still arrives; it is dropped as it does, whatever length it claims.
      this.#link.skip(request.lengthBytes, () => {
        this.#start(request, costBytes)
        this.#next()
      })
      return
    }
    this.#start(request, costBytes)
    this.#next()
  }

  #start(request: Request, costBytes: number): void {
    this.#inFlightCount++
    this.#inFlightBytes += costBytes
    void this.#answer(request).then(() => {
      this.#inFlightCount--
      this.#inFlightBytes -= costBytes
      this.#settle()
    })
  }

  #settle(): void {
    const held = this.#held
    this.#held = undefined
    if (held && !this.#link.fault) {
      this.#admit(held)
      return
    }
    if (this.#leaving && this.#inFlightCount === 0) {
      this.#link.end(new Fault('unavailable', 'The client took its leave.', { subject: 'disk' }))
    }
    if (this.#link.fault && this.#inFlightCount === 0) this.#over.resolve()
  }

  /** Never rejects, and resolves when the reply has left. */
  async #answer(request: Request): Promise<void> {
    try {
      await this.#serve(request)
    } catch (error) {
      if (this.#link.fault) return
      const known = error instanceof Refusal
      if (!known) this.#report(error)
      const text = known || isFault(error) ? error.message : 'The disk cannot be read now.'
      const errno = known ? error.errno : ERRNO.EIO
      await this.#link.flush(
        this.#session.structured
          ? encodeError(request.cookie, errno, text)
          : encodeSimpleReply(request.cookie, errno),
      )
    }
  }

  async #serve(request: Request): Promise<void> {
    switch (request.command) {
      case COMMAND.read:
        this.#check(request, COMMAND_FLAG.dontFragment)
        return this.#read(request)
      case COMMAND.blockStatus:
        this.#check(request, COMMAND_FLAG.requestOne)
        return this.#blockStatus(request)
      case COMMAND.cache:
        this.#check(request, 0)
        return this.#cache(request)
      case COMMAND.flush:
        return this.#done(request.cookie)
      case COMMAND.write:
      case COMMAND.trim:
      case COMMAND.writeZeroes:
        throw new Refusal(ERRNO.EPERM, 'This export is read-only.')
      default:
        throw new Refusal(ERRNO.EINVAL, 'This server has no such command.')
    }
  }

  #check(request: Request, flagsKnown: number): void {
    const { flags, offset, lengthBytes, command } = request
    // FUA means nothing to a command that does not write, and is allowed everywhere.
    if ((flags & ~(flagsKnown | COMMAND_FLAG.fua)) !== 0) {
      throw new Refusal(ERRNO.EINVAL, 'This command has no such flag.')
    }
    if (offset + lengthBytes > this.#session.disk.sizeBytes) {
      throw new Refusal(ERRNO.EINVAL, 'The request goes beyond the end of the disk.')
    }
    if (command === COMMAND.read && lengthBytes > PAYLOAD_BYTES_MAX) {
      throw new Refusal(ERRNO.EOVERFLOW, 'The request is longer than 32 MiB.')
    }
  }

  async #done(cookie: bigint): Promise<void> {
    await this.#link.flush(
      this.#session.structured
        ? encodeChunk({ flags: CHUNK_DONE, type: CHUNK.none, cookie }, 0)
        : encodeSimpleReply(cookie, 0),
    )
  }

  async #read(request: Request): Promise<void> {
    const { cookie, offset, lengthBytes } = request
    if (lengthBytes === 0) return this.#done(cookie)
    if (!this.#session.structured) {
      const bytes = await this.#readDisk(offset, lengthBytes)
      return this.#link.flush(encodeSimpleReply(cookie, 0), bytes)
    }
    const pieces = await this.#piecesOf(request)
    let left = pieces.length
    for (const piece of pieces) {
      const flags = --left === 0 ? CHUNK_DONE : 0
      if (piece.holds === 'zero') {
        const rest = Buffer.alloc(12)
        writeUint64(rest, piece.offset, 0)
        rest.writeUInt32BE(piece.lengthBytes, 8)
        await this.#link.flush(encodeChunk({ flags, type: CHUNK.offsetHole, cookie }, 12, rest))
        continue
      }
      const bytes = await this.#readDisk(piece.offset, piece.lengthBytes)
      const rest = Buffer.alloc(8)
      writeUint64(rest, piece.offset, 0)
      const header = encodeChunk({ flags, type: CHUNK.offsetData, cookie }, 8 + bytes.length, rest)
      await this.#link.flush(header, bytes)
    }
  }

  async #piecesOf(request: Request): Promise<Extent[]> {
    const { flags, offset, lengthBytes } = request
    const whole: Extent[] = [{ offset, lengthBytes, holds: 'data' }]
    if ((flags & COMMAND_FLAG.dontFragment) !== 0 || lengthBytes < SPARSE_BYTES_MIN) return whole
    const extents = await this.#session.disk.extents(offset, lengthBytes, this.#gone.signal)
    return extents.length <= PIECE_COUNT_MAX ? extents : whole
  }

  async #readDisk(offset: number, lengthBytes: number): Promise<Buffer> {
    const bytes = await this.#session.disk.read(offset, lengthBytes, this.#gone.signal)
    if (bytes.length !== lengthBytes) {
      throw new Fault('unavailable', 'The disk answered short.', { subject: 'disk' })
    }
    return bytes
  }

  async #blockStatus(request: Request): Promise<void> {
    const { cookie, flags, offset, lengthBytes } = request
    if (!this.#session.allocation) throw new Refusal(ERRNO.EINVAL, 'Block status was not agreed on.')
    if (lengthBytes === 0) throw new Refusal(ERRNO.EINVAL, 'A block status of nothing has no answer.')
    const extents = await this.#session.disk.extents(offset, lengthBytes, this.#gone.signal)
    assert(extents.length > 0, 'extents cover what was asked')
    const countMax = (flags & COMMAND_FLAG.requestOne) !== 0 ? 1 : STATUS_COUNT_MAX
    const runs = extents.slice(0, countMax).map((extent) => ({
      lengthBytes: extent.lengthBytes,
      state: extent.holds === 'zero' ? STATE.hole | STATE.zero : 0,
    }))
    await this.#link.flush(encodeBlockStatus(cookie, CONTEXT_ID, runs))
  }

  /** Reads and forgets, in small steps: what lies behind the disk may keep it near. */
  async #cache(request: Request): Promise<void> {
    const end = request.offset + request.lengthBytes
    for (let at = request.offset; at < end; at += CACHE_STEP_BYTES) {
      await this.#readDisk(at, Math.min(CACHE_STEP_BYTES, end - at))
    }
    await this.#done(request.cookie)
  }
}

function costOf(request: Request): number {
  switch (request.command) {
    case COMMAND.read:
      // Longer ones are refused and hold nothing.
      return request.lengthBytes <= PAYLOAD_BYTES_MAX ? request.lengthBytes : 0
    case COMMAND.cache:
      return Math.min(request.lengthBytes, CACHE_STEP_BYTES)
    default:
      return 0
  }
}
