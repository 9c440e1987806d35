import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import type {
  ConsoleText,
  DiskExports,
  DiskLayers,
  ExportRequest,
  Host,
  MachineDisk,
  MachinePower,
  MachineSpec,
  Outlook,
} from '../contract.ts'
import type { Outcome } from '../tools/bitmaps.ts'
import { CutOffs } from '../tools/cut-offs.ts'
import { ExportRecords, isExportKey } from '../tools/exports.ts'
import { type KeptSpec, layersOf, MachineFolders, machineAbsent } from '../tools/folders.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import { SOCKET_NAME_LONGEST, socketPath } from '../tools/sockets.ts'
import { madeDisk, type StillDisk, StillExports, type StillWorth } from '../tools/still-exports.ts'
import { chooseAcceleration, demandKvm, getQemuVersion } from './acceleration.ts'
import { Agents } from './agents.ts'
import type { Acceleration } from './command-line.ts'
import { readConsoleLog, typeConsole } from './console.ts'
import { ensureVariables, getUefiFirmware } from './firmware.ts'
import { Guests } from './guests.ts'
import { LiveExports } from './live-exports.ts'
import { type FreeBytes, fileSystemFreeBytes } from './scratch.ts'
import { Watch } from './watch.ts'

export interface QemuHostOptions {
  /** Machines and their disks. */
  readonly directory: string
  /** Sockets; its path is at most 70 bytes long. */
  readonly runDirectory: string
  readonly acceleration: 'auto' | Acceleration
  /** How long a guest gets to shut down before the plug is pulled. */
  readonly graceMs: number
  log(text: string, detail?: Readonly<Record<string, unknown>>): void
  /** Where UEFI firmware is looked for; Debian's folder unless given. */
  readonly uefiFolders?: readonly string[]
  /** How much room a folder has; the file system's own word unless given. */
  readonly freeBytes?: FreeBytes
}

const NOT_SHUT_DOWN =
  'The guest did not power itself off, so its disks are as after a power cut. Start the machine and shut it down for more.'

/**
 * The hypervisor on this host's QEMU. Guests that an earlier process left running are found again, and go on if they
 * stood still. Throws Fault 'unavailable' if QEMU is not installed, 'invalid' for a setting that cannot work here.
 */
export async function createQemuHost(options: QemuHostOptions): Promise<Host> {
  socketPath(options.runDirectory, SOCKET_NAME_LONGEST)
  await mkdir(options.runDirectory, { recursive: true, mode: 0o700 })
  const folders = await MachineFolders.open(options.directory)
  const version = await getQemuVersion()
  if (options.acceleration === 'kvm') await demandKvm()
  const acceleration = chosen(options, version)
  // A failed trial is told to whoever starts a machine; nobody may be waiting for it yet.
  acceleration.catch(() => {})
  const host = new QemuHost(options, folders, acceleration)
  host.startWatch()
  return host
}

async function chosen(options: QemuHostOptions, version: string): Promise<Acceleration> {
  if (options.acceleration !== 'auto') return options.acceleration
  const answer = await chooseAcceleration(join(options.directory, 'acceleration.json'), version)
  options.log(`Guests run under ${answer.acceleration}: ${answer.why}.`, { ...answer })
  return answer.acceleration
}

class QemuHost implements Host {
  readonly traits = { name: 'qemu', starts: true, hasConsole: true } as const
  readonly #options: QemuHostOptions
  readonly #folders: MachineFolders
  readonly #acceleration: Promise<Acceleration>
  readonly #guests: Guests
  readonly #agents: Agents
  readonly #live: LiveExports
  readonly #still: StillExports
  readonly #machineLock = new KeyedLock()
  readonly #consoleLock = new KeyedLock()
  /** Of the work under the machine's lock that talks to a guest's agent. */
  readonly #cutOffs = new CutOffs()
  readonly #uefiFolders: readonly string[]
  readonly #watch: Watch

  constructor(options: QemuHostOptions, folders: MachineFolders, acceleration: Promise<Acceleration>) {
    const { runDirectory, uefiFolders = ['/usr/share/OVMF'], freeBytes = fileSystemFreeBytes } = options
    this.#options = options
    this.#folders = folders
    this.#acceleration = acceleration
    this.#uefiFolders = uefiFolders
    this.#guests = new Guests({ folders, runDirectory, uefiFolders, acceleration: () => acceleration })
    this.#agents = new Agents(this.#guests)
    this.#live = new LiveExports(this.#guests, this.#agents, folders, runDirectory, freeBytes)
    this.#still = new StillExports(runDirectory)
    const { log } = options
    const thaw = (id: MachineId) =>
      this.#cutOffs.during(id, (cutOff) => this.#agents.thawIfMarked(id, cutOff))
    this.#watch = new Watch({ folders, guests: this.#guests, lock: this.#machineLock, thaw, log })
  }

  startWatch(): void {
    this.#watch.start()
  }

  ensureMachine(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    return this.#machineLock.run(spec.id, async () => {
      const uefi = spec.firmware === 'uefi' ? await getUefiFirmware(this.#uefiFolders) : undefined
      await this.#folders.ensure(spec, signal, async (folder) => {
        if (uefi !== undefined) await ensureVariables(uefi, join(folder, 'firmware-variables.fd'))
      })
    })
  }

  ensureStarted(id: MachineId, signal: AbortSignal): Promise<void> {
    return this.#machineLock.run(id, async () => {
      const spec = await this.#folders.get(id)
      if (await this.#guests.isRunning(id)) {
        const now = await this.#guests.resumeSurely(id, signal)
        if (now === 'runs') return
        if (now === 'stands')
          throw new Fault(
            'unavailable',
            `A disk of machine '${id}' fails or is full, so its guest stands still.`,
            { subject: 'machine' },
          )
      }
      await (await this.#records(spec)).refuseAny(id)
      await this.#guests.start(spec, signal)
    })
  }

  async ensureStopped(id: MachineId, how: 'graceful' | 'power', signal: AbortSignal): Promise<void> {
    if (!(await this.#folders.has(id))) throw machineAbsent(id)
    // Outside the lock: whoever wants to pull the plug at once need not wait for the polite way.
    if (how === 'graceful') await this.#guests.pressPower(id, this.#options.graceMs, signal)
    // A capture of a stopped machine can go on.
    if (await this.#guests.isRunning(id)) this.#cutOffs.now(id, ended(id, 'stopped'))
    await this.#machineLock.run(id, async () => {
      await this.#guests.kill(id)
      const spec = await this.#folders.find(id)
      if (spec !== undefined) await this.#records(spec)
    })
  }

  ensureGone(id: MachineId, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#cutOffs.now(id, ended(id, 'removed'))
    return this.#machineLock.run(id, async () => {
      signal.throwIfAborted()
      // By names alone: a machine whose records are damaged must be able to go.
      await this.#guests.kill(id)
      await this.#still.closeAll(id)
      await this.#folders.remove(id)
    })
  }

  async power(id: MachineId): Promise<MachinePower> {
    if (!(await this.#folders.has(id))) return 'absent'
    return (await this.#guests.isRunning(id)) ? 'running' : 'stopped'
  }

  list(): Promise<MachineId[]> {
    return this.#folders.list()
  }

  /** Every machine here was made by `ensureMachine`. */
  async found(): Promise<[]> {
    return []
  }

  async outlook(id: MachineId, signal: AbortSignal): Promise<Outlook> {
    signal.throwIfAborted()
    await this.#folders.get(id)
    if (!(await this.#guests.isRunning(id))) return { power: 'stopped', ...(await this.#stillWorth(id)) }
    const { consistency, why } = await this.#agents.outlook(id, signal)
    return { power: 'running', consistency, consistencyWhy: why }
  }

  openExports(id: MachineId, key: string, request: ExportRequest, signal: AbortSignal): Promise<DiskExports> {
    assert(isExportKey(key), 'an export key is letters and digits')
    return this.#interruptibly(id, async (cutOff) => {
      signal.throwIfAborted()
      cutOff.throwIfAborted()
      const spec = await this.#folders.get(id)
      const records = await this.#records(spec)
      await records.refuseOthers(id, key)
      if (await this.#guests.isRunning(id))
        return await this.#live.open(spec, key, request, records, { signal, cutOff })
      const worth = await this.#stillWorth(id)
      const disks = this.#stillDisks(spec)
      const either = AbortSignal.any([signal, cutOff])
      return await this.#still.open(id, key, request, disks, worth, records, either)
    })
  }

  closeExports(id: MachineId, key: string, outcome: Outcome): Promise<void> {
    assert(isExportKey(key), 'an export key is letters and digits')
    return this.#interruptibly(id, async (cutOff) => {
      const spec = await this.#folders.find(id)
      if (spec === undefined) return
      const records = new ExportRecords(this.#folders.path(id))
      const record = await records.find(key)
      if (record?.how === 'live') await this.#live.close(spec, key, outcome, records, cutOff)
      else if (record?.how === 'still') await this.#still.close(key, outcome, this.#stillDisks(spec), records)
    })
  }

  replaceDisk(id: MachineId, disk: MachineDisk, signal: AbortSignal): Promise<void> {
    return this.#machineLock.run(id, async () => {
      signal.throwIfAborted()
      const spec = await this.#folders.get(id)
      if (await this.#guests.isRunning(id))
        throw new Fault('conflict', `Machine '${id}' is running. Stop it to give a disk other content.`, {
          subject: 'machine',
        })
      await (await this.#records(spec)).refuseAny(id)
      // What the guest left in order is not what the disk will hold.
      await this.#guests.forgetShutDown(id)
      await this.#folders.replaceDisk(id, disk, signal)
    })
  }

  async layers(id: MachineId): Promise<Readonly<Record<string, DiskLayers>>> {
    return layersOf((await this.#folders.get(id)).disks)
  }

  async readConsole(id: MachineId, fromByte: number): Promise<ConsoleText> {
    await this.#folders.get(id)
    return await readConsoleLog(this.#guests.paths(id).consoleLog, fromByte)
  }

  async writeConsole(id: MachineId, bytes: Uint8Array): Promise<void> {
    await this.#folders.get(id)
    await this.#consoleLock.run(id, async () => {
      if (!(await this.#guests.isRunning(id)))
        throw new Fault('conflict', `Machine '${id}' is not running, so nobody reads its console.`, {
          subject: 'machine',
        })
      await typeConsole(this.#guests.paths(id).console, bytes)
    })
  }

  async close(): Promise<void> {
    await this.#watch.close()
    await this.#machineLock.idle()
    await this.#consoleLock.idle()
    await this.#acceleration.catch(() => {})
  }

  async #stillWorth(id: MachineId): Promise<StillWorth> {
    if (await this.#guests.wasShutDown(id)) return { consistency: 'application', consistencyWhy: '' }
    return { consistency: 'crash', consistencyWhy: NOT_SHUT_DOWN }
  }

  #stillDisks(spec: KeptSpec): StillDisk[] {
    return spec.disks.map((disk) => madeDisk(disk, this.#folders.overlayPath(spec.id, disk)))
  }

  /** Under the machine's lock; a stop or a removal of the machine that was asked for later comes as the signal. */
  #interruptibly<T>(id: MachineId, work: (cutOff: AbortSignal) => Promise<T>): Promise<T> {
    return this.#cutOffs.during(id, (cutOff) => this.#machineLock.run(id, () => work(cutOff)))
  }

  /** The machine's export records, without those of a live capture whose guest has ended: it took them along. */
  async #records(spec: KeptSpec): Promise<ExportRecords> {
    const records = new ExportRecords(this.#folders.path(spec.id))
    if (await this.#guests.isRunning(spec.id)) return records
    for (const record of await records.list()) {
      if (record.how === 'live')
        await this.#live.close(spec, record.key, 'given-up', records, new AbortController().signal)
    }
    return records
  }
}

function ended(id: MachineId, how: 'stopped' | 'removed'): Fault {
  return new Fault('conflict', `Machine '${id}' was ${how} before its disks could be captured.`, {
    subject: 'machine',
  })
}
