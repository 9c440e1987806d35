import type { ChangeContext } from '../host/contract.ts'
import type { CleaningSummary, SignedReport } from '../image/cleaning.ts'
import type { DiskBus, MachineConfig } from '../image/config.ts'
import type { Consistency } from '../image/consistency.ts'
import type { CopySource } from '../image/copy.ts'
import type { Digest, DomainId, RegionId } from '../image/ids.ts'
import type { RefInput } from '../store/refs.ts'

/** Committed bytes of work: done, to do as far as known, moved from elsewhere, and not moved because they were there. */
export type OnBytes = (bytes: {
  doneBytes: number
  totalBytes: number
  movedBytes: number
  savedBytes?: number
}) => void

/** A disk to read: an NBD export, and what the image object says of it. */
export interface SourceDisk {
  readonly sizeBytes: number
  readonly bus: DiskBus
  readonly socketPath: string
  readonly exportName: string
  /** The export that tells what is zero; the rules for another one than `exportName` are in the host's contract. */
  readonly mapName: string
  /** The same bytes as a raw file that this process holds open, where there is one: read in place of the export. */
  readonly rawDescriptor?: number
  /** A content in the region from which the disk can differ only where `changes` of the export `mapName` says so. */
  readonly baseline?: DiskContent & { readonly changes: ChangeContext | 'nothing' }
  /**
   * The disk as it is to be taken in: what `changes` of this export calls changed differs from what is told above, and all is
   * read from here.
   */
  readonly cleaned?: {
    readonly socketPath: string
    readonly exportName: string
    readonly changes: ChangeContext
  }
}

/** One disk of an image that the region holds. */
export interface DiskContent {
  readonly digest: Digest
  readonly diskIndex: number
}

/** Everything of an image but its disks' content and the consistency. */
export interface ImageFacts {
  readonly config: MachineConfig
  readonly os: { readonly type: 'linux' | 'windows' | 'other'; readonly name: string }
  readonly parent: Digest | undefined
  /** Who needs the image: made in the commit of the image itself. */
  readonly ref: RefInput
  /** Of the cleaning of its disks. */
  readonly report?: SignedReport
}

export interface WriteJob {
  readonly regionId: RegionId
  /** The task's id: a second run of the job finds what the first one made durable. */
  readonly sessionId: string
  readonly domain: DomainId
  readonly disks: readonly SourceDisk[]
  /** The images to make of the disks, all in one commit. `disks`: positions in the list above, the system disk first. */
  readonly images: readonly (ImageFacts & { readonly disks: readonly number[] })[]
  readonly consistency: Consistency
}

/** An image of disks that the region holds already, in this order; no byte is read. */
export interface ComposeJob extends Omit<ImageFacts, 'parent' | 'report'> {
  readonly regionId: RegionId
  readonly sessionId: string
  readonly domain: DomainId
  /** `dataBytes`: not zero, as whoever made the disk's image was told. */
  readonly disks: readonly (DiskContent & { readonly bus: DiskBus; readonly dataBytes: number })[]
  readonly consistency: Consistency
}

/** What is known of an image whose bytes are durable and whose object is committed to its region's store. */
export interface WrittenImage {
  readonly digest: Digest
  /** Not zero, as a guest sees it, of each disk and of all. */
  readonly diskDataBytes: readonly number[]
  readonly dataBytes: number
  /** Read from the source for each disk. */
  readonly diskReadBytes: readonly number[]
  /** Added to the region's store; where one job makes several images, the first is told all of it. */
  readonly storedBytes: number
  /** Read from the source, or fetched from the other region: its disks' share. */
  readonly movedBytes: number
}

/** `parent`: that of the image that the system disk is of. */
export interface ComposedImage extends WrittenImage {
  readonly parent: Digest | undefined
}

/** What reading a disk would mean. */
export interface DiskPlan {
  /** What has to be read. */
  readonly readBytes: number
  /** What the image will hold at most: not known to be zero. */
  readonly dataBytes: number
}

/** `newBytes`: of the chunks that the region does not hold, each counted once, before compression. */
export interface CapturePlan {
  readonly disks: readonly DiskPlan[]
  readonly newBytes: number
}

export type MovedBytes = Pick<WrittenImage, 'storedBytes' | 'movedBytes'>

export interface PulledBytes extends MovedBytes {
  /** Stored bytes that the target had already. */
  readonly savedBytes: number
  /** Not zero, found out of the maps of a peer's image; absent for one of our own, of which it is known. */
  readonly dataBytes?: number
}

export interface PullJob {
  readonly source: CopySource
  readonly targetRegionId: RegionId
  readonly sessionId: string
  readonly digest: Digest
  /** Who needs the copy: made in its commit. */
  readonly ref: RefInput
  /** This copy alone; the regions have limits of their own. */
  readonly bytesPerSecond?: number
  /** The disks of a peer's image, as its row has them: Fault 'corrupt' 'peer' for a content that has others. */
  readonly diskSizesBytes?: readonly number[]
  /** Others copy the same image at the same time: what is read of the source is kept for them for a while. */
  readonly isShared: boolean
}

/** As a pull, but written anew with the keys of `domain`. */
export interface RekeyJob extends Omit<PullJob, 'isShared'> {
  readonly domain: DomainId
}

/** What a pull would do. Stored bytes; map pages are among them. */
export interface PullEstimate {
  readonly missingBytes: number
  readonly savedBytes: number
  /** Moved by the session before it was interrupted. */
  readonly resumedBytes: number
  /** As of `PulledBytes`. */
  readonly dataBytes?: number
}

/** Something that is wrong; `image` with disk and byte where it is known which part of which image it hits. */
export interface RegionProblem {
  readonly message: string
  readonly image?: Digest
  readonly diskIndex?: number
  readonly offset?: number
}

export interface VerifyReport {
  readonly problems: readonly RegionProblem[]
  readonly imageCount: number
  readonly packCount: number
  readonly logicalBytes: number
  readonly storedBytes: number
}

export interface CollectJob {
  readonly isDryRun: boolean
  /** How long what nobody needs is kept. */
  readonly graceMs: number
  /** Sessions that no task owns any more. */
  readonly deadSessions: readonly string[]
}

export interface ScrubJob {
  readonly bytesPerSecond?: number
  /** Packs that were verified less long ago are left out. */
  readonly olderThanMs?: number
}

/** A ref as the region's objects tell it, without any index or catalog; a damaged one as its name and why. */
export type FoundRef =
  | { readonly holder: string; readonly digests: readonly Digest[]; readonly label: unknown }
  | { readonly name: string; readonly message: string }

/** What the region holds of an image that refs name: checked down to its pages, or why it cannot be used. */
export type FoundImage =
  | {
      readonly diskBytes: readonly number[]
      readonly diskDataBytes: readonly number[]
      readonly dataBytes: number
      readonly buses: readonly DiskBus[]
      readonly config: MachineConfig
      readonly os: ImageFacts['os']
      readonly consistency: Consistency
      readonly parent: Digest | undefined
      readonly cleaning: CleaningSummary | undefined
    }
  | { readonly message: string }

export interface RegionSurvey {
  readonly refs: readonly FoundRef[]
  readonly images: ReadonlyMap<Digest, FoundImage>
}
