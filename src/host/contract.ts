import type { DiskId, MachineId } from '../image/ids.ts'

export type Firmware = 'bios' | 'uefi'
export type DiskBus = 'virtio-blk' | 'virtio-scsi'

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

/** What the disks of an export are worth: as after a power cut, or with file systems frozen by the guest agent. */
export type Consistency = 'crash' | 'filesystem'

/** Read-only NBD exports of all disks of one machine, all at one moment. */
export interface DiskExports {
  readonly disks: readonly {
    readonly id: DiskId
    readonly sizeBytes: number
    readonly socketPath: string
    readonly exportName: string
    /**
     * The export on the same socket whose block status tells what is zero; often `exportName` itself. Where it is
     * another one, a run is zero only if this export calls it zero twice in a row, and the snapshot held only if a
     * read from `exportName` still succeeds after the last status was asked.
     */
    readonly mapName: string
  }[]
  readonly consistency: Consistency
  /** How long the guest stood still, in milliseconds; 0 for a stopped machine. */
  readonly pausedMs: number
  /**
   * 'same': the exports of an earlier call with this key were still there, so the moment is the earlier one.
   * 'new': the moment is now, and what was read before under this key is void.
   */
  readonly moment: 'same' | 'new'
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
  /**
   * Opens the disks for a capture known by `key` (letters and digits). A running guest is paused for milliseconds
   * and goes on; a stopped machine cannot be started until `closeExports`. A second call with the same key finds
   * the same exports if they live, else makes new ones.
   */
  openExports(id: MachineId, key: string, signal: AbortSignal): Promise<DiskExports>
  /** Takes everything of `openExports` away from the machine, also what a crash left. May be called for nothing. */
  closeExports(id: MachineId, key: string): Promise<void>
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
