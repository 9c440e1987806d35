import assert from 'node:assert/strict'
import { Fault, isFault } from '../image/fault.ts'
import type { Piece } from './contract.ts'
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
  type StatusRun,
} from './nbd-protocol.ts'
import { encodeReadReply, readExactly, readPieces } from './nbd-read-reply.ts'
import type { Context, Session } from './nbd-server-handshake.ts'

/** What one connection may make us hold, from the request until the kernel took the reply. */
const IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
const IN_FLIGHT_COUNT_MAX = 128
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
    const over = (pieces?: readonly Piece[]) => {
      if (pieces !== undefined) this.#session.disk.sent?.(pieces)
      this.#inFlightCount--
      this.#inFlightBytes -= costBytes
      this.#settle()
    }
    const reading = this.#beginRead(request)
    if (reading === undefined || reading instanceof Promise) void this.#answer(request, reading).then(over)
    else {
      const reply = encodeReadReply(request, reading, this.#session.structured)
      this.#link.send(reply, () => over(reading))
    }
  }

  /**
   * A read whose bytes are at hand is answered here and now: most reads of a warm disk are, and a promise for each
   * would cost as much as the answer. Else the bytes on their way, or undefined for what `#serve` is to look at.
   */
  #beginRead(request: Request): readonly Piece[] | Promise<readonly Piece[]> | undefined {
    const { disk } = this.#session
    const { command, lengthBytes } = request
    if (command !== COMMAND.read || lengthBytes === 0 || disk.pieces === undefined) return undefined
    if (this.#refusalOf(request, COMMAND_FLAG.dontFragment) !== undefined) return undefined
    try {
      return disk.pieces(request.offset, lengthBytes, this.#gone.signal)
    } catch (error) {
      return Promise.reject(error)
    }
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

  /** Never rejects, and resolves when the reply has left, with the pieces that were in it. */
  async #answer(
    request: Request,
    reading: Promise<readonly Piece[]> | undefined,
  ): Promise<readonly Piece[] | undefined> {
    try {
      const pieces = await reading
      if (pieces === undefined) await this.#serve(request)
      else await this.#link.flush(...encodeReadReply(request, pieces, this.#session.structured))
      return pieces
    } catch (error) {
      if (this.#link.fault) return undefined
      const known = error instanceof Refusal
      if (!known) this.#report(error)
      const text = known || isFault(error) ? error.message : 'The disk cannot be read now.'
      const errno = known ? error.errno : ERRNO.EIO
      await this.#link.flush(
        this.#session.structured
          ? encodeError(request.cookie, errno, text)
          : encodeSimpleReply(request.cookie, errno),
      )
      return undefined
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
    const refusal = this.#refusalOf(request, flagsKnown)
    if (refusal !== undefined) throw refusal
  }

  #refusalOf(request: Request, flagsKnown: number): Refusal | undefined {
    const { flags, offset, lengthBytes, command } = request
    // FUA means nothing to a command that does not write, and is allowed everywhere.
    if ((flags & ~(flagsKnown | COMMAND_FLAG.fua)) !== 0) {
      return new Refusal(ERRNO.EINVAL, 'This command has no such flag.')
    }
    if (offset + lengthBytes > this.#session.disk.sizeBytes) {
      return new Refusal(ERRNO.EINVAL, 'The request goes beyond the end of the disk.')
    }
    if (command === COMMAND.read && lengthBytes > PAYLOAD_BYTES_MAX) {
      return new Refusal(ERRNO.EOVERFLOW, 'The request is longer than 32 MiB.')
    }
    return undefined
  }

  async #done(cookie: bigint): Promise<void> {
    await this.#link.flush(
      this.#session.structured
        ? encodeChunk({ flags: CHUNK_DONE, type: CHUNK.none, cookie }, 0)
        : encodeSimpleReply(cookie, 0),
    )
  }

  /** Of a disk without `pieces`, or of nothing. */
  async #read(request: Request): Promise<void> {
    const { disk, structured } = this.#session
    if (request.lengthBytes === 0) return this.#done(request.cookie)
    const pieces = await readPieces(disk, request, structured, this.#gone.signal)
    await this.#link.flush(...encodeReadReply(request, pieces, structured))
  }

  async #blockStatus(request: Request): Promise<void> {
    const { cookie, flags, offset, lengthBytes } = request
    const { contexts } = this.#session
    if (contexts.length === 0) throw new Refusal(ERRNO.EINVAL, 'Block status was not agreed on.')
    if (lengthBytes === 0) throw new Refusal(ERRNO.EINVAL, 'A block status of nothing has no answer.')
    const countMax = (flags & COMMAND_FLAG.requestOne) !== 0 ? 1 : STATUS_COUNT_MAX
    const chunks: Buffer[] = []
    for (const [index, context] of contexts.entries()) {
      const runs = await this.#statusOf(context, offset, lengthBytes)
      assert(runs.length > 0, 'an answer covers what was asked')
      const chunkFlags = index === contexts.length - 1 ? CHUNK_DONE : 0
      chunks.push(encodeBlockStatus(cookie, context.id, runs.slice(0, countMax), chunkFlags))
    }
    await this.#link.flush(...chunks)
  }

  async #statusOf(context: Context, offset: number, lengthBytes: number): Promise<StatusRun[]> {
    const { signal } = this.#gone
    if (context.statusOf === undefined) {
      const extents = await this.#session.disk.extents(offset, lengthBytes, signal)
      return extents.map(({ lengthBytes, holds }) => ({
        lengthBytes,
        state: holds === 'zero' ? STATE.hole | STATE.zero : 0,
      }))
    }
    const statuses = await context.statusOf(offset, lengthBytes, signal)
    return statuses.map(({ lengthBytes, status }) => ({ lengthBytes, state: status }))
  }

  /** Reads and forgets, in small steps: what lies behind the disk may keep it near. */
  async #cache(request: Request): Promise<void> {
    const end = request.offset + request.lengthBytes
    for (let at = request.offset; at < end; at += CACHE_STEP_BYTES) {
      await readExactly(this.#session.disk, at, Math.min(CACHE_STEP_BYTES, end - at), this.#gone.signal)
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
