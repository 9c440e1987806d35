import type { CleaningReport, CleaningWish } from '../image/cleaning.ts'
import type { DiskBus } from '../image/config.ts'
import type { WantedConsistency } from '../image/consistency.ts'
import type { Digest, DiskId, ImageId, MachineId, ProjectId, RegionId, SnapshotId } from '../image/ids.ts'
import type { Image, ImageKind, OsType } from '../image/image.ts'
import type { MachineState } from '../image/machine.ts'
import type { Snapshot, SnapshotPolicy } from '../image/snapshot.ts'

/**
 * The project a call works in: `projectId` as the request named it, else undefined for the caller's default.
 * Fault 'absent' 'project' for an unknown one, 'denied' 'project' for one the caller has no right in.
 */
export interface InProject {
  readonly projectId?: ProjectId | undefined
}

export interface Page<Item> {
  readonly total: number
  readonly items: readonly Item[]
}

/** `offset` and `limit` count items in the list's own order: newest first. */
export interface Paging {
  readonly offset: number
  readonly limit: number
}

export interface ImageFilter extends InProject {
  readonly regionId: RegionId
  readonly ids?: readonly ImageId[]
  readonly kinds?: readonly ImageKind[]
  readonly states?: readonly Image['state']['at'][]
  readonly osType?: OsType
  readonly name?: string
  readonly tag?: string
}

export interface MachineFilter extends InProject {
  readonly regionId: RegionId
  readonly ids?: readonly MachineId[]
  readonly states?: readonly MachineState[]
  readonly imageIds?: readonly ImageId[]
  readonly zone?: string
  readonly name?: string
  readonly tag?: string
  /** Every one of these pairs is on the machine; a label without `value` matches any value. */
  readonly labels?: readonly { readonly key: string; readonly value?: string | undefined }[]
}

/** What a capture is asked for. */
export interface CaptureWish extends InProject {
  readonly regionId: RegionId
  readonly machineId: MachineId
  readonly name?: string | undefined
  readonly description?: string | undefined
  /** Absent: the machine's, if it has one. */
  readonly tag?: string | undefined
  readonly disks: 'system' | 'all'
  /**
   * Disks of the machine of which snapshots are made at the same moment, which then belong to the image; of the
   * disks in the image none (Fault 'invalid' 'disk' reason 'disk-twice'). Fault 'absent' 'disk'.
   */
  readonly linkedDiskIds?: readonly DiskId[] | undefined
  /** Absent: 'best'. A level that cannot be had is Fault 'conflict' 'machine' reason 'consistency'. */
  readonly consistency?: WantedConsistency | undefined
  /**
   * What of users' private data the image is made without; absent: the disks as they are. Not together with
   * `linkedDiskIds`, whose snapshots are of the disks as they are: Fault 'invalid' 'disk' reason 'clean-with-snapshots'.
   */
  readonly clean?: CleaningWish | undefined
}

/** The output of a 'plan-capture' task. */
export interface CaptureReport {
  readonly disks: readonly {
    readonly id: DiskId
    readonly index: number
    readonly sizeBytes: number
    readonly bus: DiskBus
    /** Null, here and below, where a blocker kept the disks from being looked at. */
    readonly readBytes: number | null
    /** How the disk would be read: what changed since the last capture, what the machine wrote over its image, or all. */
    readonly way: 'changes' | 'own' | 'all'
    readonly why: string
  }[]
  readonly logicalBytes: number
  readonly readBytes: number | null
  /** The most that the image and the snapshots with it will hold and be charged for. */
  readonly dataBytes: number | null
  /** New to the region's store, before compression. */
  readonly newBytes: number | null
  readonly consistency: string
  readonly consistencyWhy: string
  /** Null where it is not known, or there is none. */
  readonly freeBytes: number | null
  readonly quotaBytes: number | null
  readonly chargedBytes: number
  /** Why the capture would be refused or fail as things are; empty where it would go. */
  readonly blockers: readonly string[]
  /** What cleaning would take out; null where none was asked for or a blocker kept it from being looked at. */
  readonly cleaning: CleaningReport | null
}

export interface Ancestor {
  readonly id: ImageId | undefined
  readonly digest: Digest
  /** '' where nothing that the project may see has this content any more. */
  readonly name: string
}

export interface SnapshotFilter extends InProject {
  readonly regionId: RegionId
  readonly ids?: readonly SnapshotId[]
  readonly machineIds?: readonly MachineId[]
  readonly machineName?: string
  readonly name?: string
  readonly creator?: string
  readonly osType?: OsType
  readonly disk?: 'system' | 'data'
  readonly madeBy?: 'user' | 'policy'
  readonly states?: readonly Snapshot['state']['at'][]
  /** Made from this time on, and before that one. */
  readonly fromMs?: number
  readonly untilMs?: number
}

export type NewSnapshotPolicy = Pick<
  SnapshotPolicy,
  'name' | 'cron' | 'timeZone' | 'keepCount' | 'disks' | 'machineIds' | 'isEnabled'
>

export interface NewMachine extends InProject {
  readonly regionId: RegionId
  /** Absent: the region's first zone. Fault 'absent' 'zone' if it is not of the region. */
  readonly zone?: string | undefined
  readonly imageId: ImageId
  readonly name: string
  /** Names of several: NAME-0001, …; false gives all the same name. */
  readonly numberedNames: boolean
  readonly count: number
  /** Absent, here and below: as the image remembers it, else 1 and 512 MiB. */
  readonly cpuCount?: number | undefined
  readonly memoryBytes?: number | undefined
  readonly typeName: string
  /** Absent: as large as the image's. Fault 'invalid' reason 'disk-below-image' if smaller. */
  readonly systemDiskBytes?: number | undefined
  readonly systemDiskCategory: string
  /**
   * More disks behind those the image brings: empty ones, or with the content of a snapshot that is available in this
   * region and project, then at least as large (Fault 'invalid' 'disk' reason 'disk-below-image').
   */
  readonly dataDisks: readonly {
    readonly sizeBytes: number
    readonly category: string
    /** Absent: virtio-blk, or as the snapshot's disk was. */
    readonly bus?: DiskBus | undefined
    readonly snapshotId?: SnapshotId | undefined
  }[]
  readonly tag: string
  readonly labels: readonly { readonly key: string; readonly value: string }[]
  readonly details: Readonly<Record<string, unknown>>
}
