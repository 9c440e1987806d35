import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import type { ConsoleText, DiskExports, Host, MachinePower, MachineSpec } from '../contract.ts'
import { ExportRecords, isExportKey } from '../tools/exports.ts'
import { MachineFolders, machineAbsent } from '../tools/folders.ts'
import { readOnlyTree } from '../tools/graph.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import { SOCKET_NAME_LONGEST, socketPath } from '../tools/sockets.ts'
import { StillExports } from '../tools/still-exports.ts'
import { chooseAcceleration, demandKvm, getQemuVersion } from './acceleration.ts'
import type { Acceleration } from './command-line.ts'
import { readConsoleLog, typeConsole } from './console.ts'
import { ensureVariables, getUefiFirmware } from './firmware.ts'
import { Guests } from './guests.ts'
import { LiveExports } from './live-exports.ts'
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
}

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
  readonly #live: LiveExports
  readonly #still: StillExports
  readonly #machineLock = new KeyedLock()
  readonly #consoleLock = new KeyedLock()
  readonly #uefiFolders: readonly string[]
  readonly #watch: Watch

  constructor(options: QemuHostOptions, folders: MachineFolders, acceleration: Promise<Acceleration>) {
    const { runDirectory, uefiFolders = ['/usr/share/OVMF'] } = options
    this.#options = options
    this.#folders = folders
    this.#acceleration = acceleration
    this.#uefiFolders = uefiFolders
    this.#guests = new Guests({ folders, runDirectory, uefiFolders, acceleration: () => acceleration })
    this.#live = new LiveExports(this.#guests, folders, runDirectory)
    this.#still = new StillExports(runDirectory)
    const { log } = options
    this.#watch = new Watch({ folders, guests: this.#guests, lock: this.#machineLock, log })
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
      const records = await this.#records(spec)
      if ((await records.list()).length > 0) {
        throw new Fault('conflict', `Machine '${id}' is being captured. Start it when that has ended.`, {
          subject: 'machine',
          reason: 'capturing',
        })
      }
      await this.#guests.start(spec, signal)
    })
  }

  async ensureStopped(id: MachineId, how: 'graceful' | 'power', signal: AbortSignal): Promise<void> {
    if (!(await this.#folders.has(id))) throw machineAbsent(id)
    // Outside the lock: whoever wants to pull the plug at once need not wait for the polite way.
    if (how === 'graceful') await this.#guests.pressPower(id, this.#options.graceMs, signal)
    await this.#machineLock.run(id, async () => {
      await this.#guests.kill(id)
      const spec = await this.#folders.find(id)
      if (spec !== undefined) await this.#records(spec)
    })
  }

  ensureGone(id: MachineId, signal: AbortSignal): Promise<void> {
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

  openExports(id: MachineId, key: string, signal: AbortSignal): Promise<DiskExports> {
    assert(isExportKey(key), 'an export key is letters and digits')
    return this.#machineLock.run(id, async () => {
      signal.throwIfAborted()
      const spec = await this.#folders.get(id)
      const records = await this.#records(spec)
      await records.refuseOthers(id, key)
      if (await this.#guests.isRunning(id)) return await this.#live.open(spec, key, records, signal)
      const disks = spec.disks.map((disk) => ({
        id: disk.id,
        sizeBytes: disk.sizeBytes,
        tree: readOnlyTree(disk, this.#folders.overlayPath(id, disk)),
      }))
      return await this.#still.open(id, key, disks, records, signal)
    })
  }

  closeExports(id: MachineId, key: string): Promise<void> {
    assert(isExportKey(key), 'an export key is letters and digits')
    return this.#machineLock.run(id, async () => {
      const spec = await this.#folders.find(id)
      if (spec === undefined) return
      const records = new ExportRecords(this.#folders.path(id))
      const record = await records.find(key)
      if (record?.how === 'live') await this.#live.close(spec, key, records)
      else if (record?.how === 'still') await this.#still.close(key, records)
    })
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

  /** The machine's export records, without those of a live capture whose guest has ended: it took them along. */
  async #records(spec: MachineSpec): Promise<ExportRecords> {
    const records = new ExportRecords(this.#folders.path(spec.id))
    if (await this.#guests.isRunning(spec.id)) return records
    for (const record of await records.list()) {
      if (record.how === 'live') await this.#live.close(spec, record.key, records)
    }
    return records
  }
}
