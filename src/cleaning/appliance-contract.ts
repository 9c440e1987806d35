import type { Edit, Run } from '../volume/contract.ts'

/** Of one appliance. */
export const APPLIANCE_VOLUME_COUNT_MAX = 24

/** An ext4 volume of one of the appliance's disks. */
export interface ApplianceVolume extends Run {
  readonly diskIndex: number
  /** Where the system has it: '/' first of its machine, '/home', …; '' for one that is mounted nowhere we know of. */
  readonly mountPoint: string
}

export interface ApplianceOptions {
  /** Private to this run; holds its orders, console and pid. Removed by the caller. */
  readonly folder: string
  /** Writable NBD exports; the appliance's disks in this order. */
  readonly disks: readonly {
    readonly sizeBytes: number
    readonly socketPath: string
    readonly exportName: string
  }[]
  readonly volumes: readonly ApplianceVolume[]
  readonly signal: AbortSignal
}

/**
 * A throw-away guest with our kernel and a few tools, without network, that changes ext4 with the system's own driver. It
 * starts once for all disks of a machine. Faults: 'conflict' 'volume' for a damaged or full file system or for work over the
 * limits, as a VolumeFault with the position in `volumes` where it is known; 'unavailable' for a missing kernel or tool, and
 * for disks that fail.
 */
export interface Appliance {
  /** From the start of its process to its first word. */
  readonly bootMs: number
  /** Versions of what is inside: kernel, e2fsprogs. */
  readonly tools: Readonly<Record<string, string>>
  /** By position in `volumes`: 'clean', or why the file system cannot be changed. Journals are replayed by now. */
  readonly checks: readonly ('clean' | string)[]
  /**
   * Carries edits out (`remove`, `empty`, `write`, `link`), the paths from the root of each volume. All of it is on the disks
   * when this resolves, and nothing is mounted any more.
   */
  apply(orders: readonly { readonly volume: number; readonly edits: readonly Edit[] }[]): Promise<void>
  /** Ends it, whatever it does. May be called again. */
  end(): Promise<void>
}

export type StartAppliance = (options: ApplianceOptions) => Promise<Appliance>
