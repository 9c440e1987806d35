import type { CleaningSummary } from './cleaning.ts'
import type { DiskBus, MachineConfig } from './config.ts'
import type { Consistency } from './consistency.ts'
import type { Digest, ImageId, MachineId, ProjectId, RegionId, SnapshotId, TaskId } from './ids.ts'
import type { ImportFacts } from './imported.ts'

/** How an image came to be. It decides the word a door has for the time of making: UHost says Making or Copying. */
export type ImageOrigin = 'import' | 'capture' | 'copy' | 'compose' | 'clean'

/**
 * 'base' images are the operator's: every project sees them, nobody copies or deletes them through a cloud's door
 * (WUYING: SYSTEM, UHost: Base). 'custom' ones belong to a project.
 */
export type ImageKind = 'base' | 'custom'

export type OsType = 'Linux' | 'Windows'

/** I1: 'available' is written in the commit that makes every byte of the image durable and checked. */
export type ImageState =
  | { readonly at: 'creating'; readonly taskId: TaskId }
  | { readonly at: 'available'; readonly digest: Digest }
  | { readonly at: 'failed'; readonly reason: string }

export interface ImageDisk {
  readonly index: number
  readonly sizeBytes: number
  readonly bus: DiskBus
}

/** One image in one region of one project. Its content never changes (I4); its name and description may. */
export interface Image {
  readonly id: ImageId
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly kind: ImageKind
  readonly origin: ImageOrigin
  readonly name: string
  readonly description: string
  /** UHost's business group. */
  readonly tag: string
  /** Those of the machine when the image was made of it; a copy has its source's. */
  readonly labels: readonly { readonly key: string; readonly value: string }[]
  readonly osType: OsType
  readonly osName: string
  readonly state: ImageState
  /** Parts of 1 000 of the work done; rises only, 1 000 exactly when available (I8). */
  readonly progressPermille: number
  /** The first is the system disk. Known from the start: a capture knows its machine's disks. */
  readonly disks: readonly ImageDisk[]
  readonly config: MachineConfig
  /** Known once available; undefined for images of before it was written down. */
  readonly consistency: Consistency | undefined
  /** The digest of the image that the machine's system disk stood on, if it stood on one. */
  readonly parent: Digest | undefined
  /** What was taken out of it; undefined for an image that was never cleaned. A copy has its source's. */
  readonly cleaning: CleaningSummary | undefined
  /** Of one that was brought in as a file; undefined for any other. A copy has its source's. */
  readonly imported: ImportFacts | undefined
  /** Snapshots of data disks that were made with it and go with it. */
  readonly snapshotIds: readonly SnapshotId[]
  /** Bytes that are not zero, and bytes this image added to its region's store. Known once available. */
  readonly dataBytes: number
  readonly storedBytes: number
  /** Bytes that crossed from another region, or were read from a machine or file, to make it. */
  readonly movedBytes: number
  readonly sourceMachineId: MachineId | undefined
  readonly sourceImageId: ImageId | undefined
  readonly createdAtMs: number
  readonly updatedAtMs: number
}

/** Sum of the disks as a guest sees them. */
export function logicalBytes(image: Pick<Image, 'disks'>): number {
  return image.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0)
}

/** Why an image failed, for a cloud that has no field for it: in the place of a description, where nobody gave one. */
export function descriptionOrReason({ description, state }: Pick<Image, 'description' | 'state'>): string {
  return description === '' && state.at === 'failed' ? state.reason.slice(0, 255).toWellFormed() : description
}
