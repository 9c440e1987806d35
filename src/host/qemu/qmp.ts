import { connect, type Socket } from 'node:net'
import { Fault } from '../../image/fault.ts'
import { MAKE_ROOM } from '../tools/durable.ts'

export interface QmpEvent {
  readonly event: string
  readonly data?: Readonly<Record<string, unknown>>
  readonly timestamp: { readonly seconds: number; readonly microseconds: number }
}

export interface QmpCommand {
  readonly execute: string
  readonly arguments?: Readonly<Record<string, unknown>>
}

/** The `reason` of the fault when QEMU understood a command and declined it. */
export const QMP_REFUSED = 'qmp-refused'

interface Waiting {
  readonly command: string
  resolve(value: unknown): void
  reject(error: Error): void
}

/**
 * One conversation with a QEMU over its monitor socket. The monitor serves one client at a time, so conversations are
 * short and nobody keeps one; a second client waits for its greeting. Faults: 'unavailable' when nobody listens, no
 * answer comes in time, or QEMU refuses (`reason` QMP_REFUSED). Source: QEMU 7.2, docs/interop/qmp-spec.txt.
 */
export class Qmp {
  /** All events since the connection was made. */
  readonly events: QmpEvent[] = []
  readonly #socket: Socket
  readonly #timeoutMs: number
  readonly #waiting = new Map<number, Waiting>()
  readonly #greeted = Promise.withResolvers<void>()
  #nextId = 1
  #text = ''
  #end: Error | undefined

  private constructor(path: string, timeoutMs: number) {
    this.#timeoutMs = timeoutMs
    this.#socket = connect(path)
    this.#socket.setEncoding('utf8')
    this.#socket.on('data', (text: string) => this.#receive(text))
    this.#socket.once('error', (error) => this.#fail(error))
    this.#socket.once('close', () => this.#fail(new Error('The monitor closed the connection.')))
  }

  static async open(path: string, timeoutMs = 10_000): Promise<Qmp> {
    const qmp = new Qmp(path, timeoutMs)
    try {
      await qmp.#inTime('the greeting', qmp.#greeted.promise)
      await qmp.execute('qmp_capabilities')
      return qmp
    } catch (error) {
      qmp.close()
      throw error
    }
  }

  async execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    return await this.#send({ execute: command, ...(args && { arguments: args }) })
  }

  /**
   * Sends all commands at once, so that QEMU runs them one after the other without waiting for us; answers each one's
   * outcome. A refused command does not keep the next from running.
   */
  async executeAll(commands: readonly QmpCommand[]): Promise<PromiseSettledResult<unknown>[]> {
    this.#socket.cork()
    const answers = commands.map((command) => this.#send(command))
    this.#socket.uncork()
    return await Promise.allSettled(answers)
  }

  close(): void {
    this.#socket.destroy()
    this.#fail(new Error('The conversation is over.'))
  }

  #send(command: QmpCommand): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    if (this.#end !== undefined) reject(silent(this.#end))
    else {
      const id = this.#nextId++
      this.#waiting.set(id, { command: command.execute, resolve, reject })
      this.#socket.write(`${JSON.stringify({ ...command, id })}\n`)
    }
    return this.#inTime(command.execute, promise)
  }

  async #inTime<T>(what: string, promise: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => late.reject(silent(new Error(`No answer to ${what} within ${this.#timeoutMs} ms.`))),
      this.#timeoutMs,
    )
    try {
      return await Promise.race([promise, late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  #receive(text: string): void {
    const lines = (this.#text + text).split('\n')
    this.#text = lines.pop() ?? ''
    for (const line of lines) if (line.trim() !== '') this.#take(line)
  }

  #take(line: string): void {
    let message: Record<string, unknown>
    try {
      message = JSON.parse(line)
    } catch (error) {
      this.#fail(error as Error)
      return
    }
    if ('QMP' in message) this.#greeted.resolve()
    else if ('event' in message) this.events.push(message as unknown as QmpEvent)
    else {
      const waiting = this.#waiting.get(Number(message.id))
      this.#waiting.delete(Number(message.id))
      if (waiting === undefined) return
      if ('return' in message) waiting.resolve(message.return)
      else waiting.reject(refused(waiting.command, message.error))
    }
  }

  #fail(error: Error): void {
    if (this.#end !== undefined) return
    this.#end = error
    this.#greeted.promise.catch(() => {})
    this.#greeted.reject(silent(error))
    for (const waiting of this.#waiting.values()) waiting.reject(silent(error))
    this.#waiting.clear()
    this.#socket.destroy()
  }
}

function silent(cause: Error): Fault {
  return new Fault('unavailable', 'The hypervisor does not answer. Try again; look at its log if it lasts.', {
    subject: 'host',
    cause,
  })
}

function refused(command: string, error: unknown): Fault {
  const text = String((error as { desc?: unknown } | undefined)?.desc ?? 'no reason given')
  const options = { subject: 'host', reason: QMP_REFUSED, cause: new Error(text) } as const
  // QEMU's words name paths of the host, so they are the cause alone.
  if (/No space left/i.test(text))
    return new Fault('full', `The hypervisor's '${command}' failed: ${MAKE_ROOM}`, options)
  return new Fault(
    'unavailable',
    `The hypervisor refused '${command}'. The service's log has its words; look there, then try again.`,
    options,
  )
}
