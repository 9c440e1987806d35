import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { Fault, isFault } from '../image/fault.ts'
import { bareEnvironment, type Isolation } from '../isolation/isolation.ts'
import { refuse } from '../volume/refuse.ts'
import type { NbdExport } from './contract.ts'
import { parseFailure } from './examiner-answers.ts'
import type { Ask } from './examiner-words.ts'
import { nodeArguments, prefixWith } from './isolation.ts'
import { object } from './shape.ts'

export interface ExaminerLimits {
  readonly memoryBytes: number
  /** For one ask. */
  readonly askMs: number
  readonly answerBytes: number
}

export interface ExaminerOptions {
  /** Gets the pid, so that a later process can end one that was left. */
  readonly pidPath: string
  readonly entryPath: string
  readonly isolation: Isolation
  /** Exports of the disks, in the order of the machine: writable ones to clean them. */
  readonly disks: readonly NbdExport[]
  readonly limits: ExaminerLimits
  readonly signal: AbortSignal
}

type Verdict = 'memory' | 'time' | 'babble' | 'aborted' | 'ended' | 'killed' | 'unstarted'

/** As `At` of examiner-words.ts is written. */
const AT = /^\{"is":"at","volume":(-1|\d{1,9})\}$/
const WATCH_MS = 200
/** Asks of one cleaning, each of which may take the whole time on one processor. */
const ASK_COUNT = 8
const HEAP_SHARE = 0.6
const MIB = 1024 * 1024
/** Somebody else's: of its own it has others. */
const FOREIGN_SIGNALS: readonly unknown[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']

/**
 * The process that reads hostile disks, from the service's side. It is held to its limits of memory, time and words, and has
 * no right but to sockets that were given to it; what it answers is for the caller to distrust.
 */
export class Examiner {
  readonly #child: ChildProcess
  readonly #limits: ExaminerLimits
  readonly #signal: AbortSignal
  readonly #exited: Promise<unknown>
  readonly #watch: NodeJS.Timeout
  readonly #aborted = () => this.#kill('aborted')
  #verdict: Verdict | undefined
  #heard: Buffer[] = []
  #heardBytes = 0
  /** It has said something, so that it has its disks. */
  #isUp = false
  /** What it says that it works on; -1 for no volume. */
  #volumeNow = -1
  #waiting: PromiseWithResolvers<string> | undefined

  /** Faults: 'unavailable' for a disk that cannot be connected to, or a process that cannot be started. */
  static async start(options: ExaminerOptions): Promise<Examiner> {
    const sockets: Socket[] = []
    try {
      for (const { socketPath } of options.disks) sockets.push(await connected(socketPath))
      options.signal.throwIfAborted()
      const examiner = new Examiner(begin(options, sockets), options.limits, options.signal)
      try {
        await writeFile(options.pidPath, String(examiner.#child.pid), { mode: 0o600 })
      } catch (error) {
        await examiner.end()
        throw error
      }
      return examiner
    } finally {
      // The child has its own by now.
      for (const socket of sockets) socket.destroy()
    }
  }

  private constructor(child: ChildProcess, limits: ExaminerLimits, signal: AbortSignal) {
    this.#child = child
    this.#limits = limits
    this.#signal = signal
    this.#exited = new Promise((resolve) => {
      // Not at its exit: its last words tell what it worked on.
      child.once('close', resolve)
      child.once('error', resolve)
    })
    this.#exited.then(() => this.#over())
    child.stdout?.on('data', (bytes: Buffer) => this.#hear(bytes))
    // What Node itself says at its end may hold anything from the disk: it is not kept.
    child.stderr?.resume()
    child.stdin?.on('error', () => {})
    this.#watch = setInterval(() => this.#weigh(), WATCH_MS)
    signal.addEventListener('abort', this.#aborted)
  }

  /**
   * One ask at a time. Throws what the examiner failed with, refusals for limits that were reached, or the signal's reason;
   * then no further ask is answered. `about` gets the volume that a failure or a refusal is about, or -1.
   */
  async ask<Value>(
    ask: Ask,
    parse: (value: unknown) => Value,
    about: (volume: number, fault: Fault) => Fault = (_volume, fault) => fault,
  ): Promise<Value> {
    assert(this.#waiting === undefined, 'the examiner is asked one thing after the other')
    if (this.#verdict !== undefined) throw this.#reason()
    this.#waiting = Promise.withResolvers()
    const timer = setTimeout(() => this.#kill('time'), this.#limits.askMs)
    try {
      this.#child.stdin?.write(`${JSON.stringify(ask)}\n`)
      const text = await this.#waiting.promise.catch((error: unknown) => {
        throw isFault(error, 'conflict') ? about(this.#volumeNow, error) : error
      })
      const reply = object(decode(text))
      if (reply.is === 'answer') return parse(reply.value)
      const { fault, volume } = parseFailure(reply.failure)
      throw about(volume, fault)
    } finally {
      clearTimeout(timer)
      this.#waiting = undefined
    }
  }

  /** Ends the process, whatever it does. May be called again. */
  async end(): Promise<void> {
    this.#kill('ended')
    await this.#exited
  }

  #hear(bytes: Buffer): void {
    this.#heard.push(bytes)
    this.#heardBytes += bytes.length
    if (this.#heardBytes > this.#limits.answerBytes || this.#waiting === undefined) {
      this.#kill('babble')
      return
    }
    if (!bytes.includes(0x0a)) return
    this.#isUp = true
    const heard = Buffer.concat(this.#heard)
    const end = heard.lastIndexOf(0x0a)
    const rest = heard.subarray(end + 1)
    this.#heard = [rest]
    let answer: string | undefined
    for (const line of heard.toString('utf8', 0, end).split('\n')) {
      const [, volume] = AT.exec(line) ?? []
      if (answer !== undefined) this.#kill('babble')
      else if (volume === undefined) answer = line
      else this.#volumeNow = Number(volume)
    }
    if (answer === undefined) return
    this.#heard = []
    this.#heardBytes = 0
    if (rest.length > 0) this.#kill('babble')
    else if (this.#verdict === undefined) this.#waiting.resolve(answer)
  }

  async #weigh(): Promise<void> {
    if ((await residentBytes(this.#child.pid)) > this.#limits.memoryBytes) this.#kill('memory')
  }

  #kill(verdict: Verdict): void {
    this.#verdict ??= verdict
    this.#heard = []
    this.#child.kill('SIGKILL')
  }

  #over(): void {
    clearInterval(this.#watch)
    this.#signal.removeEventListener('abort', this.#aborted)
    // Node ends itself so when its heap is full, and the system when its processor time is over.
    const { signalCode, exitCode } = this.#child
    if (signalCode === 'SIGABRT' || signalCode === 'SIGTRAP' || exitCode === 134) this.#verdict ??= 'memory'
    if (signalCode === 'SIGXCPU') this.#verdict ??= 'time'
    if (FOREIGN_SIGNALS.includes(signalCode)) this.#verdict ??= 'killed'
    this.#verdict ??= this.#isUp ? 'ended' : 'unstarted'
    this.#waiting?.reject(this.#reason())
  }

  #reason(): unknown {
    const remedy = 'Check the file systems inside the machine, then try again.'
    switch (this.#verdict) {
      case 'aborted':
        return this.#signal.reason
      case 'memory': {
        const most = `${Math.floor(this.#limits.memoryBytes / MIB)} MiB`
        return refuse('too-large', `Understanding the disks takes more than ${most} of memory. ${remedy}`)
      }
      case 'time': {
        const most = `${Math.ceil(this.#limits.askMs / 60_000)} minutes`
        return refuse('too-large', `Understanding the disks takes more than ${most}. ${remedy}`)
      }
      case 'babble':
        return refuse('damaged', `The disks could not be understood. ${remedy}`)
      case 'killed':
        return this.#unavailable(
          'The process that reads disks was ended from outside, perhaps because the host has no memory left. See that it has, then try again.',
        )
      case 'unstarted':
        return this.#unavailable(
          'The process that reads disks did not start, or lost its disks at once. See that the host has memory left, then try again.',
        )
      default:
        return refuse('damaged', `The disks could not be understood. ${remedy}`, this.#ending())
    }
  }

  #unavailable(message: string): Fault {
    return new Fault('unavailable', message, { subject: 'host', reason: 'examiner', cause: this.#ending() })
  }

  #ending(): Error {
    const { exitCode, signalCode } = this.#child
    return new Error(`the examiner ended with ${exitCode ?? signalCode ?? 'nothing'}`)
  }
}

function begin(options: ExaminerOptions, sockets: readonly Socket[]): ChildProcess {
  const { limits, entryPath, isolation, pidPath, disks } = options
  const names = disks.map(({ exportName }) => exportName)
  const heapMebibytes = Math.floor((limits.memoryBytes * HEAP_SHARE) / MIB)
  const program = [process.execPath, ...nodeArguments(entryPath, heapMebibytes)]
  const prefix = prefixWith(isolation, (ASK_COUNT * limits.askMs) / 1000)
  const [command, ...words] = [...prefix, ...program, pidPath, ...names]
  assert(command !== undefined)
  return spawn(command, words, {
    stdio: ['pipe', 'pipe', 'pipe', ...sockets],
    env: bareEnvironment(),
    cwd: '/',
  })
}

async function connected(path: string): Promise<Socket> {
  const socket = connect({ path })
  // Not a byte may be taken from it here: its first words are for the child.
  socket.pause()
  try {
    await once(socket, 'connect')
    return socket
  } catch (cause) {
    socket.destroy()
    throw new Fault('unavailable', 'A disk is not served any more. Try again.', {
      subject: 'host',
      cause,
    })
  }
}

function decode(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What a process holds in memory; 0 for one that is gone. Source: proc(5), VmRSS of /proc/PID/status, in KiB. */
async function residentBytes(pid: number | undefined): Promise<number> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}
