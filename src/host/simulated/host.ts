import assert from 'node:assert/strict'
import { Fault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import {
  CONSOLE_ANSWER_BYTES_MAX,
  type ConsoleText,
  type DiskExports,
  type Host,
  type MachineDisk,
  type MachinePower,
  type MachineSpec,
} from '../contract.ts'
import { isExportKey } from '../tools/exports.ts'
import { checkSpec, machineAbsent } from '../tools/folders.ts'
import { SimulatedGuest } from './guest.ts'
import { SparseDisk } from './sparse-disk.ts'

/** The calls that `failNext` can make fail. */
export type HostCall = Exclude<keyof Host, 'traits' | 'close'>

/** A disk at one moment, to be served by whoever knows how. */
export interface ServedDisk {
  readonly machineId: MachineId
  readonly key: string
  readonly disk: MachineDisk
  readonly sizeBytes: number
  read(offset: number, lengthBytes: number): Promise<Uint8Array>
}

export interface Served {
  readonly socketPath: string
  readonly exportName: string
  close(): Promise<void>
}

interface SimulatedMachine {
  readonly spec: MachineSpec
  readonly disks: readonly SparseDisk[]
  console: Buffer
  guest: SimulatedGuest | undefined
  open: { key: string; exports: DiskExports; served: readonly Served[]; isStill: boolean } | undefined
}

/** Everything that outlives the process in the real world: machines, disks, running guests, open exports. */
export class SimulatedState {
  readonly machines = new Map<MachineId, SimulatedMachine>()
}

export interface SimulatedHostOptions {
  readonly state: SimulatedState
  serve(disk: ServedDisk): Promise<Served>
  readBase(base: NonNullable<MachineDisk['base']>, offset: number, lengthBytes: number): Promise<Uint8Array>
  /** How many `tick`s a guest needs to be up; 0 unless given. */
  readonly bootTicks?: number
  /** What `pausedMs` says of a running guest; 1 unless given. */
  readonly pausedMs?: number
}

/** A hypervisor without computers: deterministic, in this process, for tests. A new one over the same state adopts. */
export class SimulatedHost implements Host {
  readonly traits = { name: 'simulated', starts: true, hasConsole: true } as const
  readonly #options: SimulatedHostOptions
  readonly #machines: Map<MachineId, SimulatedMachine>
  readonly #faults = new Map<HostCall, Fault[]>()

  constructor(options: SimulatedHostOptions) {
    this.#options = options
    this.#machines = options.state.machines
  }

  /** The next such call fails with `fault` and changes nothing; told twice, the next two do. */
  failNext(call: HostCall, fault: Fault): void {
    this.#faults.set(call, [...(this.#faults.get(call) ?? []), fault])
  }

  /** Time passes: guests come nearer to being up. */
  tick(count = 1): void {
    for (let i = 0; i < count; i++) for (const machine of this.#machines.values()) machine.guest?.tick()
  }

  /** The hypervisor process ends by itself, as under `kill -9`; a live capture ends with it. */
  async crashGuest(id: MachineId): Promise<void> {
    await this.#off(this.#get(id))
  }

  /** The exports go away without `closeExports`, as when their server is killed. */
  async loseExports(id: MachineId): Promise<void> {
    const { open } = this.#get(id)
    for (const one of open?.served ?? []) await one.close()
    if (open !== undefined) open.served = []
  }

  async ensureMachine(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    this.#begin('ensureMachine', signal)
    checkSpec(spec)
    if (this.#machines.has(spec.id)) return
    const disks = spec.disks.map((disk) => this.#newDisk(disk))
    this.#machines.set(spec.id, { spec, disks, console: Buffer.alloc(0), guest: undefined, open: undefined })
  }

  async ensureStarted(id: MachineId, signal: AbortSignal): Promise<void> {
    this.#begin('ensureStarted', signal)
    const machine = this.#get(id)
    if (machine.guest !== undefined) return
    if (machine.open !== undefined) throw captured(id)
    const say = (text: string) => {
      machine.console = Buffer.concat([machine.console, Buffer.from(text, 'latin1')])
    }
    machine.guest = new SimulatedGuest(machine.disks, say, this.#options.bootTicks ?? 0)
  }

  async ensureStopped(id: MachineId, _how: 'graceful' | 'power', signal: AbortSignal): Promise<void> {
    this.#begin('ensureStopped', signal)
    await this.#off(this.#get(id))
  }

  async ensureGone(id: MachineId, signal: AbortSignal): Promise<void> {
    this.#begin('ensureGone', signal)
    const machine = this.#machines.get(id)
    if (machine === undefined) return
    await this.#off(machine)
    await closeAll(machine)
    this.#machines.delete(id)
  }

  async power(id: MachineId): Promise<MachinePower> {
    this.#begin('power')
    const machine = this.#machines.get(id)
    if (machine === undefined) return 'absent'
    return machine.guest === undefined ? 'stopped' : 'running'
  }

  async list(): Promise<MachineId[]> {
    this.#begin('list')
    return [...this.#machines.keys()].sort()
  }

  /** Every machine here was made by `ensureMachine`. */
  async found(): Promise<[]> {
    return []
  }

  async openExports(id: MachineId, key: string, signal: AbortSignal): Promise<DiskExports> {
    assert(isExportKey(key), 'an export key is letters and digits')
    this.#begin('openExports', signal)
    const machine = this.#get(id)
    if (machine.open !== undefined && machine.open.key !== key) throw captured(id)
    if (machine.open !== undefined && machine.open.served.length > 0)
      return { ...machine.open.exports, moment: 'same' }
    const isStill = machine.guest === undefined
    // All at one moment: no other work of this process can run between these snapshots.
    const moment = machine.disks.map((disk) => disk.snapshot())
    const served: Served[] = []
    try {
      for (const [index, disk] of machine.spec.disks.entries())
        served.push(await this.#options.serve(servedDisk(id, key, disk, moment[index])))
    } catch (error) {
      for (const one of served) await one.close()
      throw error
    }
    const disks = machine.spec.disks.map(({ id, sizeBytes }, index) => {
      const one = served[index]
      assert(one !== undefined)
      const { socketPath, exportName } = one
      return { id, sizeBytes, socketPath, exportName, mapName: exportName }
    })
    const pausedMs = isStill ? 0 : (this.#options.pausedMs ?? 1)
    const exports: DiskExports = { disks, consistency: 'crash', pausedMs, moment: 'new' }
    machine.open = { key, exports, served, isStill }
    return exports
  }

  async closeExports(id: MachineId, key: string): Promise<void> {
    assert(isExportKey(key), 'an export key is letters and digits')
    this.#begin('closeExports')
    const machine = this.#machines.get(id)
    if (machine?.open?.key === key) await closeAll(machine)
  }

  /** All of it is kept. */
  async readConsole(id: MachineId, fromByte: number): Promise<ConsoleText> {
    this.#begin('readConsole')
    const bytes = this.#get(id).console.subarray(fromByte, fromByte + CONSOLE_ANSWER_BYTES_MAX)
    return { fromByte, bytes: Buffer.from(bytes) }
  }

  async writeConsole(id: MachineId, bytes: Uint8Array): Promise<void> {
    this.#begin('writeConsole')
    const machine = this.#get(id)
    if (machine.guest === undefined)
      throw new Fault('conflict', `Machine '${id}' is not running, so nobody reads its console.`, {
        subject: 'machine',
      })
    await machine.guest.type(bytes)
    if (machine.guest.isOff) await this.#off(machine)
  }

  /** Guests and exports live in the state, so there is nothing to let go of. */
  async close(): Promise<void> {}

  #begin(call: HostCall, signal?: AbortSignal): void {
    signal?.throwIfAborted()
    const fault = this.#faults.get(call)?.shift()
    if (fault !== undefined) throw fault
  }

  #get(id: MachineId): SimulatedMachine {
    const machine = this.#machines.get(id)
    if (machine === undefined) throw machineAbsent(id)
    return machine
  }

  #newDisk(disk: MachineDisk): SparseDisk {
    const { base } = disk
    return new SparseDisk(disk.sizeBytes, base?.sizeBytes ?? 0, async (offset, lengthBytes) => {
      assert(base !== undefined, 'nothing is read under a disk without a base')
      return await this.#options.readBase(base, offset, lengthBytes)
    })
  }

  /** As with QEMU, exports of a running guest end with it. */
  async #off(machine: SimulatedMachine): Promise<void> {
    if (machine.guest === undefined) return
    machine.guest = undefined
    if (machine.open?.isStill === false) await closeAll(machine)
  }
}

function servedDisk(
  machineId: MachineId,
  key: string,
  disk: MachineDisk,
  moment: SparseDisk | undefined,
): ServedDisk {
  assert(moment !== undefined)
  const { sizeBytes } = disk
  return { machineId, key, disk, sizeBytes, read: (offset, count) => moment.read(offset, count) }
}

async function closeAll(machine: SimulatedMachine): Promise<void> {
  for (const one of machine.open?.served ?? []) await one.close()
  machine.open = undefined
}

function captured(id: MachineId): Fault {
  return new Fault('conflict', `Machine '${id}' is being captured. Wait until that has ended.`, {
    subject: 'machine',
    reason: 'capturing',
  })
}
