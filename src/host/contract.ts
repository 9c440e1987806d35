import type { DiskBus, Firmware } from '../image/config.ts'
import type { Consistency, WantedConsistency } from '../image/consistency.ts'
import type { DiskId, MachineId } from '../image/ids.ts'
import type { OsType } from '../image/image.ts'

export type { DiskBus, Firmware } from '../image/config.ts'
export type { Consistency, WantedConsistency } from '../image/consistency.ts'

/** One disk of a machine. The first disk of a machine is its system disk. */
export interface MachineDisk {
  readonly id: DiskId
  /** A multiple of 512. May be larger than the image behind it: the rest reads as zeroes. */
  readonly sizeBytes: number
  readonly bus: DiskBus
  /** The NBD export that holds the image's content, absent for an empty disk. */
  readonly base?: { readonly socketPath: string; readonly exportName: string; readonly sizeBytes: number }
}

/** Everything a driver needs to make a machine; the same spec twice is the same machine. */
export interface MachineSpec {
  readonly id: MachineId
  readonly name: string
  readonly cpuCount: number
  readonly memoryBytes: number
  readonly firmware: Firmware
  readonly disks: readonly MachineDisk[]
}

/** 'absent': the driver knows nothing of it. 'stopped': its disks are there, no guest runs. */
export type MachinePower = 'absent' | 'stopped' | 'running'

/** What is to be exported, and what for. */
export interface ExportRequest {
  /** Of the machine's disks, each once; the exports come in this order. All of them are of one moment. */
  readonly diskIds: readonly DiskId[]
  /**
   * By disk id: the key of an earlier capture, closed as 'taken', whose content of this disk the caller still has, so
   * that only what changed since needs to be read.
   */
  readonly since: Readonly<Record<string, string>>
  /**
   * 'crash' asks nothing of the guest; else its agent is asked to freeze the file systems over the moment. A level that
   * cannot be had is Fault 'conflict' (subject 'machine', reason 'consistency') saying why, and nothing is left.
   */
  readonly consistency: WantedConsistency
}

/**
 * A meta context of an NBD export whose status tells runs of a disk apart: those whose status is a number from 1 to
 * `most` may differ from a known content, all others are surely equal to it. Source: QEMU 7.2, docs/interop/nbd.txt
 * ('qemu:dirty-bitmap:NAME': 1 is dirty; 'qemu:allocation-depth': the layer that holds a run, 1 the uppermost).
 */
export interface ChangeContext {
  readonly name: string
  readonly most: number
}

export interface ExportedDisk {
  readonly id: DiskId
  readonly sizeBytes: number
  readonly socketPath: string
  readonly exportName: string
  /**
   * The export on the same socket whose block status tells what is zero; often `exportName` itself. Where it is
   * another one, a run is zero only if this export calls it zero twice in a row, and the snapshot held only if a
   * read from `exportName` still succeeds after the last status was asked. Contexts below are of this export too, and
   * under the same rules: a run is unchanged only if it is called so twice.
   */
  readonly mapName: string
  /** What may have changed since the capture that `since` named; absent where that is not known for certain. */
  readonly changes?: ChangeContext
  /** Why `changes` is absent although `since` named a capture, for people; '' otherwise. */
  readonly changesWhy: string
  /** What the machine itself may have written over its base, since it was made; absent where that cannot be told. */
  readonly own?: ChangeContext
}

/** Read-only NBD exports of disks of one machine, all at one moment. */
export interface DiskExports {
  readonly disks: readonly ExportedDisk[]
  readonly consistency: Consistency
  /** Why it is not more than that, for people; '' where it is the most there is. */
  readonly consistencyWhy: string
  /** How long the guest stood still, in milliseconds; 0 for a stopped machine. */
  readonly pausedMs: number
  /** How long its file systems were frozen; 0 if they were not. */
  readonly frozenMs: number
  /** The operating system as the guest's agent tells it. */
  readonly os?: { readonly type: OsType; readonly name: string }
  /**
   * 'same': the exports of an earlier call with this key were still there, so the moment is the earlier one.
   * 'new': the moment is now, and what was read before under this key is void.
   */
  readonly moment: 'same' | 'new'
}

/** What one disk of a machine is made of now. */
export interface DiskLayers {
  /** The export under the machine's own layer, by its name; '' where there is none. */
  readonly baseName: string
  /** How often the disk was replaced. */
  readonly replacedCount: number
}

/** What can be had of a machine as it is now. */
export interface Outlook {
  readonly power: MachinePower
  readonly consistency: Consistency
  /** Why it is not more than that, for people; '' where it is the most there is. */
  readonly consistencyWhy: string
}

/** A machine that was put there by the operator, not through `ensureMachine`. Its first disk is the system disk. */
export interface FoundMachine {
  readonly id: MachineId
  readonly name: string
  readonly disks: readonly { readonly id: DiskId; readonly sizeBytes: number }[]
}

/** A piece of what a guest said: `bytes` from byte `fromByte` of all it ever said. */
export interface ConsoleText {
  readonly fromByte: number
  readonly bytes: Buffer
}

/** The most that one `readConsole` answers. */
export const CONSOLE_ANSWER_BYTES_MAX = 256 * 1024
/** So much of the newest that a guest said is kept. */
export const CONSOLE_KEPT_BYTES = 16 * 1024 * 1024

/**
 * The hypervisor. Every implementation passes `hostSuite`. All calls may run twice; none needs memory of an earlier
 * process: a new driver over the same folder finds the machines of the old one, running guests included.
 * Faults: 'absent' for an unknown machine, 'conflict' for a wrong power state, 'full' for no space, 'unavailable'
 * for a hypervisor that does not answer.
 */
export interface Host {
  readonly traits: {
    readonly name: 'qemu' | 'files' | 'simulated'
    /** Whether guests can be started at all. */
    readonly starts: boolean
    /** Every machine has a serial console. */
    readonly hasConsole: boolean
  }
  /** Makes the machine's disks, not started. A machine that is there already is left as it is. */
  ensureMachine(spec: MachineSpec, signal: AbortSignal): Promise<void>
  /** Starts the guest; a running one is left alone. Fault 'invalid' where `traits.starts` is false. */
  ensureStarted(id: MachineId, signal: AbortSignal): Promise<void>
  /**
   * Stops the guest: 'graceful' presses the power button and waits up to `graceMs`, then pulls the plug;
   * 'power' pulls it at once. A stopped one is left alone.
   */
  ensureStopped(id: MachineId, how: 'graceful' | 'power', signal: AbortSignal): Promise<void>
  /**
   * Stops the guest and removes its disks and everything else of it. An absent machine is no fault, nor is one whose
   * record is damaged.
   */
  ensureGone(id: MachineId, signal: AbortSignal): Promise<void>
  power(id: MachineId): Promise<MachinePower>
  /** All machines the driver holds, also those whose records cannot be read. */
  list(): Promise<MachineId[]>
  /** Those of them that are the operator's own; one whose disks cannot be used is left out. */
  found(): Promise<FoundMachine[]>
  /** What a capture of this machine could have now. Asks the guest's agent, if there is one, and changes nothing. */
  outlook(id: MachineId, signal: AbortSignal): Promise<Outlook>
  /**
   * Opens disks for a capture known by `key` (letters and digits). A running guest is paused for milliseconds
   * and goes on; a stopped machine cannot be started until `closeExports`. A second call with the same key and request
   * finds the same exports if they live, else makes new ones. Faults also: 'conflict' reason 'capturing' under another
   * open key, reason 'consistency' as the request says; 'full'.
   */
  openExports(id: MachineId, key: string, request: ExportRequest, signal: AbortSignal): Promise<DiskExports>
  /**
   * Takes everything of `openExports` away from the machine, also what a crash left. May be called for nothing, and
   * again. 'taken': the caller has the content of the disks of the request for good, so from now on `since` may name
   * this key, and only it, for these disks; of one whose content he has not he never names it. 'given-up': as if it had never been opened; what could be told since an
   * earlier key can be told still.
   */
  closeExports(id: MachineId, key: string, outcome: 'taken' | 'given-up'): Promise<void>
  /**
   * The disk with this id has other content from now on: that of `disk.base`, or zeroes, with nothing of its own over
   * it. In one step, which a crash leaves undone or done. Fault 'conflict' unless the machine is stopped and not being
   * captured; 'absent' for an unknown disk.
   */
  replaceDisk(id: MachineId, disk: MachineDisk, signal: AbortSignal): Promise<void>
  /** By disk id, what the host itself knows of the disks: it may have outlived the catalog that is asked now. */
  layers(id: MachineId): Promise<Readonly<Record<string, DiskLayers>>>
  /**
   * What the guest's serial console said from byte `fromByte` of all it ever said: at most CONSOLE_ANSWER_BYTES_MAX, so
   * ask again from where the answer ends; empty if nothing is new. Only the newest CONSOLE_KEPT_BYTES are sure to be
   * there: where `fromByte` is older, the answer starts later and says where.
   */
  readConsole(id: MachineId, fromByte: number): Promise<ConsoleText>
  /** Types into the serial console. Fault 'conflict' unless the guest runs. */
  writeConsole(id: MachineId, bytes: Uint8Array): Promise<void>
  /** Lets go of sockets and helper processes of this driver, never of guests. */
  close(): Promise<void>
}
