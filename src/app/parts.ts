import type { Catalog } from '../catalog/contract.ts'
import type { Host } from '../host/contract.ts'
import type { ImageId, PageId, RegionId } from '../image/ids.ts'
import type { Region } from '../image/region.ts'
import type { RemoteSource } from '../intake/contract.ts'
import type { KnownPeer, PeerImage } from '../peers/contract.ts'
import type { EventLog } from '../tasks/event-log.ts'
import type { CopyPace } from '../tasks/parts.ts'
import type { Runner } from '../tasks/runner.ts'
import type { SourceLook } from '../tasks/source-look.ts'
import type { SourceSeal } from '../tasks/source-seal.ts'
import type { StoreJobs } from '../tasks/store-jobs.ts'
import type { WebhookSeal } from '../tasks/webhook-row.ts'

/** What the use cases are made from; `main.ts` joins it once. */
export interface Parts {
  readonly catalog: Catalog
  readonly host: Host
  readonly runner: Runner
  readonly jobs: Pick<
    StoreJobs,
    | 'usage'
    | 'report'
    | 'openBlob'
    | 'openFile'
    | 'abort'
    | 'freeBytes'
    | 'exportSize'
    | 'exportBytes'
    | 'bundle'
    | 'pagesOf'
    | 'domainOf'
    | 'planPull'
  >
  readonly copies: CopyPace & {
    /** What a copy into another project is where nobody says. */
    readonly acrossProjects: 'reference' | 'rekey'
    /** How long a cloud's request may be repeated for the same answer; undefined for not at all. */
    readonly repeatMs: number | undefined
    /** How long one may be paused; undefined for any time. */
    readonly pausedMs: number | undefined
  }
  /** Asked of every image of ours before a copy of it is begun. */
  readonly sources: SourceLook
  /** The other installations. Faults: 'absent' 'peer' for a name that the settings do not have, and those of `PeerClient`. */
  readonly peers: {
    readonly known: readonly KnownPeer[]
    image(name: string, regionId: string, imageId: ImageId, signal: AbortSignal): Promise<PeerImage>
  }
  readonly transfers: {
    readonly fetcher: { check(source: RemoteSource): Promise<string> }
    readonly seal: Pick<SourceSeal, 'seal'>
    /** As a guest sees one disk, and of one file. */
    readonly diskBytesMax: number
    /** How long an upload may be silent, and how long a download's link is good. */
    readonly uploadMs: number
    readonly linkMs: number
    readonly uploadsPerProjectMax: number
    /** What another installation needs to make a bundle for this one: the text around these pages. */
    readonly describeSelf: (regionId: RegionId, pages: readonly PageId[]) => Promise<string>
    /** Hex of the Ed25519 key that our bundles are signed with. */
    readonly signer: () => Promise<string>
    /** Pages and key of such a text. Fault 'invalid' for what is none. */
    readonly readInventory: (
      text: string,
    ) => Promise<{ readonly pages: readonly PageId[]; readonly recipient: string }>
  }
  readonly events: EventLog
  readonly webhooks: {
    /** As it may be shown. Fault 'invalid' 'request' reasons 'url', 'address', as `Sender.check`. */
    check(url: string): Promise<string>
    readonly seal: Pick<WebhookSeal, 'seal'>
    /** Told once one was made, changed or removed. */
    changed(): void
  }
  readonly regions: readonly Region[]
  readonly defaultRegionId: string
  readonly clock: () => number
  readonly imagesPerRegionMax: number
  readonly snapshotsPerRegionMax: number
  /** The folder that holds files an operator wants imported. */
  readonly importDirectory: string
  /** What becomes of an image in which cleaning finds a secret, whatever its maker says: 'refuse' is stricter. */
  readonly secrets: 'report' | 'refuse'
  /** What is meant by a collection or a scrub that says nothing of it. */
  readonly upkeep: {
    readonly gcGraceMs: number
    readonly scrubBytesPerSecond: number
    readonly scrubEveryMs: number
  }
}
