import type { Digest } from '../image/ids.ts'
import type { ImageContent } from './image.ts'
import type { RangeLimits } from './ranges.ts'
import type { RefInput } from './refs.ts'
import type { RegionStore } from './region.ts'
import type { ReadOnlyRegion } from './source.ts'

export interface PullOptions {
  readonly source: ReadOnlyRegion
  readonly target: RegionStore
  readonly digest: Digest
  readonly sessionId: string
  /** Who needs the image from the commit on. */
  readonly ref?: RefInput
  readonly signal?: AbortSignal
  /** `doneBytes` counts what is durable in the target; it never falls, and ends at `totalBytes`. */
  readonly onProgress?: (progress: PullProgress) => void
  readonly limits?: Partial<RangeLimits & { readonly readsMax: number; readonly keptChunksMax: number }>
  /**
   * whole: every chunk is decrypted, decoded and hashed. seal: where a chunk is sealed it is enough that its seal fits, which
   * binds id, length and every byte to the domain's keys: for a source whose writers are our own. Whole if it is left out.
   */
  readonly check?: 'whole' | 'seal'
  /** The source is on this host and its writers are our own: packs of which all is missing are taken as they are (`WholePacks`). */
  readonly takesPacks?: boolean
  /** Packs made here are hashed on the thread pool, while this thread goes on. */
  readonly isHashedBeside?: boolean
  /** Begins a hash on another thread, which sees memory that is shared; the next once the digest of the one before is asked for. Without, this thread hashes whole packs. */
  readonly hashBeside?: () => RunningHash
}

/** SHA-256 of bytes that come in pieces. */
export interface RunningHash {
  /** Each after the one before is done. The piece does not change before the digest is there. */
  update(piece: Uint8Array): Promise<void> | undefined
  /** In hexadecimal. */
  digest(): Promise<string>
}

export interface PullProgress {
  readonly doneBytes: number
  readonly totalBytes: number
  /** Read from the source by this run. */
  readonly movedBytes: number
  /** Not moved because the target had them. */
  readonly savedBytes: number
}

/** What a copy would do. Bytes are stored bytes of chunks, and whole map pages. */
export interface PullPlan {
  readonly image: ImageContent
  /** In the target for everybody, so never moved. */
  readonly reusedBytes: number
  /** Moved by this session before it was interrupted. */
  readonly resumedBytes: number
  readonly missingBytes: number
  readonly missingChunkCount: number
  readonly missingPageBytes: number
}
