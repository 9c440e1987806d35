import type { MachineConfig } from './config.ts'
import type { Consistency } from './consistency.ts'
import type { DiskId, ImageId, MachineId, ProjectId, RegionId, SnapshotId, SnapshotPolicyId } from './ids.ts'
import type { ImageDisk, ImageState, OsType } from './image.ts'

/** The content of one disk of one machine at one moment: in the store an image object of this one disk. */
export interface Snapshot {
  readonly id: SnapshotId
  readonly projectId: ProjectId
  readonly regionId: RegionId
  /** It may outlive its machine, and knows enough of it for images to be composed. */
  readonly machineId: MachineId
  readonly machineName: string
  readonly diskId: DiskId
  /** `index` as in the machine: 0 is the system disk. */
  readonly disk: ImageDisk
  readonly config: MachineConfig
  readonly osType: OsType
  readonly osName: string
  readonly name: string
  readonly description: string
  /** The user who asked for it. */
  readonly creator: string
  /** The policy that asked for it; undefined: a user did. */
  readonly policyId: SnapshotPolicyId | undefined
  /** The image it belongs to: it goes with that image, and not before. */
  readonly imageId: ImageId | undefined
  readonly state: ImageState
  readonly progressPermille: number
  /** Known once available. */
  readonly consistency: Consistency | undefined
  readonly dataBytes: number
  readonly storedBytes: number
  readonly movedBytes: number
  readonly createdAtMs: number
  readonly updatedAtMs: number
}

/** Snapshots by the clock: of these machines' disks, at the times of `cron`, the newest `keepCount` of each disk kept. */
export interface SnapshotPolicy {
  readonly id: SnapshotPolicyId
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly name: string
  /** Five fields: minute, hour, day of the month, month, day of the week. */
  readonly cron: string
  /** An IANA name, such as 'UTC' or 'Asia/Hong_Kong'. */
  readonly timeZone: string
  /** 1 to 1 000; those that its users made count not. */
  readonly keepCount: number
  readonly disks: 'system' | 'all'
  readonly machineIds: readonly MachineId[]
  readonly isEnabled: boolean
  /** The last time by its cron that was acted on; undefined before the first. */
  readonly lastDueAtMs: number | undefined
  /** When the newest snapshot of it became available. */
  readonly lastDoneAtMs: number | undefined
  /** When it last made none of a machine that it should have made one of, and why. */
  readonly lastFailedAtMs: number | undefined
  readonly lastReason: string | undefined
  readonly createdAtMs: number
}
