import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { refuseFile } from '../disk/formats/contract.ts'
import { openNbd } from '../disk/nbd-client.ts'
import { toolMissing } from '../host/tools/run.ts'
import { Fault, isFault } from '../image/fault.ts'
import { bareEnvironment, folderSeen, type Isolation, prefixOf } from '../isolation/isolation.ts'
import type { ReadableDisk } from './contract.ts'
import { READER, readerLimits } from './reader-isolation.ts'
import { type ForeignFormat, foreignTree } from './reader-tree.ts'

/** Of the folder of a key: where the inspected file is served, and the folder that the reader itself may write to. */
export const IN_NAME = 'in'
export const OUT_NAME = 'out'
/** By its description a process is known to whoever starts after us. */
export const READER_MARK = { ending: '.disk', option: '--description=' }
const START_MS = 60_000
const POLL_MS = 10
/** Of what it says: enough to tell why it ended. */
const SAID_BYTES_MAX = 4096
/** Somebody else's: what a file does to it ends otherwise. */
const FOREIGN_SIGNALS: readonly unknown[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']
/** What it says where the file could not be read because whoever serves it does not. */
const NOT_SERVED =
  /Input\/output error|onnection|Broken pipe|not available|No such file|Permission denied|Cannot allocate/

export interface ForeignDisk {
  readonly exportName: string
  readonly format: ForeignFormat
  /** As it was inspected. */
  readonly sizeBytes: number
}

export interface ReaderOptions {
  readonly folder: string
  /** Its place among the disks of the file. */
  readonly index: number
  readonly disk: ForeignDisk
  readonly isolation: Isolation
  /** As of `userOf`. */
  readonly user: number | undefined
  /** Told of an end that nobody asked for. */
  readonly onDeath: (cause: Error) => void
}

/** A `qemu-nbd`, shut in, that reads one disk from the socket in its folder and serves it as a raw one at another. */
export class ReaderProcess {
  readonly #options: ReaderOptions
  readonly #child: ChildProcess
  readonly #gone: Promise<void>
  #spawnError: Error | undefined
  #said = ''
  #isUp = false
  #isEnded = false

  constructor(options: ReaderOptions) {
    this.#options = options
    const { folder, index, disk, isolation, user } = options
    const limits = readerLimits(disk.sizeBytes)
    const seen = folderSeen(isolation)
    const program = [
      READER,
      '--read-only',
      '--persistent',
      '--shared=0',
      `--description=${join(folder, `${index}${READER_MARK.ending}`)}`,
      `--socket=${seen}/${OUT_NAME}/${index}`,
      `--export-name=${disk.exportName}`,
      foreignTree(disk.format, `${seen}/${IN_NAME}`, disk.exportName),
    ]
    const [command, ...words] = [...prefixOf(isolation, { limits, folder, user }), ...program]
    assert(command !== undefined)
    this.#child = spawn(command, words, {
      cwd: folder,
      env: bareEnvironment(),
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const { stderr } = this.#child
    stderr?.on('data', (bytes: Buffer) => {
      this.#said = (this.#said + bytes.toString('latin1')).slice(-SAID_BYTES_MAX)
    })
    stderr?.on('error', () => {})
    const gone = Promise.withResolvers<void>()
    this.#gone = gone.promise
    this.#child.once('error', (error) => {
      this.#spawnError ??= error
      if (this.#child.pid === undefined) gone.resolve()
    })
    // Not at its exit: its last words tell why.
    this.#child.once('close', () => gone.resolve())
    this.#gone.then(() => {
      if (this.#isUp && !this.#isEnded) options.onDeath(this.#ending())
    })
    // It is no reason for a service to go on that has nothing else to do.
    this.#child.unref()
    if (stderr) (stderr as Socket).unref()
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /**
   * Waits until it serves. Faults: 'invalid' 'file' reason 'corrupt' where it cannot read the file, or shows another size;
   * 'unavailable' for what is not the file's fault. The caller then calls `end`.
   */
  async ready(signal: AbortSignal): Promise<ReadableDisk> {
    const { folder, index, disk } = this.#options
    const { exportName, sizeBytes } = disk
    const socketPath = join(folder, OUT_NAME, String(index))
    const end = performance.now() + START_MS
    for (;;) {
      if (this.#isOver()) {
        await this.#gone
        throw this.#whyGone()
      }
      const shownBytes = await sizeShown(socketPath, exportName, signal)
      if (shownBytes !== undefined) {
        this.#isUp = true
        if (shownBytes === sizeBytes) return { socketPath, exportName, sizeBytes }
        throw refuseFile(
          'corrupt',
          'The file tells two different sizes of its disk. Convert it anew where it came from, then try again.',
        )
      }
      if (performance.now() >= end) {
        const message = "QEMU's reader does not start in time. Try again when the host is less busy."
        throw new Fault('unavailable', message, { subject: 'host', reason: 'reader', cause: this.#ending() })
      }
      await sleep(POLL_MS, undefined, { signal })
    }
  }

  /** Kills it and waits until it is gone. May be called again. */
  async end(): Promise<void> {
    this.#isEnded = true
    this.#child.ref()
    if (!this.#isOver()) this.#child.kill('SIGKILL')
    await this.#gone
  }

  #isOver(): boolean {
    const { pid, exitCode, signalCode } = this.#child
    return pid === undefined || exitCode !== null || signalCode !== null
  }

  #whyGone(): Fault {
    const { exitCode, signalCode } = this.#child
    const error = this.#spawnError
    if (error !== undefined && 'code' in error && error.code === 'ENOENT')
      return toolMissing('prlimit', 'util-linux', error)
    // What stands before it on the command line has said nothing in its name.
    const isItself = signalCode === null ? this.#said.includes(`${READER}: `) : !isForeign(signalCode)
    if (!isItself || (exitCode !== null && NOT_SERVED.test(this.#said))) {
      const message = "QEMU's reader did not start. See that the host has memory left, then try again."
      return new Fault('unavailable', message, { subject: 'host', reason: 'reader', cause: this.#ending() })
    }
    const fault = refuseFile(
      'corrupt',
      'The file is damaged inside: its disk cannot be read. Check it where it came from (qemu-img check), then bring it again.',
    )
    fault.cause = this.#ending()
    return fault
  }

  /** For the log: it may hold words out of the file. */
  #ending(): Error {
    const { exitCode, signalCode } = this.#child
    const how = `${READER} ended with ${exitCode ?? signalCode ?? 'nothing yet'}`
    return new Error(`${how}: ${this.#said.trim()}`, { cause: this.#spawnError })
  }
}

function isForeign(signal: unknown): boolean {
  return FOREIGN_SIGNALS.includes(signal)
}

/** Undefined while nobody listens. */
async function sizeShown(
  socketPath: string,
  exportName: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  try {
    const client = await openNbd({ socketPath, exportName }, { signal })
    await client.close()
    return client.sizeBytes
  } catch (error) {
    signal.throwIfAborted()
    if (isFault(error)) return undefined
    throw error
  }
}
