import type { DeclaredFormat } from '../disk/formats/contract.ts'
import type { ExportFormat } from '../disk/layouts/contract.ts'
import type { DiskBus, Firmware } from '../image/config.ts'
import type { ImageId, ProjectId, RegionId, TaskId } from '../image/ids.ts'
import type { ImageKind, OsType } from '../image/image.ts'
import type { Checksum } from '../image/imported.ts'
import type { RemoteSource } from '../intake/contract.ts'
import type { Caller } from './caller.ts'

/** What an image that is brought in as a file is to be. */
export interface ImportWish {
  readonly projectId?: ProjectId | undefined
  readonly regionId: RegionId
  readonly name: string
  readonly description?: string | undefined
  readonly tag?: string | undefined
  /** 'base' takes the right everywhere. */
  readonly kind: ImageKind
  /** Absent, here and below: as it is found, or told by an OVF; else Linux, '', bios. */
  readonly osType?: OsType | undefined
  readonly osName?: string | undefined
  readonly firmware?: Firmware | undefined
  /** Absent: virtio-blk. */
  readonly bus?: DiskBus | undefined
  /** What the file is, once unpacked: found to be anything else it is refused. Absent: what it is found to be. */
  readonly format?: DeclaredFormat | undefined
  readonly checksum?: Checksum | undefined
  /** Hex of the Ed25519 key whose bundles are believed, beside this installation's own and those of the settings. */
  readonly signer?: string | undefined
}

export type ImportFrom =
  /** A plain name in the import folder (settings: `importDirectory`). */
  { readonly is: 'file'; readonly fileName: string } | { readonly is: 'url'; readonly source: RemoteSource }

/** A file on its way to us, in parts that may come days apart. */
export interface Upload {
  /** 17 letters and digits. It names the upload to its owner, and opens nothing. */
  readonly id: string
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly name: string
  /** Undefined until its sender says it. */
  readonly lengthBytes: number | undefined
  /** Durable here, and never sent again. */
  readonly offsetBytes: number
  readonly state:
    | { readonly at: 'receiving' }
    /** All of it is here; the image's own state tells the rest. */
    | { readonly at: 'received'; readonly imageId: ImageId; readonly taskId: TaskId }
    | { readonly at: 'refused'; readonly reason: string }
  readonly createdAtMs: number
  /** When what came is taken away if no more comes. */
  readonly expiresAtMs: number
}

/** One request's part of an upload. */
export interface UploadPart {
  readonly offsetBytes: number
  /** As the request says; undefined for a stream of unknown length. */
  readonly partBytes: number | undefined
  /** The length of the whole, where it is told only now. */
  readonly lengthBytes?: number | undefined
  /** Of the part: where it is another, nothing of the part is kept. */
  readonly checksum?: { readonly algorithm: 'sha256' | 'sha1' | 'md5'; readonly bytes: Buffer } | undefined
  readonly body: AsyncIterable<Uint8Array>
}

export interface ExportWish {
  readonly projectId?: ProjectId | undefined
  readonly regionId: RegionId
  readonly imageId: ImageId
  readonly what:
    | {
        readonly is: 'disk'
        readonly diskIndex: number
        readonly format: ExportFormat
        readonly compress: 'zstd' | undefined
      }
    /** For another installation: `inventory` is the text that it gave of itself. */
    | { readonly is: 'bundle'; readonly inventory: string }
  /** Also reads all of it once, in a task, so that the download can tell its SHA-256 before the first byte. */
  readonly withDigest: boolean
}

/** A download that whoever has the token may make until it expires. */
export interface ExportLink {
  /** 256 random bits; the path of the native door is `/v1/downloads/TOKEN/FILENAME`. */
  readonly token: string
  readonly fileName: string
  /** Undefined where it is known only once it was made (compressed, bundle). */
  readonly sizeBytes: number | undefined
  readonly expiresAtMs: number
  /** Of a bundle: hex of the Ed25519 key that it is signed with, to be told to whoever takes it in. */
  readonly signer: string | undefined
  /** Where a digest was asked for: the task's output is `{ sizeBytes, sha256 }`, and the download waits for its end. */
  readonly taskId: TaskId | undefined
}

/** An exported file, or a range of it. */
export interface ExportFile {
  readonly fileName: string
  /** Of the whole; undefined where it is not known. Then there are no ranges. */
  readonly sizeBytes: number | undefined
  /** Strong: equal for equal bytes. */
  readonly etag: string
  /** SHA-256 of the whole file, where it is known. */
  readonly sha256: Buffer | undefined
  /** Which bytes `body` has; undefined for all of a file of unknown size. */
  readonly range: { readonly offset: number; readonly lengthBytes: number } | undefined
  /** SHA-256 of exactly `range`, where that is at most 32 MiB and the request wanted it. */
  readonly rangeSha256: Buffer | undefined
  /** Ends the work behind it when it is left early. */
  readonly body: AsyncIterable<Uint8Array>
}

/** Bringing files in and handing them out, beside `images.import`. */
export interface Transfers {
  readonly uploads: {
    /**
     * Room for a file, reserved from now on: its length is charged to the project. `token` is shown this once; whoever has
     * it may send parts. Faults: those of a wish; 'full' 'project' reason 'quota'; 'full' 'store' where the region has no
     * room; 'full' 'upload' for more unfinished ones than a project may have.
     */
    create(
      caller: Caller,
      wish: ImportWish & { readonly lengthBytes: number | undefined },
    ): Promise<{ readonly upload: Upload; readonly token: string }>
    list(
      caller: Caller,
      where: { readonly regionId: RegionId; readonly projectId?: ProjectId | undefined },
    ): Promise<readonly Upload[]>
    /** Faults: 'absent' 'upload', also for one that has expired. */
    get(
      caller: Caller,
      where: {
        readonly regionId: RegionId
        readonly projectId?: ProjectId | undefined
        readonly uploadId: string
      },
    ): Promise<Upload>
    /** Takes away what came of it. One that was received whole is no upload any more: Fault 'conflict' 'upload'. */
    remove(
      caller: Caller,
      where: {
        readonly regionId: RegionId
        readonly projectId?: ProjectId | undefined
        readonly uploadId: string
      },
    ): Promise<void>
    /** By its token, here and below. Fault 'absent' 'upload'. */
    find(token: string): Promise<Upload>
    /**
     * Takes a part in. What came of a part without checksum is kept even where the request breaks off. The last part begins
     * the import: `state` is then 'received'. A file that can be seen to be refused is refused as soon as its head is
     * there. Faults: 'absent' 'upload'; 'conflict' 'upload' reason 'offset' (another offset than ours), 'busy' (another
     * request sends right now); 'invalid' 'upload' reason 'checksum', 'length' (more than the length, or a second length);
     * 'invalid' 'file' as of an inspection; 'full'.
     */
    receive(token: string, part: UploadPart, signal: AbortSignal): Promise<Upload>
    abandon(token: string): Promise<void>
  }
  readonly exports: {
    /**
     * Of an available image of the project or a base image. Faults: 'absent' 'image', 'absent' 'disk'; 'conflict' 'image';
     * 'invalid' 'request' for an inventory that is none.
     */
    create(caller: Caller, wish: ExportWish): Promise<ExportLink>
    /**
     * `range` as asked, already cut to what there is by the callee: one beginning behind the end is Fault 'invalid'
     * 'request' reason 'range'. Faults: 'absent' 'file' for a token that is unknown, has expired or whose image is gone;
     * 'conflict' 'file' while its digest is being made; 'corrupt'; 'unavailable' reason 'busy' for too many at once.
     */
    open(
      token: string,
      asked: {
        readonly range?:
          | { readonly first: number; readonly last: number | undefined }
          | { readonly suffixBytes: number }
          | undefined
        readonly wantsRangeDigest: boolean
        /** For HEAD: everything but the bytes. */
        readonly headOnly: boolean
      },
      signal: AbortSignal,
    ): Promise<ExportFile>
    /** What another installation has to know of this one to make bundles for it: its public key, and the pages it holds. */
    inventory(
      caller: Caller,
      where: { readonly regionId: RegionId; readonly projectId?: ProjectId | undefined },
    ): Promise<string>
  }
}
