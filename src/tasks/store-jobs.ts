import type { Digest, DomainId, RegionId } from '../image/ids.ts'

/** Committed bytes of work: done, to do as far as known, and moved from elsewhere. */
export type OnBytes = (bytes: { doneBytes: number; totalBytes: number; movedBytes: number }) => void

/** A disk to read: an NBD export, and what the image object says of it. */
export interface SourceDisk {
  readonly sizeBytes: number
  readonly bus: 'virtio-blk' | 'virtio-scsi'
  readonly socketPath: string
  readonly exportName: string
  /** The export that tells what is zero; the rules for another one than `exportName` are in the host's contract. */
  readonly mapName: string
  /** The same bytes as a raw file of this machine, where there is one: read in place of the export. */
  readonly rawPath?: string
}

export interface WriteJob {
  readonly regionId: RegionId
  /** The task's id: a second run of the job finds what the first one made durable. */
  readonly sessionId: string
  readonly domain: DomainId
  /** The first is the system disk. */
  readonly disks: readonly SourceDisk[]
  readonly firmware: 'bios' | 'uefi'
  readonly os: { readonly type: 'linux' | 'windows' | 'other'; readonly name: string }
  readonly parent: Digest | undefined
  readonly consistency: 'crash' | 'filesystem'
}

/** What is known of an image whose bytes are durable and whose object is committed to its region's store. */
export interface WrittenImage {
  readonly digest: Digest
  /** Not zero, as a guest sees it. */
  readonly dataBytes: number
  /** Added to the region's store. */
  readonly storedBytes: number
  /** Read from the source, or fetched from the other region. */
  readonly movedBytes: number
}

export type MovedBytes = Pick<WrittenImage, 'storedBytes' | 'movedBytes'>

export interface PullJob {
  readonly sourceRegionId: RegionId
  readonly targetRegionId: RegionId
  readonly sessionId: string
  readonly digest: Digest
}

export interface VerifyReport {
  readonly problems: readonly string[]
  readonly imageCount: number
  readonly packCount: number
  readonly logicalBytes: number
  readonly storedBytes: number
}

/**
 * The work on bytes, done in worker threads: the thread that answers requests never hashes, compresses or copies.
 * Jobs of one session may run again after a crash, and never twice at once.
 */
export interface StoreJobs {
  /**
   * Before anything else, once in the life of the process: takes away what a crash left half written, and makes an
   * index anew that is missing.
   */
  prepare(): Promise<void>
  /** Our NBD server over the images of all regions, up when this resolves. */
  serve(): Promise<void>
  /** Sizes of an image's disks. Fault 'absent' 'image' if the region does not hold it. */
  diskSizes(regionId: RegionId, digest: Digest): Promise<readonly number[]>
  /** Reads disks into an image of the region. Faults: 'full', 'unavailable', 'corrupt'. */
  write(job: WriteJob, onBytes: OnBytes, signal: AbortSignal): Promise<WrittenImage>
  /** Fetches an image from another region. Same faults, and 'absent' 'image'. */
  pull(job: PullJob, onBytes: OnBytes, signal: AbortSignal): Promise<MovedBytes>
  /** Removes what an unfinished session wrote. An unknown or a committed session is no fault. */
  abort(regionId: RegionId, sessionId: string): Promise<void>
  verify(regionId: RegionId, deep: boolean, onBytes: OnBytes, signal: AbortSignal): Promise<VerifyReport>
  close(): Promise<void>
}
