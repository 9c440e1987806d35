import type { InspectionOptions, Packing } from '../disk/formats/contract.ts'
import type { SignedReport } from '../image/cleaning.ts'
import type { DiskBus } from '../image/config.ts'
import type { Digest, DomainId, PageId, RegionId } from '../image/ids.ts'
import type { Checksum } from '../image/imported.ts'
import type { UnpackLimits } from '../intake/contract.ts'
import type { GcReport } from '../store/gc.ts'
import type { SessionRow } from '../store/journal.ts'
import type { RebuildReport } from '../store/rebuild.ts'
import type { RefInput } from '../store/refs.ts'
import type { RepairReport } from '../store/repair.ts'
import type { ScrubReport } from '../store/scrub.ts'
import type { RegionUsage } from '../store/usage.ts'
import type {
  BlobJob,
  BlobMap,
  BlobWriter,
  BundleFacts,
  BundleJob,
  ExportJob,
  FilePlace,
  OpenFile,
} from './file-words.ts'
import type {
  CapturePlan,
  CollectJob,
  ComposedImage,
  ComposeJob,
  DiskPlan,
  ImageFacts,
  MovedBytes,
  OnBytes,
  PullEstimate,
  PulledBytes,
  PullJob,
  RegionSurvey,
  RekeyJob,
  ScrubJob,
  VerifyReport,
  WriteJob,
  WrittenImage,
} from './store-words.ts'

export type { GcItem, GcReport } from '../store/gc.ts'
export type { RefInput } from '../store/refs.ts'
export type { RegionUsage } from '../store/usage.ts'
export type * from './file-words.ts'
export type * from './store-words.ts'

/**
 * The work on bytes, done in worker threads: the thread that answers requests never hashes, compresses or copies.
 * Jobs of one session may run again after a crash, and never twice at once.
 */
export interface StoreJobs {
  /**
   * Before anything else, once in the life of the process: takes away what a crash left half written, and makes an
   * index anew that is missing; ends what collections and repairs of the process before had begun.
   */
  prepare(): Promise<void>
  /** Our NBD server over the images of all regions, up when this resolves. */
  serve(): Promise<void>
  /** Sizes of an image's disks. Fault 'absent' 'image' if the region does not hold it. */
  diskSizes(regionId: RegionId, digest: Digest): Promise<readonly number[]>
  /** Whose keys an image's chunks are made with. Same fault. */
  domainOf(regionId: RegionId, digest: Digest): Promise<DomainId>
  /** The report of the cleaning that an image came of, if any. Same fault; 'corrupt' if it is damaged. */
  report(regionId: RegionId, digest: Digest): Promise<SignedReport | undefined>
  /** Reads disks into an image of the region. Faults: 'full', 'unavailable', 'corrupt'. */
  write(job: WriteJob, onBytes: OnBytes, signal: AbortSignal): Promise<readonly WrittenImage[]>
  /** As `write`, of what the region holds already. Fault 'absent' 'image' if a disk's image is gone. */
  compose(job: ComposeJob, signal: AbortSignal): Promise<ComposedImage>
  /** Reads as `write` would, and writes nothing: what is new to the region. Same faults. */
  plan(
    job: Pick<WriteJob, 'regionId' | 'domain' | 'disks'>,
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<CapturePlan>
  /**
   * Fetches an image from another region, of ours or of a peer. Run again with the session of one that was broken off it
   * goes on with what is missing. Same faults, and 'absent' 'image'; 'absent' 'peer'; 'denied' 'peer'.
   */
  pull(job: PullJob, onBytes: OnBytes, signal: AbortSignal): Promise<PulledBytes>
  /** What `pull` would move, looked up in maps and indexes alone. Same faults. */
  planPull(
    job: Pick<PullJob, 'source' | 'targetRegionId' | 'digest' | 'diskSizesBytes'> & {
      readonly sessionId?: string
    },
    signal: AbortSignal,
  ): Promise<PullEstimate>
  /** An image of the same disks in another domain, in any region. `movedBytes` are those read. Same faults. */
  rekey(job: RekeyJob, onBytes: OnBytes, signal: AbortSignal): Promise<WrittenImage>
  /** Removes what an unfinished session wrote. An unknown or a committed session is no fault. */
  abort(regionId: RegionId, sessionId: string): Promise<void>
  verify(regionId: RegionId, deep: boolean, onBytes: OnBytes, signal: AbortSignal): Promise<VerifyReport>
  /**
   * Writes disk `diskIndex` of an image to a new sparse raw file, whose name `path` appears when all of it is checked and
   * durable. Faults: 'absent' 'image'; 'conflict' if there is such a file; 'corrupt' naming the byte; 'full'.
   */
  restore(
    regionId: RegionId,
    digest: Digest,
    diskIndex: number,
    path: string,
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<void>
  /** What reading these disks would mean, without reading them. Faults: 'unavailable', 'absent' 'image' of a baseline. */
  measure(
    job: Pick<WriteJob, 'regionId' | 'domain' | 'disks'>,
    signal: AbortSignal,
  ): Promise<readonly DiskPlan[]>
  /** Free bytes where the region's objects are; undefined where nobody can say, as in a bucket. */
  freeBytes(regionId: RegionId): Promise<number | undefined>
  /** Makes or changes what a holder needs, durable when it resolves. Fault 'absent' 'image' if one is not there. */
  refer(regionId: RegionId, ref: RefInput & { readonly digests: readonly Digest[] }): Promise<void>
  /** The holder needs nothing any more. An unknown one is no fault. */
  release(regionId: RegionId, holder: string): Promise<void>
  refs(
    regionId: RegionId,
  ): Promise<readonly { readonly holder: string; readonly digests: readonly Digest[] }[]>
  sessions(regionId: RegionId): Promise<readonly SessionRow[]>
  /** Removes what nobody needs, or says on paper what that would be. One at a time for each region. */
  collect(regionId: RegionId, job: CollectJob, onBytes: OnBytes, signal: AbortSignal): Promise<GcReport>
  /** Reads every pack again at a rate and notes what is damaged. */
  scrub(regionId: RegionId, job: ScrubJob, onBytes: OnBytes, signal: AbortSignal): Promise<ScrubReport>
  /** Mends what is noted as damaged from the other regions. */
  repair(regionId: RegionId, signal: AbortSignal): Promise<RepairReport>
  usage(regionId: RegionId, signal: AbortSignal): Promise<RegionUsage>
  /** `listener` is told of a region in which a reader met a bad chunk, so that somebody repairs it. */
  onDamage(listener: (regionId: RegionId) => void): void
  /** What the region's objects say by themselves, for a catalog that is lost. Reads, and changes nothing. */
  survey(regionId: RegionId, onBytes: OnBytes, signal: AbortSignal): Promise<RegionSurvey>
  /** Makes the region's index anew; nothing else may use the region meanwhile. `onPack` is told the packs so far. */
  rebuildIndex(
    regionId: RegionId,
    onPack: (packCount: number) => void,
    signal: AbortSignal,
  ): Promise<RebuildReport>
  /**
   * Goes on with a blob behind its last checkpoint, in a thread that all blobs share. Fault 'unavailable' 'store' reason
   * 'busy' for too many at once; 'corrupt' where what was there is gone.
   */
  openBlob(job: BlobJob, signal: AbortSignal): Promise<BlobWriter>
  /** Inspects a file, and holds it open. Faults: those of an inspection; 'absent' 'file'; 'unavailable'. */
  openFile(
    place: FilePlace,
    options: Omit<InspectionOptions, 'signal'>,
    signal: AbortSignal,
  ): Promise<OpenFile>
  /**
   * What is packed in a file, as a new blob of the session, from the start. `allow` is asked before more is written than it
   * last answered, both counted in bytes that are not zero; what it throws ends the work. Faults: those of `Unpack`; 'full'.
   */
  unpack(
    place: FilePlace,
    packing: Packing,
    limits: UnpackLimits,
    job: BlobJob,
    tell: { readonly onBytes: OnBytes; allow(dataBytes: number): Promise<number> },
    signal: AbortSignal,
  ): Promise<BlobMap>
  /** SHA-256 and whatever else is asked for of a whole file, in hex. */
  checksums(
    place: FilePlace,
    algorithms: readonly Checksum['algorithm'][],
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<Readonly<Partial<Record<Checksum['algorithm'], string>>>>
  /** An image of one disk whose bytes a blob of the same session is. No byte is moved. */
  takeBlob(
    job: ImageFacts & {
      readonly regionId: RegionId
      readonly sessionId: string
      readonly domain: DomainId
      readonly map: BlobMap
      readonly bus: DiskBus
    },
    signal: AbortSignal,
  ): Promise<WrittenImage>
  /** The size of an exported file. Faults: 'absent' 'image', 'absent' 'disk'. */
  exportSize(job: ExportJob, signal: AbortSignal): Promise<number>
  /**
   * Bytes [offset, offset + lengthBytes) of an exported file, or all of it packed; each piece is good until the next one is
   * asked for. With `sha256` their digest, before the first of them comes; then at most 32 MiB. Leaving it early ends the
   * work. Faults while it is read: 'corrupt', 'unavailable'.
   */
  exportBytes(
    job: ExportJob,
    what:
      | {
          readonly is: 'range'
          readonly offset: number
          readonly lengthBytes: number
          readonly sha256: boolean
        }
      | { readonly is: 'packed' },
    signal: AbortSignal,
  ): Promise<{ readonly sha256: Buffer | undefined; readonly body: AsyncIterable<Uint8Array> }>
  /** Makes all of an exported file once, for its digest. `doneBytes` counts its bytes. */
  digestExport(
    job: ExportJob,
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<{ readonly sizeBytes: number; readonly sha256: string }>
  /** A bundle of an image, signed with the installation's key. Faults while it is read: 'corrupt', 'unavailable'. */
  bundle(job: BundleJob, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** The map pages that these images are made of. */
  pagesOf(regionId: RegionId, digests: readonly Digest[]): Promise<readonly PageId[]>
  /**
   * What a bundle for this installation has in it. `signers`: hex of the Ed25519 keys that are believed beside its own.
   * Faults: 'invalid' 'file' for what is no such bundle, or not for us; 'denied' 'file' reason 'signer'.
   */
  readBundle(place: FilePlace, signers: readonly string[], signal: AbortSignal): Promise<BundleFacts>
  /**
   * Takes an image out of a bundle, everything checked again, as `pull` does from a region. Faults as of `readBundle` and
   * `pull`; 'conflict' 'file' where chunks are neither in the bundle nor here.
   */
  pullBundle(
    job: {
      readonly place: FilePlace
      readonly signers: readonly string[]
      readonly regionId: RegionId
      readonly sessionId: string
      readonly ref: RefInput
    },
    onBytes: OnBytes,
    signal: AbortSignal,
  ): Promise<MovedBytes>
  close(): Promise<void>
}
