import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { isEnough } from '../../image/consistency.ts'
import { Fault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import {
  CONSOLE_ANSWER_BYTES_MAX,
  type ConsoleText,
  type DiskExports,
  type DiskLayers,
  type ExportedDisk,
  type ExportRequest,
  type Host,
  type MachineDisk,
  type MachinePower,
  type MachineSpec,
  type Outlook,
} from '../contract.ts'
import { isExportKey, notConsistent, requestedDisks } from '../tools/exports.ts'
import { checkSpec, diskAbsent, machineAbsent } from '../tools/folders.ts'
import { KeyedLock } from '../tools/keyed-lock.ts'
import { SimulatedGuest } from './guest.ts'
import { exportedDisk, type Served, type ServedDisk, servedDisk } from './served.ts'
import { SparseDisk } from './sparse-disk.ts'
import { TrackedDisk } from './tracked-disk.ts'
import { type LastEvent, type SimulatedAgent, worthOf } from './worth.ts'

/** The calls that `failNext` can make fail. */
export type HostCall = Exclude<keyof Host, 'traits' | 'close'>

interface SimulatedMachine {
  readonly disks: readonly TrackedDisk[]
  console: Buffer
  guest: SimulatedGuest | undefined
  agent: SimulatedAgent | undefined
  last: LastEvent | undefined
  open: OpenCapture | undefined
}

interface OpenCapture {
  readonly key: string
  readonly request: ExportRequest
  readonly exports: DiskExports
  readonly isStill: boolean
  served: readonly Served[]
}

/** Everything that outlives the process in the real world: machines, disks, running guests, open exports. */
export class SimulatedState {
  readonly machines = new Map<MachineId, SimulatedMachine>()
  readonly lock = new KeyedLock()
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
  readonly #lock: KeyedLock
  readonly #faults = new Map<HostCall, Fault[]>()

  constructor(options: SimulatedHostOptions) {
    this.#options = options
    this.#machines = options.state.machines
    this.#lock = options.state.lock
  }

  /** The next such call fails with `fault` and changes nothing; told twice, the next two do. */
  failNext(call: HostCall, fault: Fault): void {
    this.#faults.set(call, [...(this.#faults.get(call) ?? []), fault])
  }

  /** Time passes: guests come nearer to being up. */
  tick(count = 1): void {
    for (let i = 0; i < count; i++) for (const machine of this.#machines.values()) machine.guest?.tick()
  }

  /** What the guest's agent can do from now on, also after a restart; undefined takes it away. */
  setAgent(id: MachineId, agent: SimulatedAgent | undefined): void {
    this.#get(id).agent = agent
  }

  /**
   * The hypervisor process ends by itself, as under `kill -9`; a live capture ends with it, and the memory of what was
   * written since earlier ones.
   */
  async crashGuest(id: MachineId): Promise<void> {
    await this.#lock.run(id, async () => {
      const machine = this.#get(id)
      if (machine.guest === undefined) return
      await this.#off(machine, 'cut-off')
      for (const disk of machine.disks)
        disk.lose('The hypervisor was killed since that capture, so what it wrote is not known.')
    })
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
    this.#machines.set(spec.id, {
      disks: spec.disks.map((disk) => new TrackedDisk(disk, this.#newContent(disk))),
      console: Buffer.alloc(0),
      guest: undefined,
      agent: undefined,
      last: undefined,
      open: undefined,
    })
  }

  async ensureStarted(id: MachineId, signal: AbortSignal): Promise<void> {
    this.#begin('ensureStarted', signal)
    await this.#lock.run(id, async () => {
      const machine = this.#get(id)
      if (machine.guest !== undefined) return
      if (machine.open !== undefined) throw captured(id)
      const say = (text: string) => {
        machine.console = Buffer.concat([machine.console, Buffer.from(text, 'latin1')])
      }
      const contents = machine.disks.map((disk) => disk.content)
      machine.guest = new SimulatedGuest(contents, say, this.#options.bootTicks ?? 0)
    })
  }

  async ensureStopped(id: MachineId, how: 'graceful' | 'power', signal: AbortSignal): Promise<void> {
    this.#begin('ensureStopped', signal)
    const last = how === 'graceful' ? 'shut-down' : 'cut-off'
    await this.#lock.run(id, () => this.#off(this.#get(id), last))
  }

  async ensureGone(id: MachineId, signal: AbortSignal): Promise<void> {
    this.#begin('ensureGone', signal)
    await this.#lock.run(id, async () => {
      const machine = this.#machines.get(id)
      if (machine === undefined) return
      await this.#off(machine, 'cut-off')
      await close(machine, 'given-up')
      this.#machines.delete(id)
    })
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

  async outlook(id: MachineId, signal: AbortSignal): Promise<Outlook> {
    this.#begin('outlook', signal)
    const machine = this.#get(id)
    const { consistency, consistencyWhy } = worthOf(machine, 'best')
    return { power: machine.guest === undefined ? 'stopped' : 'running', consistency, consistencyWhy }
  }

  async openExports(
    id: MachineId,
    key: string,
    request: ExportRequest,
    signal: AbortSignal,
  ): Promise<DiskExports> {
    assert(isExportKey(key), 'an export key is letters and digits')
    this.#begin('openExports', signal)
    return await this.#lock.run(id, () => this.#open(id, key, request))
  }

  async #open(id: MachineId, key: string, request: ExportRequest): Promise<DiskExports> {
    const machine = this.#get(id)
    const { open } = machine
    if (open !== undefined && open.key !== key) throw captured(id)
    if (open !== undefined && open.served.length > 0 && isDeepStrictEqual(open.request, request))
      return { ...open.exports, moment: 'same' }
    await close(machine, 'given-up')
    const disks = requestedDisks(machine.disks, request)
    const worth = worthOf(machine, request.consistency)
    if (!isEnough(worth.consistency, request.consistency))
      throw notConsistent(request.consistency, worth.consistencyWhy)
    // All at one moment: no other work of this process can run between these.
    const moments = disks.map((disk) => disk.begin(key, request.since[disk.id]))
    const isStill = machine.guest === undefined
    const served: Served[] = []
    const exported: ExportedDisk[] = []
    try {
      for (const [index, { spec }] of disks.entries()) {
        const moment = moments[index]
        assert(moment !== undefined)
        const one = await this.#options.serve(servedDisk(id, key, spec, moment))
        served.push(one)
        exported.push(exportedDisk(key, spec, moment, one))
      }
    } catch (error) {
      for (const one of served) await one.close()
      for (const disk of disks) disk.end(key, 'given-up')
      throw error
    }
    const pausedMs = isStill ? 0 : (this.#options.pausedMs ?? 1)
    const exports: DiskExports = { disks: exported, ...worth, pausedMs, moment: 'new' }
    machine.open = { key, request, exports, served, isStill }
    return exports
  }

  async closeExports(id: MachineId, key: string, outcome: 'taken' | 'given-up'): Promise<void> {
    assert(isExportKey(key), 'an export key is letters and digits')
    this.#begin('closeExports')
    await this.#lock.run(id, async () => {
      const machine = this.#machines.get(id)
      if (machine?.open?.key === key) await close(machine, outcome)
    })
  }

  async replaceDisk(id: MachineId, disk: MachineDisk, signal: AbortSignal): Promise<void> {
    this.#begin('replaceDisk', signal)
    await this.#lock.run(id, async () => {
      const machine = this.#get(id)
      const replaced = machine.disks.find((one) => one.id === disk.id)
      if (replaced === undefined) throw diskAbsent(disk.id)
      if (machine.open !== undefined) throw captured(id)
      if (machine.guest !== undefined)
        throw new Fault('conflict', `Machine '${id}' is running. Stop it first.`, { subject: 'machine' })
      replaced.replace(disk, this.#newContent(disk))
      machine.last = 'replaced'
    })
  }

  async layers(id: MachineId): Promise<Readonly<Record<string, DiskLayers>>> {
    this.#begin('layers')
    const { disks } = this.#get(id)
    return Object.fromEntries(
      disks.map(({ id: diskId, spec, replacedCount }) => [
        diskId,
        { baseName: spec.base?.exportName ?? '', replacedCount },
      ]),
    )
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
    if (machine.guest.isOff) await this.#lock.run(id, () => this.#off(machine, 'shut-down'))
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

  #newContent(disk: MachineDisk): SparseDisk {
    const { base } = disk
    return new SparseDisk(disk.sizeBytes, base?.sizeBytes ?? 0, async (offset, lengthBytes) => {
      assert(base !== undefined, 'nothing is read under a disk without a base')
      return await this.#options.readBase(base, offset, lengthBytes)
    })
  }

  /** As with QEMU, exports of a running guest end with it. */
  async #off(machine: SimulatedMachine, how: 'shut-down' | 'cut-off'): Promise<void> {
    if (machine.guest === undefined) return
    machine.guest = undefined
    machine.last = how
    if (machine.open?.isStill === false) await close(machine, 'given-up')
  }
}

async function close(machine: SimulatedMachine, outcome: 'taken' | 'given-up'): Promise<void> {
  const { open } = machine
  if (open === undefined) return
  for (const one of open.served) await one.close()
  for (const disk of machine.disks) disk.end(open.key, outcome)
  machine.open = undefined
}

function captured(id: MachineId): Fault {
  return new Fault('conflict', `Machine '${id}' is being captured. Wait until that has ended.`, {
    subject: 'machine',
    reason: 'capturing',
  })
}
