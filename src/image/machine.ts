import type { DiskBus, Firmware } from './config.ts'
import type { DiskId, ImageId, MachineId, ProjectId, RegionId } from './ids.ts'
import type { OsType } from './image.ts'

/**
 * creating → running ⇄ stopped, through starting and stopping; deleting ends in no machine at all. A machine that
 * could not be made is 'failed' and can only be deleted.
 */
export type MachineState =
  | 'creating'
  | 'starting'
  | 'running'
  | 'stopping'
  | 'stopped'
  | 'failed'
  | 'deleting'

export interface MachineDiskRecord {
  readonly id: DiskId
  readonly index: number
  readonly sizeBytes: number
  readonly bus: DiskBus
  /** The NBD export behind an overlay: image digest and the disk's index in it; absent for an empty disk. */
  readonly base: { readonly digest: string; readonly index: number } | undefined
  /** The cloud's word for the kind of disk, kept and shown, without effect here. */
  readonly category: string
}

/** A cloud computer: WUYING's desktop, UHost's instance. */
export interface Machine {
  readonly id: MachineId
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly zone: string
  readonly name: string
  readonly tag: string
  readonly labels: readonly { readonly key: string; readonly value: string }[]
  readonly state: MachineState
  /** Why it is 'failed', for people. */
  readonly reason: string
  readonly cpuCount: number
  readonly memoryBytes: number
  readonly firmware: Firmware
  readonly machineType: string
  /** The cloud's word for the size, kept and shown: WUYING's DesktopType, UHost's MachineType. */
  readonly typeName: string
  readonly imageId: ImageId
  readonly imageName: string
  readonly osType: OsType
  readonly osName: string
  /** The first is the system disk. */
  readonly disks: readonly MachineDiskRecord[]
  /** What a door was told and has to say again: office site, policy group, charge type, end users. */
  readonly details: Readonly<Record<string, unknown>>
  readonly createdAtMs: number
}
