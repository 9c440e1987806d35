import assert from 'node:assert/strict'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Fault, isFault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import type {
  DiskExports,
  DiskLayers,
  ExportRequest,
  FoundMachine,
  Host,
  MachineDisk,
  MachinePower,
  MachineSpec,
  Outlook,
} from '../contract.ts'
import { ExportRecords, isExportKey } from '../tools/exports.ts'
import { diskAbsent, type KeptSpec, layersOf, MachineFolders, machineAbsent } from '../tools/folders.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import { SOCKET_NAME_LONGEST, socketPath } from '../tools/sockets.ts'
import { madeDisk, type ServeRaw, type StillDisk, StillExports } from '../tools/still-exports.ts'
import { diskIdOf, findOperatorMachines, type OperatorMachine, readOperatorDisk } from './operator-disks.ts'

export interface FilesHostOptions {
  /** The operator's disk files, and the machines we make. */
  readonly directory: string
  /** Sockets; its path is at most 70 bytes long. */
  readonly runDirectory: string
  /** Without it, and without `qemu-nbd`, no disk can be read; with it, raw ones can. */
  readonly serveRaw?: ServeRaw
}

/** Where records about the operator's machines go: their own files and folders are never touched. */
const RECORDS = '.records'

/** Machines that are disk files and never run, for hosts without a hypervisor. Reading qcow2 needs `qemu-nbd`. */
export async function createFilesHost(options: FilesHostOptions): Promise<Host> {
  socketPath(options.runDirectory, SOCKET_NAME_LONGEST)
  await mkdir(options.runDirectory, { recursive: true, mode: 0o700 })
  return new FilesHost(options, await MachineFolders.open(options.directory))
}

/** What a machine is made of, whoever put it there. */
interface Held {
  readonly folder: string
  disks(): Promise<StillDisk[]>
  /** Those of them that were made by us. */
  readonly made: readonly StillDisk[]
  /** Why its disks are worth no more than after a power cut. */
  readonly crashWhy: string
  replace(disk: MachineDisk, signal: AbortSignal): Promise<void>
  remove(): Promise<void>
}

class FilesHost implements Host {
  readonly traits = { name: 'files', starts: false, hasConsole: false } as const
  readonly #folders: MachineFolders
  readonly #exports: StillExports
  readonly #lock = new KeyedLock()

  constructor(options: FilesHostOptions, folders: MachineFolders) {
    this.#folders = folders
    this.#exports = new StillExports(options.runDirectory, options.serveRaw)
  }

  ensureMachine(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    return this.#lock.run(spec.id, async () => {
      if ((await this.#find(spec.id)) === undefined) await this.#folders.ensure(spec, signal)
    })
  }

  async ensureStarted(id: MachineId): Promise<void> {
    await this.#get(id)
    throw new Fault('invalid', 'This host only keeps disk files; its machines are never started.', {
      subject: 'machine',
      reason: 'never-starts',
    })
  }

  async ensureStopped(id: MachineId): Promise<void> {
    await this.#get(id)
  }

  ensureGone(id: MachineId, signal: AbortSignal): Promise<void> {
    return this.#lock.run(id, async () => {
      signal.throwIfAborted()
      // By names alone: a machine whose records are damaged must be able to go.
      await this.#exports.closeAll(id)
      const given = (await this.#folders.has(id)) ? undefined : await this.#findGiven(id)
      await (given === undefined ? this.#folders.remove(id) : given.remove())
    })
  }

  async power(id: MachineId): Promise<MachinePower> {
    if (await this.#folders.has(id)) return 'stopped'
    return (await this.#findGiven(id)) === undefined ? 'absent' : 'stopped'
  }

  async list(): Promise<MachineId[]> {
    const theirs = await findOperatorMachines(this.#folders.directory)
    return [...(await this.#folders.list()), ...theirs.map((machine) => machine.id)]
  }

  async found(): Promise<FoundMachine[]> {
    const { directory } = this.#folders
    const machines: FoundMachine[] = []
    for (const { id, name, paths } of await findOperatorMachines(directory)) {
      const disks = await Promise.all(paths.map((path) => readOperatorDisk(directory, path))).catch(unusable)
      if (disks !== undefined)
        machines.push({ id, name, disks: disks.map(({ id, sizeBytes }) => ({ id, sizeBytes })) })
    }
    return machines
  }

  async outlook(id: MachineId, signal: AbortSignal): Promise<Outlook> {
    signal.throwIfAborted()
    const { crashWhy } = await this.#get(id)
    return { power: 'stopped', consistency: 'crash', consistencyWhy: crashWhy }
  }

  openExports(id: MachineId, key: string, request: ExportRequest, signal: AbortSignal): Promise<DiskExports> {
    assert(isExportKey(key), 'an export key is letters and digits')
    return this.#lock.run(id, async () => {
      signal.throwIfAborted()
      const held = await this.#get(id)
      const records = new ExportRecords(held.folder)
      await records.refuseOthers(id, key)
      const worth = { consistency: 'crash', consistencyWhy: held.crashWhy } as const
      return await this.#exports.open(id, key, request, await held.disks(), worth, records, signal)
    })
  }

  closeExports(id: MachineId, key: string, outcome: 'taken' | 'given-up'): Promise<void> {
    assert(isExportKey(key), 'an export key is letters and digits')
    return this.#lock.run(id, async () => {
      const held = await this.#find(id)
      // The operator's files are not looked at: one that cannot be read any more must not keep its export.
      if (held !== undefined)
        await this.#exports.close(key, outcome, held.made, new ExportRecords(held.folder))
    })
  }

  replaceDisk(id: MachineId, disk: MachineDisk, signal: AbortSignal): Promise<void> {
    return this.#lock.run(id, async () => {
      signal.throwIfAborted()
      const held = await this.#get(id)
      await new ExportRecords(held.folder).refuseAny(id)
      await held.replace(disk, signal)
    })
  }

  async layers(id: MachineId): Promise<Readonly<Record<string, DiskLayers>>> {
    const spec = await this.#folders.find(id)
    if (spec !== undefined) return layersOf(spec.disks)
    const disks = await (await this.#get(id)).disks()
    return Object.fromEntries(disks.map((disk) => [disk.id, { baseName: '', replacedCount: 0 }]))
  }

  async readConsole(id: MachineId): Promise<never> {
    await this.#get(id)
    throw noConsole()
  }

  async writeConsole(id: MachineId): Promise<void> {
    await this.#get(id)
    throw noConsole()
  }

  async close(): Promise<void> {
    await this.#lock.idle()
  }

  async #get(id: MachineId): Promise<Held> {
    const held = await this.#find(id)
    if (held === undefined) throw machineAbsent(id)
    return held
  }

  async #find(id: MachineId): Promise<Held | undefined> {
    const spec = await this.#folders.find(id)
    return spec === undefined ? await this.#findGiven(id) : this.#made(spec)
  }

  async #findGiven(id: MachineId): Promise<Held | undefined> {
    const theirs = await findOperatorMachines(this.#folders.directory)
    const machine = theirs.find((one) => one.id === id)
    return machine && this.#given(machine)
  }

  #made(spec: KeptSpec): Held {
    const made = spec.disks.map((disk) => madeDisk(disk, this.#folders.overlayPath(spec.id, disk)))
    return {
      folder: this.#folders.path(spec.id),
      disks: async () => made,
      made,
      crashWhy: 'No guest runs on this host, so none has put its disks in order.',
      replace: (disk, signal) => this.#folders.replaceDisk(spec.id, disk, signal),
      remove: () => this.#folders.remove(spec.id),
    }
  }

  #given(machine: OperatorMachine): Held {
    const { directory } = this.#folders
    const folder = join(directory, RECORDS, machine.id)
    return {
      folder,
      disks: () => Promise.all(machine.paths.map((path) => readOperatorDisk(directory, path))),
      made: [],
      crashWhy: 'Nobody here knows how the disk files were left by whoever wrote them last.',
      replace: async ({ id }) => {
        const paths = new Map(machine.paths.map((path) => [diskIdOf(directory, path), path]))
        const path = paths.get(id)
        if (path === undefined) throw diskAbsent(id)
        throw new Fault('conflict', `The disk file '${basename(path)}' is yours; copy over it yourself.`, {
          subject: 'disk',
          reason: 'operator-disk',
        })
      },
      remove: async () => {
        for (const path of machine.paths) await rm(path, { force: true })
        await removeIfEmpty(directory, machine)
        await rm(folder, { recursive: true, force: true })
      },
    }
  }
}

/** The operator's folder goes with its last disk, but not with anything else that lies in it. */
async function removeIfEmpty(directory: string, machine: OperatorMachine): Promise<void> {
  const parent = join(machine.paths[0] ?? directory, '..')
  if (parent !== directory && (await readdir(parent)).length === 0) await rm(parent, { recursive: true })
}

function unusable(error: unknown): undefined {
  if (!isFault(error)) throw error
}

function noConsole(): Fault {
  return new Fault('invalid', 'A machine of disk files has no console.', { subject: 'machine' })
}
