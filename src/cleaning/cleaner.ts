import { join } from 'node:path'
import type { FoundSystem } from '../guest/found-system.ts'
import { KeyedLock } from '../host/tools/keyed-lock.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Isolation, IsolationFact } from '../isolation/isolation.ts'
import type { StartAppliance } from './appliance-contract.ts'
import type { Cleaned, Cleaner, CleaningPhase, CleanRequest, CleanSource } from './contract.ts'
import { detectSystem } from './detect.ts'
import type { ExaminerLimits } from './examiner.ts'
import { findExaminerIsolation, NEEDS_NODE } from './isolation.ts'
import { OneCleaning } from './one-cleaning.ts'
import { Overlays } from './overlays.ts'
import { Room } from './room.ts'
import { Turns } from './turns.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB

export interface CleanerLimits {
  /** Cleanings at once; others wait. */
  readonly cleaningCount: number
  /** Of the process that reads disks. */
  readonly memoryBytes: number
  /** For each step of that process, and more for large disks. */
  readonly askMs: number
  readonly askMsPerGib: number
  /** What the layers of one cleaning may take on the host's disk, together; never more than its share of what is free. */
  readonly roomBytes: number
  /** Of a look for the system on disks, for all of them together. */
  readonly detectMs: number
  readonly detectMemoryBytes: number
}

const LIMITS: CleanerLimits = {
  cleaningCount: 2,
  memoryBytes: 1536 * MIB,
  askMs: 600_000,
  askMsPerGib: 1_200,
  roomBytes: Number.POSITIVE_INFINITY,
  detectMs: 30_000,
  detectMemoryBytes: 256 * MIB,
}
/** The longest plan or report. */
const ANSWER_BYTES_MAX = 64 * MIB

export interface CleanerOptions {
  /** For the layers over the disks; nothing else is in it. */
  readonly folder: string
  /** For sockets: short. May hold others' files. */
  readonly runDirectory: string
  readonly startAppliance: StartAppliance
  readonly limits?: Partial<CleanerLimits>
  readonly log?: (record: Record<string, unknown>) => void
  readonly nowMs?: () => number
  /** Another program in the place of the examiner, for tests. */
  readonly entryPath?: string
}

const ENTRY_PATH = join(import.meta.dirname, 'examiner-main.ts')

/** A cleaner on this host, with `qemu-nbd`, a child process that reads disks, and an appliance. */
export function createCleaner(options: CleanerOptions): Cleaner {
  return new HostCleaner(options)
}

/** What of this host holds hostile disks at bay. The appliance has words of its own. */
export async function cleaningFacts(): Promise<readonly IsolationFact[]> {
  return (await findExaminerIsolation(ENTRY_PATH)).facts
}

class HostCleaner implements Cleaner {
  readonly #options: CleanerOptions
  readonly #limits: CleanerLimits
  readonly #overlays: Overlays
  readonly #turns: Turns
  /** By key: the end of its turn. */
  readonly #turnsTaken = new Map<string, () => void>()
  readonly #room = new Room()
  readonly #locks = new KeyedLock()

  constructor(options: CleanerOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#overlays = new Overlays(options)
    this.#turns = new Turns(this.#limits.cleaningCount)
  }

  async detect(disks: readonly CleanSource[], signal: AbortSignal): Promise<FoundSystem> {
    signal.throwIfAborted()
    const onFailure = (error: unknown) => {
      // No message: it may be of the disk's own making, as far as the examiner is not ours any more.
      const { kind, reason, cause } = isFault(error)
        ? error
        : { kind: 'bug', reason: undefined, cause: error }
      this.#options.log?.({
        level: 'info',
        message: 'disks could not be looked at',
        kind,
        reason,
        error: cause,
      })
    }
    try {
      const { entryPath = ENTRY_PATH } = this.#options
      const { detectMs: askMs, detectMemoryBytes: memoryBytes } = this.#limits
      const isolation = await isolate(entryPath)
      const pidPath = await this.#overlays.newPidPath()
      return await detectSystem(
        { disks, entryPath, isolation, pidPath, askMs, memoryBytes, onFailure },
        signal,
      )
    } catch (error) {
      signal.throwIfAborted()
      onFailure(error)
      return {}
    }
  }

  async enter(key: string, signal: AbortSignal): Promise<void> {
    if (this.#turnsTaken.has(key)) return
    const end = await this.#turns.take(signal)
    if (this.#turnsTaken.has(key)) end()
    else this.#turnsTaken.set(key, end)
  }

  async clean(
    request: CleanRequest,
    onPhase: (phase: CleaningPhase) => void,
    signal: AbortSignal,
  ): Promise<Cleaned> {
    const { key } = request
    let isKept = this.#turnsTaken.has(key)
    await this.enter(key, signal)
    try {
      const cleaned = await this.#locks.run(key, () => this.#clean(request, onPhase, signal))
      isKept ||= !request.isDryRun
      return cleaned
    } catch (error) {
      // The message alone is for the caller. Neither has anything from inside a disk, but for the paths of secrets.
      if (isFault(error) && error.reason !== 'secrets') {
        const { kind, reason, cause } = error
        this.#options.log?.({ level: 'warn', message: 'a cleaning failed', key, kind, reason, error: cause })
      }
      throw error
    } finally {
      if (!isKept) this.#leave(key)
    }
  }

  async close(key: string): Promise<void> {
    try {
      await this.#locks.run(key, () => this.#overlays.close(key))
    } finally {
      this.#leave(key)
    }
  }

  async closeAll(): Promise<void> {
    try {
      await this.#overlays.closeAll()
    } finally {
      for (const key of [...this.#turnsTaken.keys()]) this.#leave(key)
    }
  }

  async #clean(
    request: CleanRequest,
    onPhase: (phase: CleaningPhase) => void,
    signal: AbortSignal,
  ): Promise<Cleaned> {
    const { key } = request
    await this.#overlays.close(key)
    signal.throwIfAborted()
    const cleaning = new OneCleaning(await this.#parts(request), request, onPhase)
    try {
      const cleaned = await cleaning.run(signal)
      signal.throwIfAborted()
      if (request.isDryRun) await this.#overlays.close(key)
      return cleaned
    } catch (error) {
      await this.#overlays.close(key)
      throw error
    }
  }

  #leave(key: string): void {
    this.#room.giveBack(key)
    this.#turnsTaken.get(key)?.()
    this.#turnsTaken.delete(key)
  }

  async #parts({ key, disks }: CleanRequest) {
    const { startAppliance, entryPath = ENTRY_PATH, nowMs = Date.now } = this.#options
    const isolation = await isolate(entryPath)
    const gibibytes = disks.reduce((sum, disk) => sum + disk.sizeBytes, 0) / GIB
    const { memoryBytes, askMs, askMsPerGib, roomBytes } = this.#limits
    const limits: ExaminerLimits = {
      memoryBytes,
      askMs: askMs + gibibytes * askMsPerGib,
      answerBytes: ANSWER_BYTES_MAX,
    }
    const overlays = this.#overlays
    const promiseRoom = () => this.#room.promise(key, overlays.folderOf(key), roomBytes)
    return { overlays, startAppliance, isolation, entryPath, limits, promiseRoom, nowMs }
  }
}

/** By entry, what this host can do: no cleaner changes it. */
const tried = new Map<string, Promise<Isolation>>()

/** Tried once, and again where it did not work: the host may have been busy. */
async function isolate(entryPath: string): Promise<Isolation> {
  const trial = tried.get(entryPath) ?? findExaminerIsolation(entryPath)
  tried.set(entryPath, trial)
  const isolation = await trial
  if (isolation.isWorking) return isolation
  tried.delete(entryPath)
  const message = `The process that reads disks cannot be shut in, so none is started. ${NEEDS_NODE} If it was so already, the host may be too busy: try again.`
  throw new Fault('unavailable', message, { subject: 'host', reason: 'isolation', cause: isolation.failure })
}
