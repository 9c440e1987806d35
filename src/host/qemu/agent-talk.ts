import { randomInt } from 'node:crypto'
import { connect, type Socket } from 'node:net'

/** More than any answer we ask for has. The guest decides what is sent, so there must be an end to it. */
const LINE_BYTES_MAX = 1024 * 1024
/** So much is skipped at most before the answer that is waited for. */
const SKIPPED_BYTES_MAX = 4 * 1024 * 1024
/** Ends what another client left half said; the agent sends it before the answer that follows. */
const SENTINEL = 0xff
const LINE_FEED = 0x0a
const CONNECT_TIMEOUT_MS = 2_000

/** The agent understood and declined; the message is the guest's own words. */
export class AgentRefusal extends Error {}

/** No answer came in time, or what came is no answer. After it, `sync` may find the thread again. */
export class AgentSilence extends Error {}

/** Nobody listens on the channel at all: the hypervisor of this guest has ended. */
export class AgentGone extends AgentSilence {}

interface Waiting {
  /** True when this was the message waited for. */
  take(message: Readonly<Record<string, unknown>>): boolean
  reject(error: Error): void
}

/**
 * One conversation with a guest's agent over its channel, which serves one client at a time: a second one is connected
 * but not heard until the first hangs up. Begins with `sync`. Source: QEMU 7.2, qga/qapi-schema.json
 * ('guest-sync-delimited').
 */
export class AgentTalk {
  readonly #socket: Socket
  #rest: Buffer = Buffer.alloc(0)
  #skippedBytes = 0
  /** Until the sentinel comes, everything is of an earlier client. */
  #isSkipping = true
  #waiting: Waiting | undefined
  #end: AgentSilence | undefined

  private constructor(path: string) {
    this.#socket = connect(path)
    this.#socket.on('data', (bytes: Buffer) => this.#receive(bytes))
    this.#socket.once('error', (error) => this.#fail(endOf(error)))
    this.#socket.once('close', () => this.#fail(new AgentSilence('The channel was closed.')))
  }

  static async open(path: string): Promise<AgentTalk> {
    const talk = new AgentTalk(path)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => reject(new AgentSilence('Nobody opened the channel.')), CONNECT_TIMEOUT_MS)
    talk.#socket.once('connect', resolve)
    talk.#socket.once('close', () => reject(talk.#end))
    try {
      await promise
      return talk
    } catch (error) {
      talk.close()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** Finds, or finds again, where our answers begin. Waits for what the agent is busy with. Throws AgentSilence. */
  async sync(timeoutMs: number): Promise<void> {
    const id = randomInt(1, 2 ** 31)
    this.#isSkipping = true
    this.#skippedBytes = 0
    await this.#ask('guest-sync-delimited', { id }, timeoutMs, (message) => message.return === id)
  }

  /** Throws AgentRefusal, or AgentSilence; after the latter the command may still be running. */
  async execute(
    command: string,
    timeoutMs: number,
    args?: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    this.#skippedBytes = 0
    const message = await this.#ask(command, args, timeoutMs, () => true)
    if ('return' in message) return message.return
    const { desc } = (message.error ?? {}) as { desc?: unknown }
    throw new AgentRefusal(typeof desc === 'string' ? desc : 'no reason given')
  }

  close(): void {
    this.#socket.destroy()
    this.#fail(new AgentSilence('The conversation is over.'))
  }

  async #ask(
    command: string,
    args: Readonly<Record<string, unknown>> | undefined,
    timeoutMs: number,
    isWanted: (message: Readonly<Record<string, unknown>>) => boolean,
  ): Promise<Readonly<Record<string, unknown>>> {
    if (this.#end !== undefined) throw this.#end
    const { promise, resolve, reject } = Promise.withResolvers<Readonly<Record<string, unknown>>>()
    const take = (message: Readonly<Record<string, unknown>>) => {
      if (!isWanted(message)) return false
      resolve(message)
      return true
    }
    this.#waiting = { take, reject }
    const timer = setTimeout(
      () => reject(new AgentSilence(`No answer to '${command}' within ${timeoutMs} ms.`)),
      timeoutMs,
    )
    const text = `${JSON.stringify({ execute: command, ...(args && { arguments: args }) })}\n`
    if (this.#isSkipping) this.#socket.write(Buffer.from([SENTINEL]))
    this.#socket.write(text)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiting = undefined
    }
  }

  #receive(bytes: Buffer): void {
    this.#skippedBytes += bytes.length
    if (this.#skippedBytes > SKIPPED_BYTES_MAX) {
      this.#fail(new AgentSilence('The agent talks without an end.'))
      return
    }
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    while (true) {
      const sentinel = this.#rest.lastIndexOf(SENTINEL)
      if (sentinel >= 0) {
        this.#isSkipping = false
        this.#rest = this.#rest.subarray(sentinel + 1)
      } else if (this.#isSkipping) this.#rest = Buffer.alloc(0)
      const end = this.#rest.indexOf(LINE_FEED)
      if (end < 0) break
      const line = this.#rest.subarray(0, end).toString('utf8')
      this.#rest = this.#rest.subarray(end + 1)
      this.#take(line)
    }
    if (this.#rest.length > LINE_BYTES_MAX) this.#fail(new AgentSilence('The answer is too long.'))
  }

  #take(line: string): void {
    let message: unknown
    try {
      message = JSON.parse(line)
    } catch {
      return
    }
    if (typeof message !== 'object' || message === null) return
    if (!('return' in message) && !('error' in message)) return
    this.#waiting?.take(message as Readonly<Record<string, unknown>>)
  }

  #fail(end: AgentSilence): void {
    if (this.#end !== undefined) return
    this.#end = end
    this.#waiting?.reject(this.#end)
    this.#socket.destroy()
  }
}

function endOf(error: NodeJS.ErrnoException): AgentSilence {
  const isGone = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
  return isGone
    ? new AgentGone(error.message, { cause: error })
    : new AgentSilence(error.message, { cause: error })
}
