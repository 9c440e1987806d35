import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault, isFault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import type { MachineSpec } from '../contract.ts'
import { startDaemon } from '../tools/daemon.ts'
import { findText, syncFolder } from '../tools/durable.ts'
import type { MachineFolders } from '../tools/folders.ts'
import { endProcess, findProcess } from '../tools/processes.ts'
import { QEMU, QEMU_PACKAGE } from './acceleration.ts'
import { type Acceleration, guestArguments } from './command-line.ts'
import { ensureVariables, getUefiFirmware } from './firmware.ts'
import { type GuestPaths, guestPaths } from './paths.ts'
import { Qmp } from './qmp.ts'

/** Opening the bases waits up to 30 s for each one's server by itself. */
const START_TIMEOUT_MS = 60_000
const GREETING_TIMEOUT_MS = 500
/** A guest that was still booting at the first press has not heard it. */
const PRESS_EVERY_MS = 3_000
const POLL_MS = 50
/** What QEMU calls a guest that stands still and can go on: it was told to stop, or a disk of it failed. */
const STANDING: readonly string[] = ['paused', 'io-error']
/** A QEMU whose base is away would wait for it. */
const QEMU_END_MS = 2_000
const RESUME_TRIES = 25
const RESUME_POLL_MS = 200
/**
 * QEMU writes it when the guest powers itself off, never for a signal or a plug that we pull: 6 is 'guest-shutdown'.
 * Source: QEMU 7.2, softmmu/trace-events and qapi/run-state.json.
 */
const SHUTDOWN_EVENT = 'qemu_system_shutdown_request'
const SHUTDOWN_LINE = new RegExp(`\\b${SHUTDOWN_EVENT} reason=6$`, 'm')

export interface GuestsOptions {
  readonly folders: MachineFolders
  readonly runDirectory: string
  readonly uefiFolders: readonly string[]
  acceleration(): Promise<Acceleration>
}

/** The QEMU processes. All there is to know of one is in its pid file and its monitor, so any process of ours can. */
export class Guests {
  readonly #options: GuestsOptions

  constructor(options: GuestsOptions) {
    this.#options = options
  }

  paths(id: MachineId): GuestPaths {
    return guestPaths(this.#options.folders, this.#options.runDirectory, id)
  }

  async isRunning(id: MachineId): Promise<boolean> {
    return (await findProcess(this.paths(id).pid)) !== undefined
  }

  async start(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const { folders, uefiFolders } = this.#options
    const paths = this.paths(spec.id)
    const uefi = spec.firmware === 'uefi' ? await getUefiFirmware(uefiFolders) : undefined
    if (uefi !== undefined) await ensureVariables(uefi, paths.firmwareVariables)
    const acceleration = await this.#options.acceleration()
    const overlayPath = (disk: MachineSpec['disks'][number]) => folders.overlayPath(spec.id, disk)
    await this.forgetShutDown(spec.id)
    // Of a guest that ended: this one has nothing frozen.
    await rm(paths.freezeMark, { force: true })
    const args = guestArguments({ spec, paths, acceleration, uefi, overlayPath })
    // QEMU takes a percent sign in this path for a pattern. A machine there never counts as shut down.
    if (!paths.shutdownLog.includes('%')) args.push('-trace', SHUTDOWN_EVENT, '-D', paths.shutdownLog)
    await startDaemon(QEMU, args, {
      doing: 'Starting the machine',
      package: QEMU_PACKAGE,
      errorPath: paths.error,
      timeoutMs: START_TIMEOUT_MS,
      signal,
      isReady: () => isAnswering(paths.monitor),
    })
  }

  /**
   * Lets a guest go on that a crash of ours or a disk error left standing. Answers whether it ran already: one that
   * stood may stand again at once, because QEMU lets the first read after a lost base fail while it reconnects.
   */
  async resume(id: MachineId, after: readonly string[] = STANDING): Promise<'ran' | 'stood'> {
    return await this.talk(id, async (qmp) => {
      const { status } = (await qmp.execute('query-status')) as { status: string }
      if (!after.includes(status)) return 'ran'
      await qmp.execute('cont')
      return 'stood'
    })
  }

  async isStanding(id: MachineId): Promise<boolean> {
    return await this.talk(id, async (qmp) => {
      const { running } = (await qmp.execute('query-status')) as { running: boolean }
      return !running
    })
  }

  /**
   * As `resume`, until the guest really runs: 'stands' if it stands still even so, as with a full or lost disk; 'ended'
   * if its QEMU is gone. One that was just started, perhaps by a process of ours that was killed since, has its pid
   * file long before its monitor, because it waits for its bases in between.
   */
  async resumeSurely(id: MachineId, signal: AbortSignal): Promise<'runs' | 'stands' | 'ended'> {
    const end = performance.now() + START_TIMEOUT_MS
    while (!(await isAnswering(this.paths(id).monitor))) {
      if (!(await this.isRunning(id))) return 'ended'
      if (performance.now() >= end)
        throw new Fault(
          'unavailable',
          `The hypervisor of machine '${id}' does not answer. Stop the machine by its power, then start it.`,
          { subject: 'machine' },
        )
      await sleep(POLL_MS, undefined, { signal })
    }
    for (let tries = 0; tries < RESUME_TRIES; tries++) {
      if ((await this.resume(id)) === 'ran') return 'runs'
      await sleep(RESUME_POLL_MS, undefined, { signal })
    }
    return 'stands'
  }

  /** Presses the power button until the guest is off; false if it is still on after `graceMs`. */
  async pressPower(id: MachineId, graceMs: number, signal: AbortSignal): Promise<boolean> {
    const end = performance.now() + graceMs
    let nextPress = 0
    while (await this.isRunning(id)) {
      if (performance.now() >= end) return false
      if (performance.now() >= nextPress) {
        nextPress = performance.now() + PRESS_EVERY_MS
        // A monitor that is silent belongs to a guest that is ending, or to one that will be killed.
        await this.talk(id, (qmp) => qmp.execute('system_powerdown')).catch(passFaults)
      }
      await sleep(POLL_MS, undefined, { signal })
    }
    return true
  }

  /**
   * Pulls the plug, and removes what only a running guest needs. QEMU itself is asked first: what the guest does not see
   * of it, such as which chunks it wrote, is then kept.
   */
  async kill(id: MachineId): Promise<void> {
    const paths = this.paths(id)
    // QEMU removes its pid file when it ends by itself. One that is there is of a guest that is cut off now, or was by a
    // crash: without the file it would look like one that had been shut down.
    if ((await findText(paths.pid)) !== undefined) await this.forgetShutDown(id)
    await endProcess(paths.pid, QEMU_END_MS)
    for (const path of [paths.pid, paths.monitor, paths.console, paths.agent, paths.freezeMark])
      await rm(path, { force: true })
  }

  /**
   * True if the guest powered itself off, and nothing has run or changed its disks since. Never true on a mere guess: a
   * machine that was never started, or whose QEMU or host was killed, was not shut down. How the guest did it nobody
   * outside can tell: one that was made to cut its own power, as by `poweroff -f`, counts as shut down too.
   */
  async wasShutDown(id: MachineId): Promise<boolean> {
    const paths = this.paths(id)
    if ((await findText(paths.pid)) !== undefined) return false
    return SHUTDOWN_LINE.test((await findText(paths.shutdownLog)) ?? '')
  }

  /** From now on, also after a power cut, `wasShutDown` is false: for whoever starts a guest or changes its disks. */
  async forgetShutDown(id: MachineId): Promise<void> {
    const { shutdownLog, folder } = this.paths(id)
    await rm(shutdownLog, { force: true })
    await syncFolder(folder)
  }

  async talk<T>(id: MachineId, work: (qmp: Qmp) => Promise<T>): Promise<T> {
    const qmp = await Qmp.open(this.paths(id).monitor)
    try {
      return await work(qmp)
    } finally {
      qmp.close()
    }
  }
}

async function isAnswering(monitorPath: string): Promise<boolean> {
  try {
    const qmp = await Qmp.open(monitorPath, GREETING_TIMEOUT_MS)
    qmp.close()
    return true
  } catch (error) {
    passFaults(error)
    return false
  }
}

function passFaults(error: unknown): void {
  if (!isFault(error)) throw error
}
