import type { CleaningSummary } from '../image/cleaning.ts'
import type { Digest, ImageId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { PackCache } from '../store/pack-cache.ts'
import type { RegionStore } from '../store/region.ts'
import type { ReadOnlyRegion } from '../store/source.ts'

/** Another installation, as its region is pulled from; crosses threads. Holds our private key: never log it whole. */
export interface PeerPlace {
  readonly name: string
  /** `https://HOST:PORT`. */
  readonly url: string
  /** SHA-256 of the certificate it has to show, 64 lower-case hex digits. */
  readonly fingerprint: string
  /** PEM, ours. */
  readonly certificate: string
  readonly key: string
}

/** What a peer tells of an available image of its own; everything that the row of a copy needs. */
export interface PeerImage {
  readonly id: ImageId
  readonly digest: Digest
  readonly facts: Pick<
    Image,
    | 'name'
    | 'description'
    | 'tag'
    | 'labels'
    | 'osType'
    | 'osName'
    | 'disks'
    | 'config'
    | 'consistency'
    | 'parent'
    | 'imported'
    | 'dataBytes'
    | 'storedBytes'
  > & { readonly cleaning: CleaningSummary | undefined }
}

/** Asks a peer. Faults of all: 'denied' 'peer' for what it may not tell us or who is not who it should be; 'unavailable' 'peer'. */
export interface PeerClient {
  /** Its regions that we may read. */
  regions(signal?: AbortSignal): Promise<readonly string[]>
  /** Fault 'absent' 'image'; 'conflict' 'image' if it is not available. */
  image(regionId: string, id: ImageId, signal?: AbortSignal): Promise<PeerImage>
  /**
   * The region as a pull of one content reads it, domains under their names there; it answers nothing of any other. Faults:
   * 'absent' 'image' of `getImage` where we may not read the content, or it is not there; 'corrupt' for answers that are
   * none or not what was asked for.
   */
  region(regionId: string, digest: Digest): ReadOnlyRegion
  close(): void
}

/** Another installation that the settings name with an address, for a list of them. */
export interface KnownPeer extends Pick<PeerPlace, 'name' | 'url'> {
  readonly client: Pick<PeerClient, 'regions'>
}

/**
 * The region of a peer as one of this installation, for one image: domains under the names they have here, the image signed with
 * our keys once its own signature was checked (as of a bundle), so that whoever reads the target later needs to know of no peer.
 */
export interface PeerSource extends ReadOnlyRegion {
  /** What its maps say of the image, whatever the peer's words of it are. */
  readonly found: {
    /** Not zero, of all disks. */
    readonly dataBytes: number
    readonly diskSizesBytes: readonly number[]
  }
  close(): void
}

/** Faults of its answers as of `PeerClient.region`; 'denied' 'peer' for an image that names what the peer has no keys of. */
export type OpenPeerSource = (
  place: PeerPlace,
  regionId: string,
  target: RegionStore,
  digest: Digest,
  signal: AbortSignal,
  /** Keeps what is read for other copies of the same. */
  cache?: PackCache,
) => Promise<PeerSource>

/** What the endpoint for peers answers from: one per server. */
export interface PeerEndpointParts {
  /** By the fingerprint of the certificate that was shown; undefined for nobody we know. */
  readonly reader: (fingerprint: string) => PeerReader | undefined
  /** Its index says what belongs to an image. Fault 'absent' 'region'. */
  readonly region: (regionId: string) => Promise<RegionStore>
  readonly regionIds: readonly string[]
  /**
   * An available image of one of these projects, or a base image, which is every peer's. Faults 'absent' 'image', also for one
   * of another project; 'conflict' 'image'.
   */
  readonly image: (regionId: string, id: ImageId, projects: readonly string[] | 'all') => Promise<PeerImage>
  /** True where the content is one of an available image of one of these projects ('all' for any), or of a base image. */
  readonly mayRead: (
    regionId: string,
    digest: Digest,
    projects: readonly string[] | 'all',
  ) => Promise<boolean>
}

/** What one peer may read of us. */
export interface PeerReader {
  readonly name: string
  readonly projects: readonly string[] | 'all'
  readonly regions: readonly string[] | 'all'
}
