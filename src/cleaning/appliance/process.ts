import { type ChildProcess, spawn } from 'node:child_process'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { QEMU } from '../../host/qemu/acceleration.ts'
import { findText, isErrno } from '../../host/tools/durable.ts'
import { endedBadly, failed, toolMissing } from '../../host/tools/run.ts'
import { Fault } from '../../image/fault.ts'
import { cpuLimit } from '../../isolation/limits.ts'
import { refuse } from '../../volume/refuse.ts'
import { babble, readWords, type Word } from './words.ts'

/** The console's file among others: a guest that speaks for ever ends itself. */
const FILE_BYTES_MAX = 16 << 20
const OPEN_FILES_MAX = 512
const DOING = 'Starting the appliance for ext4'

/** QEMU as our child, within limits; its standard input and output are the guest's port for words. */
export class GuestProcess {
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #words: AsyncGenerator<Word, void>
  readonly #gone: Promise<void>
  readonly #signal: AbortSignal
  readonly #kill = () => void this.#child.kill('SIGKILL')
  #spawnError: Error | undefined
  #isUp = false
  #isEnded = false

  private constructor(child: ChildProcess, folder: string, signal: AbortSignal) {
    this.#child = child
    this.#folder = folder
    this.#signal = signal
    const { stdin, stdout } = child
    if (stdin === null || stdout === null) throw new TypeError('both are pipes')
    // Read from now on: Node drops what nobody has begun to read when a child ends.
    const heard = new PassThrough()
    stdout.pipe(heard)
    stdout.once('close', () => heard.end())
    this.#words = readWords(heard)
    const gone = Promise.withResolvers<void>()
    this.#gone = gone.promise
    child.once('error', (error) => {
      this.#spawnError = error
      gone.resolve()
    })
    child.once('exit', () => gone.resolve())
    // A pipe breaks when QEMU ends, which is told by its end.
    stdin.on('error', () => {})
    stdout.on('error', () => {})
    signal.addEventListener('abort', this.#kill, { once: true })
  }

  /**
   * Its pid is in `pidPath` when this resolves, so that a later process can end what a crash of ours leaves. The guest also
   * goes by itself when our end of its port closes.
   */
  static async start(
    args: readonly string[],
    pidPath: string,
    folder: string,
    cpuSeconds: number,
    signal: AbortSignal,
  ): Promise<GuestProcess> {
    signal.throwIfAborted()
    const errors = await open(errorPath(folder), 'w', 0o600)
    try {
      const limits = ['--core=0', cpuLimit(cpuSeconds), `--fsize=${FILE_BYTES_MAX}`]
      const line = [...limits, `--nofile=${OPEN_FILES_MAX}`, '--', QEMU, ...args]
      const child = spawn('prlimit', line, { cwd: '/', detached: true, stdio: ['pipe', 'pipe', errors.fd] })
      const guest = new GuestProcess(child, folder, signal)
      // QEMU writes the same a little later. It has the path among its arguments, by which `findProcess` knows it.
      if (child.pid !== undefined) await writeFile(pidPath, `${child.pid}\n`, { mode: 0o600 })
      return guest
    } finally {
      await errors.close()
    }
  }

  say(bytes: Buffer): void {
    this.#child.stdin?.write(bytes)
  }

  /**
   * The guest's next word. Faults: 'conflict' for a guest that takes longer than this, crashes or babbles; 'unavailable' for
   * a QEMU that ends by itself. The caller then calls `end`.
   */
  async next(limitMs: number): Promise<Word> {
    let isLate = false
    const timer = setTimeout(
      () => {
        isLate = true
        this.#kill()
      },
      Math.max(0, limitMs),
    )
    try {
      const { value: word } = await this.#words.next()
      if (word !== undefined) {
        this.#isUp = true
        return word
      }
      await this.#gone
    } finally {
      clearTimeout(timer)
    }
    this.#signal.throwIfAborted()
    throw isLate ? this.#tookTooLong() : await this.#whyGone()
  }

  /** Kills it and waits until it is gone. May be called again. */
  async end(): Promise<void> {
    if (this.#isEnded) return await this.#gone
    this.#isEnded = true
    this.#signal.removeEventListener('abort', this.#kill)
    this.#kill()
    await this.#gone
    // Nobody reads any more what it may still have said.
    this.#child.stdout?.destroy()
    this.#child.stdin?.destroy()
  }

  #tookTooLong(): Fault {
    if (!this.#isUp)
      return new Fault('unavailable', 'The appliance for ext4 does not start in time. Try again later.', {
        subject: 'host',
      })
    return refuse(
      'too-large',
      'A file system takes longer to be changed than cleaning may take. Check it inside the machine, or clean it without its largest disks.',
    )
  }

  async #whyGone(): Promise<Fault> {
    if (isErrno(this.#spawnError, 'ENOENT')) return toolMissing('prlimit', 'util-linux', this.#spawnError)
    const { exitCode, signalCode } = this.#child
    if (signalCode === 'SIGXCPU') return this.#tookTooLong()
    // A kernel that fails resets the machine, and with it QEMU ends well; the other is the limit of its console.
    if (this.#isUp && (exitCode === 0 || signalCode === 'SIGXFSZ')) return babble()
    // Before its first word it has looked into nothing, so that its console holds nobody's names.
    const paths = [errorPath(this.#folder), ...(this.#isUp ? [] : [consolePath(this.#folder)])]
    const texts = await Promise.all(paths.map(async (path) => ((await findText(path)) ?? '').slice(-2000)))
    const words = texts.join('\n')
    return failed(DOING, endedBadly(QEMU), words, this.#spawnError ?? new Error(`${exitCode ?? signalCode}`))
  }
}

export function consolePath(folder: string): string {
  return join(folder, 'appliance.console')
}

function errorPath(folder: string): string {
  return join(folder, 'appliance.errors')
}
