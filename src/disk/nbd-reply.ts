import { Fault } from '../image/fault.ts'
import { breach, COMMAND, ERRNO, errnoName, type Request, type StatusRun } from './nbd-protocol.ts'

/** Separate runs of data in the answer to one read; a server that needs more is out to waste memory. */
const RUN_COUNT_MAX = 4096
const ERROR_COUNT_MAX = 64

/**
 * A request on its way, and what has arrived of its answer. A read's pieces may come in any order; together they
 * must cover it exactly once, or the caller would take stale bytes of `target` for the disk's.
 */
export class Outstanding {
  readonly request: Request
  readonly target: Uint8Array | undefined
  /** The number of the meta context that a block status asks for; the server answers all that were agreed on. */
  readonly contextId: number | undefined
  readonly #settled = Promise.withResolvers<StatusRun[]>()
  readonly #covered: { from: number; to: number }[] = []
  /** Not made for reads, of which there are many. */
  #answeredIds: Set<number> | undefined
  #runs: StatusRun[] | undefined
  #claimedBytes = 0
  #errorCount = 0
  #error: Fault | undefined

  constructor(request: Request, target: Uint8Array | undefined, contextId: number | undefined) {
    this.request = request
    this.target = target
    this.contextId = contextId
  }

  get settled(): Promise<StatusRun[]> {
    return this.#settled.promise
  }

  /** The part of the target for `lengthBytes` at the disk's `offset`. Throws the breach of a run outside it. */
  claim(offset: number, lengthBytes: number): Uint8Array {
    const from = offset - this.request.offset
    const to = from + lengthBytes
    if (!this.target || lengthBytes === 0 || from < 0 || to > this.target.length) {
      throw breach('data arrived that nobody asked for')
    }
    this.#claimedBytes += lengthBytes
    if (this.#claimedBytes > this.target.length) throw breach('data arrived twice')
    const last = this.#covered.at(-1)
    if (last?.to === from) last.to = to
    else if (this.#covered.push({ from, to }) > RUN_COUNT_MAX) throw breach('an answer is in too many pieces')
    return this.target.subarray(from, to)
  }

  /** An answer for a context begins. Throws the breach of a second one, which would have to be guessed about. */
  beginStatus(contextId: number): void {
    this.#answeredIds ??= new Set()
    if (this.#answeredIds.has(contextId)) throw breach('one block status was answered twice')
    this.#answeredIds.add(contextId)
  }

  /** The answer for the context that was asked for. */
  status(runs: StatusRun[]): void {
    this.#runs = runs
  }

  /** The error the request will end with; the first one counts. Throws the breach of errors without end. */
  fail(errno: number, message: string): void {
    if (++this.#errorCount > ERROR_COUNT_MAX) throw breach('an answer has errors without end')
    const isFull = errno === ERRNO.ENOSPC && this.request.command !== COMMAND.read
    const remedy = isFull ? 'Make room there, then try again.' : 'Try again, or check the disk.'
    this.#error ??= new Fault(
      isFull ? 'full' : 'unavailable',
      `The disk server failed at ${this.request.offset} with ${errnoName(errno)}. ${remedy}`,
      { subject: 'disk', reason: errnoName(errno), cause: new Error(message) },
    )
  }

  /** The last piece is here. Throws the breach of an answer with parts missing. */
  finish(): void {
    if (this.#error) {
      this.reject(this.#error)
      return
    }
    if (this.request.command === COMMAND.blockStatus && !this.#runs) throw breach('a block status is empty')
    this.#checkCovered()
    this.#settled.resolve(this.#runs ?? [])
  }

  reject(fault: Fault): void {
    this.#settled.reject(fault)
  }

  #checkCovered(): void {
    if (!this.target) return
    let end = 0
    for (const run of this.#covered.sort((a, b) => a.from - b.from)) {
      if (run.from !== end) throw breach('data arrived twice or not at all')
      end = run.to
    }
    if (end !== this.target.length) throw breach('an answer is short')
  }
}
