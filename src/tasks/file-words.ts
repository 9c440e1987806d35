import type { Inspection } from '../disk/formats/contract.ts'
import type { ExportFormat } from '../disk/layouts/contract.ts'
import type { DiskBus, MachineConfig } from '../image/config.ts'
import type { Consistency } from '../image/consistency.ts'
import type { Digest, DomainId, PageId, RegionId } from '../image/ids.ts'
import type { Checksum } from '../image/imported.ts'
import type { ImageFacts } from './store-words.ts'

/** A stranger's file as a session of a region has taken it in: any bytes, in chunks, seen by that session alone. */
export interface BlobMap {
  readonly sizeBytes: number
  readonly chunkBytes: number
  readonly pages: readonly PageId[]
}

export interface BlobJob {
  readonly regionId: RegionId
  readonly sessionId: string
  readonly domain: DomainId
  /** What was there at the last checkpoint; absent for a blob that begins. */
  readonly map?: BlobMap | undefined
  /** Makes a digest of what is written by this writer. */
  readonly hash?: Checksum['algorithm'] | undefined
}

/** Takes bytes in at the end of a blob. One at a time for each session. */
export interface BlobWriter {
  /** Resolves when more may be written; the bytes belong to the caller again at once. */
  write(bytes: Uint8Array): Promise<void>
  /** Makes durable what was written; from then on a crash takes none of it. */
  checkpoint(): Promise<BlobMap>
  /** Of everything written by this writer so far. Only with `hash`, and once. */
  digest(): Promise<Buffer>
  /** What was written since the last checkpoint is not there. May be called twice. */
  close(): Promise<void>
}

/** Where a stranger's file is. */
export type FilePlace =
  /** `identity`: no other file than this one, as of `identityOf`. */
  | { readonly is: 'file'; readonly path: string; readonly identity?: string | undefined }
  | {
      readonly is: 'blob'
      readonly regionId: RegionId
      readonly sessionId: string
      readonly map: BlobMap
      /** How much it will be once all of it has come: what has not is read as zeroes. */
      readonly wholeBytes?: number
    }

/** A stranger's file held open by a thread: what was inspected is what is served. */
export interface OpenFile {
  readonly sizeBytes: number
  /** Of this process, for as long as the file is open; undefined for a blob. */
  readonly descriptor: number | undefined
  readonly inspection: Inspection
  /** For each disk of the inspection, whether it is served as a guest sees it. */
  readonly isPlain: readonly boolean[]
  /**
   * Serves the disks of the inspection at a Unix socket: exports '0', '1', … Those that are plain, because they are raw or
   * their tables are simple, as a guest sees them; of the others the bytes that they are in the file.
   */
  serve(socketPath: string): Promise<void>
  close(): Promise<void>
}

export interface ExportJob {
  readonly regionId: RegionId
  readonly digest: Digest
  readonly diskIndex: number
  readonly format: ExportFormat
}

export interface BundleJob {
  readonly regionId: RegionId
  readonly digest: Digest
  /** Map pages that the other side has, with all of their chunks. */
  readonly heldPages: readonly PageId[]
  /** Hex of the X25519 key that it is for. */
  readonly recipient: string
  /** What it says of the image that is no content: name, operating system. JSON. */
  readonly label: string
}

/** What a bundle says of itself once signature and digests were checked. */
export interface BundleFacts {
  readonly digest: Digest
  readonly label: string
  readonly disks: readonly { readonly sizeBytes: number; readonly bus: DiskBus; readonly dataBytes: number }[]
  readonly config: MachineConfig
  readonly os: ImageFacts['os']
  readonly consistency: Consistency
  readonly parent: Digest | undefined
  /** Of the chunks in it: what will be stored at most. */
  readonly storedBytes: number
}
