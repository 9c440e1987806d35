import { isDeepStrictEqual } from 'node:util'
import { Fault } from '../../image/fault.ts'
import type { Digest } from '../../image/ids.ts'
import { Pace } from '../../objects/pace.ts'
import type { PeerPlace } from '../../peers/contract.ts'
import { sha256 } from '../../store/hashes.ts'
import { pacedBytesMax, pacedSource } from '../../store/paced.ts'
import { cachedSource, PackCache } from '../../store/pack-cache.ts'
import type { PullOptions } from '../../store/pull.ts'
import { PULL_LIMITS } from '../../store/ranges.ts'
import type { RefInput } from '../../store/refs.ts'
import type { RegionStore } from '../../store/region.ts'
import type { ReadOnlyRegion } from '../../store/source.ts'
import { pacesOf } from './copy-limits.ts'
import { openRegion, type RegionPlace } from './region.ts'

/** Where a copy reads, as a thread is told. */
export type SourcePlace =
  | { readonly is: 'region'; readonly place: RegionPlace }
  | { readonly is: 'peer'; readonly peer: PeerPlace; readonly regionId: string }

export interface CopyPlaces {
  readonly source: SourcePlace
  readonly target: RegionPlace
  readonly digest: Digest
  /** What the row has of a peer's image (`PullJob`). */
  readonly diskSizesBytes?: readonly number[] | undefined
  /** Of this copy alone. */
  readonly bytesPerSecond?: number | undefined
  /** Where what is read is kept for others, and how much; undefined for a copy that nobody shares. */
  readonly cache?: { readonly folder: string; readonly bytesMax: number } | undefined
}

/** Both ends, within their limits. */
export interface CopyEnds {
  readonly source: ReadOnlyRegion
  readonly target: RegionStore
  /** Has the keys of the image's report (`reportDomainOf`). */
  readonly reports: RegionStore
  readonly check: NonNullable<PullOptions['check']>
  readonly rangeBytesMax: number
  /** What the image holds that is not zero, where it was found out: of a peer's. */
  readonly dataBytes: number | undefined
}

/** Opens both ends for the calling thread, and closes them again. */
export async function withCopyEnds<Result>(
  places: CopyPlaces,
  signal: AbortSignal,
  work: (ends: CopyEnds) => Promise<Result>,
): Promise<Result> {
  const target = await openRegion(places.target)
  try {
    const cache = cacheOf(places)
    const { bare, reports, dataBytes } = await openSource(places, target, cache, signal)
    try {
      return await work({ target, reports, dataBytes, ...wrap(places, bare, cache) })
    } finally {
      bare.close()
    }
  } finally {
    target.close()
  }
}

/** True for a copy of which whole packs may be taken as they are: they come in one go, which is nothing for a limit. */
export function takesPacks({ source, target, bytesPerSecond }: CopyPlaces): boolean {
  if (isFar(source)) return false
  const limits = [
    source.is === 'region' ? source.place.copyLimit : undefined,
    target.copyLimit,
    bytesPerSecond,
  ]
  return limits.every((limit) => limit === undefined)
}

/** What is in files of this host the kernel keeps in memory already. */
const isFar = (source: SourcePlace) => source.is === 'peer' || source.place.objects.kind !== 'directory'

async function openSource(
  places: CopyPlaces,
  target: RegionStore,
  cache: PackCache | undefined,
  signal: AbortSignal,
) {
  const { source, digest, diskSizesBytes } = places
  if (source.is === 'region') {
    const region = await openRegion(source.place)
    return { bare: region, reports: region, dataBytes: undefined }
  }
  // It brings the TLS client along, which other copies do without.
  const { openPeerSource } = await import('../../peers/client.ts')
  const bare = await openPeerSource(source.peer, source.regionId, target, digest, signal, cache)
  const { found } = bare
  const isAsTold = diskSizesBytes === undefined || isDeepStrictEqual(found.diskSizesBytes, diskSizesBytes)
  if (isAsTold) return { bare, reports: target, dataBytes: found.dataBytes }
  bare.close()
  throw new Fault(
    'corrupt',
    `Peer ${source.peer.name} says that the image has disks of ${sizesOf(diskSizesBytes)} bytes; its content has ${sizesOf(found.diskSizesBytes)}. Ask whoever runs it to look at the image.`,
    { subject: 'peer' },
  )
}

const sizesOf = (sizesBytes: readonly number[]) => sizesBytes.join(', ')

/** The ref says what the image holds as it was found out, for a catalog that is made of refs. */
export function refWith(ref: RefInput, dataBytes: number | undefined): RefInput {
  return dataBytes === undefined ? ref : { ...ref, label: { ...ref.label, dataBytes } }
}

/** For copies that others share, of a source that the kernel keeps nothing of. */
function cacheOf({ source, cache }: CopyPlaces): PackCache | undefined {
  if (cache === undefined || !isFar(source)) return undefined
  return new PackCache({ ...cache, source: cacheWordOf(source) })
}

/** What is in the cache has not to be read from the source again, and counts for the target and the copy alone. */
function wrap(
  { source, target, bytesPerSecond }: CopyPlaces,
  bare: ReadOnlyRegion,
  cache: PackCache | undefined,
) {
  const out = source.is === 'region' ? pacesOf(source.place.copyLimit, 'out') : []
  const own = bytesPerSecond === undefined ? [] : [new Pace({ bytesPerSecond })]
  const into = [...pacesOf(target.copyLimit, 'in'), ...own]
  const limited = pacedSource(bare, out)
  const shared = cache === undefined ? limited : cachedSource(limited, cache)
  return {
    source: pacedSource(shared, into),
    // Whoever writes to a region of ours has our keys and our code.
    check: source.is === 'region' ? ('seal' as const) : ('whole' as const),
    rangeBytesMax: pacedBytesMax([...out, ...into], PULL_LIMITS.rangeBytesMax),
  }
}

/** Bytes are answered to copies of the same source alone: whoever may read one may not therefore read another. */
function cacheWordOf(source: SourcePlace): string {
  if (source.is === 'region') return `region-${source.place.regionId}`
  return `peer-${sha256(Buffer.from(`${source.peer.name} ${source.regionId}`))}`
}
