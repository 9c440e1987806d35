import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { Fault } from '../image/fault.ts'
import type { PeerPlace } from './contract.ts'
import { type ConnectTimes, PinnedAgent, SOCKETS_MAX } from './pinned-agent.ts'
import { FAULT_HEADER, PATH, readFaultWords } from './words.ts'

export interface PeerTimes extends ConnectTimes {
  /** Until an answer begins: a busy peer lets us wait for our turn. */
  readonly headMs: number
  /** Between two pieces of an answer. */
  readonly idleMs: number
  /** For a question and all of its answer: as long as a peer of ours gives us for one. */
  readonly answerMs: number
}

const TIMES: PeerTimes = {
  ...{ connectMs: 10_000, headMs: 120_000, idleMs: 30_000, answerMs: 600_000 },
  begunMs: 5_000,
}
/** So many are worth having at once; the others are made when there is something to ask. */
export const BEGUN_MAX = SOCKETS_MAX / 2

/** One question. What answers it has to be of exactly `lengthBytes`, or of `lengthBytesMax` at most. */
export type Question = {
  /** Behind the common beginning of all paths. */
  readonly path: string
  readonly range?: { readonly offset: number; readonly lengthBytes: number }
} & (
  | { readonly method: 'HEAD' }
  | ({ readonly method: 'GET' | 'POST'; readonly body?: Buffer } & (
      | { readonly lengthBytes: number }
      | { readonly lengthBytesMax: number }
    ))
)

/** The way to one peer, over up to `SOCKETS_MAX` connections that stay open for a while. */
export class PeerConnection {
  readonly name: string
  readonly #agent: PinnedAgent
  readonly #origin: URL
  readonly #times: PeerTimes

  constructor(place: PeerPlace, times: Partial<PeerTimes> = {}) {
    this.name = place.name
    this.#times = { ...TIMES, ...times }
    this.#origin = new URL(place.url)
    this.#agent = new PinnedAgent(place, this.#times)
  }

  /** Begins connections for questions that will soon be asked, so that those do not have to wait for them. Never fails: they will. */
  begin(): void {
    this.#agent.begin(this.#host, this.#port, BEGUN_MAX)
  }

  /**
   * The answer's bytes; of HEAD none, and `sizeBytes` is what the head tells. Faults: what the peer says, in our words;
   * 'unavailable' 'peer' where no answer comes, or half of one; 'denied' 'peer' where it shows another certificate or does not
   * know ours; 'corrupt' 'peer' for an answer that is none. Nothing is tried twice, but what met a connection that was
   * kept open here and had been closed there.
   */
  async ask(
    question: Question,
    signal?: AbortSignal,
  ): Promise<{ readonly bytes: Buffer; readonly sizeBytes: number }> {
    try {
      return await this.#ask(question, signal)
    } catch (error) {
      if (error !== STALE) throw error
    }
    try {
      return await this.#ask(question, signal)
    } catch (error) {
      throw error === STALE ? this.#silent('ECONNRESET') : error
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  get #host(): string {
    return this.#origin.hostname.replace(/^\[(.*)\]$/, '$1')
  }

  get #port(): number {
    return Number(this.#origin.port || 443)
  }

  /** Of a failure of the peer's answers, whatever it is about. */
  garbled(cause?: unknown): Fault {
    return new Fault(
      'corrupt',
      `Peer ${this.name} answers what was not asked for, or something else than Calotype answers there. Check its url and its version.`,
      { subject: 'peer', cause },
    )
  }

  #silent(why: string, cause?: unknown): Fault {
    return new Fault(
      'unavailable',
      `Peer ${this.name} does not answer (${why}). See that it runs and can be reached.`,
      {
        subject: 'peer',
        cause,
      },
    )
  }

  #ask(question: Question, signal: AbortSignal | undefined) {
    return new Promise<{ readonly bytes: Buffer; readonly sizeBytes: number }>((resolve, reject) => {
      signal?.throwIfAborted()
      const { method, path, range } = question
      const body = method === 'HEAD' ? undefined : question.body
      const last = range && range.offset + range.lengthBytes - 1
      const asked = request({
        ...{ agent: this.#agent, method, path: PATH + path },
        ...{ host: this.#host, port: this.#port },
        headers: {
          ...(range === undefined ? {} : { Range: `bytes=${range.offset}-${last}` }),
          ...(body === undefined ? {} : { 'Content-Length': body.length }),
        },
        maxHeaderSize: 8 * 1024,
      })
      let hasHead = false
      const slow = () => asked.destroy(this.#silent('too slow'))
      let timer = setTimeout(slow, this.#times.headMs)
      // Whoever sends a byte now and then would keep a copy, and its place, for ever.
      const late = setTimeout(slow, this.#times.answerMs)
      const leave = () => asked.destroy(signal?.reason)
      signal?.addEventListener('abort', leave, { once: true })
      const end = () => {
        clearTimeout(timer)
        clearTimeout(late)
        signal?.removeEventListener('abort', leave)
      }
      const fail = (error: unknown) => {
        end()
        asked.destroy()
        const isStale = !hasHead && asked.reusedSocket && codeOf(error) === 'ECONNRESET'
        reject(signal?.aborted ? signal.reason : isStale ? STALE : this.#told(error))
      }
      asked.on('error', fail)
      asked.on('response', (response) => {
        hasHead = true
        response.on('error', fail)
        let sizeBytes: number
        try {
          sizeBytes = this.#takeHead(response, question)
        } catch (error) {
          return fail(error)
        }
        // The whole answer has its room before it comes, so a longer one finds none.
        const bytes = Buffer.allocUnsafeSlow(method === 'HEAD' ? 0 : sizeBytes)
        let doneBytes = 0
        clearTimeout(timer)
        timer = setTimeout(slow, this.#times.idleMs)
        response.on('data', (piece: Buffer) => {
          timer.refresh()
          doneBytes += piece.copy(bytes, doneBytes)
        })
        response.on('end', () => {
          if (doneBytes !== bytes.length) return fail(this.#silent('cut short'))
          end()
          resolve({ bytes, sizeBytes })
        })
      })
      asked.end(body)
    })
  }

  /** How long the answer is, if its head is one that was asked for. */
  #takeHead({ statusCode, headers }: IncomingMessage, question: Question): number {
    const fault = headers[FAULT_HEADER]
    if (fault !== undefined) throw this.#toldFault(String(fault))
    const isPart = question.range !== undefined
    const length = headers['content-length'] ?? ''
    const isRight =
      statusCode === (isPart ? 206 : 200) &&
      /^(0|[1-9]\d{0,14})$/.test(length) &&
      headers['content-encoding'] === undefined
    const lengthBytes = Number(length)
    if (!isRight) throw this.garbled()
    if (question.method === 'HEAD') return lengthBytes
    if (
      'lengthBytes' in question ? lengthBytes !== question.lengthBytes : lengthBytes > question.lengthBytesMax
    ) {
      throw this.garbled()
    }
    return lengthBytes
  }

  #toldFault(words: string): Fault {
    const told = readFaultWords(words)
    if (told === undefined) return this.garbled()
    const { kind, subject } = told
    const { name } = this
    const message = {
      invalid: `Peer ${name} does not understand what we ask. Check that both run the same version.`,
      denied: `Peer ${name} does not let us read that. Ask whoever runs it to name our certificate ('calotype peer identity'), the region and the project in its settings.`,
      absent: `Peer ${name} has no such ${subject === 'store' ? 'object (any more)' : subject} that we may read.`,
      conflict: `The ${subject} of peer ${name} is not available yet. Try again when it is.`,
      full: `Peer ${name} has no room left.`,
      unavailable: `Peer ${name} is busy, or cannot read its store now. If it stays so, its log says why.`,
      corrupt: `Peer ${name} finds its ${subject} damaged. It has to be repaired there.`,
    }[kind]
    // Which region or project it is that we may not read is for it to say, so to us it is the peer that denies.
    return new Fault(kind, message, {
      subject: kind === 'denied' || kind === 'unavailable' ? 'peer' : subject,
    })
  }

  #told(error: unknown): Fault {
    if (error instanceof Fault) return error
    const code = codeOf(error)
    return code.startsWith('HPE_') ? this.garbled(error) : this.#silent(code || 'cut off', error)
  }
}

const STALE = new Error('the connection was closed while it was idle')

const codeOf = (error: unknown): string =>
  error instanceof Error ? String((error as NodeJS.ErrnoException).code ?? '') : ''
