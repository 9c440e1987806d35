import type { Fault } from '../image/fault.ts'
import type { Agreement, ContextIds } from './nbd-client-handshake.ts'
import type { Link } from './nbd-link.ts'
import {
  breach,
  CHUNK,
  CHUNK_DONE,
  CHUNK_ERROR_BIT,
  type ChunkStart,
  COMMAND,
  decodeError,
  decodeReplyStart,
  decodeStatusRuns,
  REPLY_BYTES,
  readUint64,
} from './nbd-protocol.ts'
import type { Outstanding } from './nbd-reply.ts'

/** The runs of one block status: a little over a million. */
const STATUS_BYTES_MAX = 8 * 1024 * 1024
const ERROR_BYTES_MAX = 8 * 1024

/**
 * The incoming half of a client's connection: takes the server's answers, in any order, to the requests they belong to.
 * An answer that breaks the protocol ends the link, and the end of the link rejects all that was expected.
 */
export class Answers {
  readonly #link: Link
  readonly #structured: boolean
  readonly #contextIds: ContextIds
  readonly #outstanding = new Map<bigint, Outstanding>()
  // The parser's own memory: one reply is read at a time.
  readonly #head = Buffer.alloc(REPLY_BYTES)
  readonly #four = Buffer.alloc(4)
  readonly #eight = Buffer.alloc(8)
  readonly #twelve = Buffer.alloc(12)

  constructor(link: Link, agreement: Pick<Agreement, 'structured' | 'contextIds'>) {
    this.#link = link
    this.#structured = agreement.structured
    this.#contextIds = agreement.contextIds
    link.ended.then((fault) => this.#rejectAll(fault))
    this.#next()
  }

  get missingCount(): number {
    return this.#outstanding.size
  }

  expect(outstanding: Outstanding): void {
    this.#outstanding.set(outstanding.request.cookie, outstanding)
  }

  #rejectAll(fault: Fault): void {
    for (const outstanding of this.#outstanding.values()) outstanding.reject(fault)
    this.#outstanding.clear()
  }

  #next(): void {
    this.#link.want(this.#head, () => this.#onReply())
  }

  #onReply(): void {
    const start = decodeReplyStart(this.#head)
    const outstanding = this.#outstanding.get(start.cookie)
    if (!outstanding) throw breach('an answer came that nobody asked for')
    if (start.is === 'chunk') {
      if (!this.#structured) throw breach('a structured reply came without agreement')
      this.#link.want(this.#four, () => this.#onChunk(outstanding, start, this.#four.readUInt32BE(0)))
      return
    }
    const { target, request } = outstanding
    if (start.errno !== 0) outstanding.fail(start.errno, 'a simple reply')
    else if (request.command === COMMAND.blockStatus || (target && this.#structured)) {
      throw breach('a simple reply came where a structured one was agreed')
    } else if (target) {
      this.#link.want(outstanding.claim(request.offset, target.length), () => this.#finish(outstanding))
      return
    }
    this.#finish(outstanding)
  }

  #onChunk(outstanding: Outstanding, start: ChunkStart, payloadBytes: number): void {
    const done = () => (start.flags & CHUNK_DONE ? this.#finish(outstanding) : this.#next())
    const { request } = outstanding
    switch (start.type) {
      case CHUNK.none:
        if (payloadBytes !== 0 || (start.flags & CHUNK_DONE) === 0)
          throw breach('an empty chunk is malformed')
        done()
        return
      case CHUNK.offsetData:
        if (payloadBytes < 9) throw breach('a chunk of data is too short')
        this.#link.want(this.#eight, () => {
          const offset = readUint64(this.#eight, 0)
          this.#link.want(outstanding.claim(offset, payloadBytes - 8), done)
        })
        return
      case CHUNK.offsetHole:
        if (payloadBytes !== 12) throw breach('a hole is malformed')
        this.#link.want(this.#twelve, () => {
          outstanding.claim(readUint64(this.#twelve, 0), this.#twelve.readUInt32BE(8)).fill(0)
          done()
        })
        return
      case CHUNK.blockStatus: {
        const runsBytes = payloadBytes - 4
        if (request.command !== COMMAND.blockStatus || runsBytes < 8 || runsBytes > STATUS_BYTES_MAX) {
          throw breach('a block status came that nobody asked for')
        }
        this.#link.want(this.#four, () =>
          this.#onStatus(outstanding, this.#four.readUInt32BE(0), runsBytes, done),
        )
        return
      }
      default: {
        if ((start.type & CHUNK_ERROR_BIT) === 0) throw breach('a chunk has an unknown type')
        if (payloadBytes > ERROR_BYTES_MAX) throw breach('an error is too long')
        const payload = Buffer.allocUnsafe(payloadBytes)
        this.#link.want(payload, () => {
          const { errno, message } = decodeError(payload)
          outstanding.fail(errno, message)
          done()
        })
      }
    }
  }

  /** The server answers every context agreed on; those that this request did not ask for are dropped unread. */
  #onStatus(outstanding: Outstanding, contextId: number, runsBytes: number, done: () => void): void {
    const isAgreed = [...this.#contextIds.values()].includes(contextId)
    if (!isAgreed) throw breach('a block status has an unknown context')
    outstanding.beginStatus(contextId)
    if (contextId !== outstanding.contextId) {
      this.#link.skip(runsBytes, done)
      return
    }
    const payload = Buffer.allocUnsafe(runsBytes)
    this.#link.want(payload, () => {
      outstanding.status(decodeStatusRuns(payload))
      done()
    })
  }

  #finish(outstanding: Outstanding): void {
    outstanding.finish()
    this.#outstanding.delete(outstanding.request.cookie)
    this.#next()
  }
}
