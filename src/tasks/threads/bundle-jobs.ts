import type { Digest, PageId, RegionId } from '../../image/ids.ts'
import { pagesOf as pagesOfImage } from '../../store/bundle/write.ts'
import type { RefInput } from '../../store/refs.ts'
import type { RegionStore } from '../../store/region.ts'
import type { BundleFacts, BundleJob, FilePlace, MovedBytes, OnBytes } from '../store-jobs.ts'
import type { BundlePlace } from './bundle-source.ts'
import type { BundleData } from './bundle-thread.ts'
import type { RegionPlace } from './region.ts'
import { runThread } from './thread.ts'

const THREAD = new URL('./bundle-thread.ts', import.meta.url)

/** What bundles are made and read with: where regions are, and the installation's 32 secret bytes. */
export interface BundleParts {
  /** Throws Fault 'absent' 'region'. */
  readonly placeOf: (regionId: RegionId) => RegionPlace
  readonly seed: Uint8Array
}

export interface PullBundleJob {
  readonly place: FilePlace
  readonly signers: readonly string[]
  readonly regionId: RegionId
  readonly sessionId: string
  readonly ref: RefInput
}

/** Source: StoreJobs.bundle. The thread begins with the first piece that is asked for, and ends with the reader. */
export async function* bundleStream(
  { placeOf, seed }: BundleParts,
  job: BundleJob,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const taken = new Int32Array(new SharedArrayBuffer(4))
  const data: BundleData = { is: 'write', place: placeOf(job.regionId), job, seed, taken }
  const left = new AbortController()
  const pieces: Uint8Array[] = []
  let ended: { readonly error?: unknown } | undefined
  let wake = () => {}
  const running = runThread<undefined>(THREAD, data, {
    signal: AbortSignal.any([signal, left.signal]),
    onNews(piece: Uint8Array) {
      pieces.push(piece)
      wake()
    },
  }).then(
    () => {
      ended = {}
      wake()
    },
    (error: unknown) => {
      ended = { error }
      wake()
    },
  )
  const take = () => {
    Atomics.add(taken, 0, 1)
    Atomics.notify(taken, 0)
  }
  try {
    for (;;) {
      const piece = pieces.shift()
      if (piece !== undefined) {
        take()
        yield piece
      } else if (ended === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      } else {
        if ('error' in ended) throw ended.error
        return
      }
    }
  } finally {
    left.abort(new Error('nobody reads the bundle any more'))
    // It may be waiting for us.
    take()
    await running
  }
}

/** Source: StoreJobs.readBundle. */
export async function readBundle(
  parts: BundleParts,
  place: FilePlace,
  signers: readonly string[],
  signal: AbortSignal,
): Promise<BundleFacts> {
  const data: BundleData = { is: 'read', file: told(parts, place), signers, seed: parts.seed }
  return runThread<BundleFacts>(THREAD, data, { signal })
}

/** Source: StoreJobs.pullBundle. Keys of another installation never meet ours, so nothing is said of our own domains. */
export async function pullBundle(
  parts: BundleParts,
  { place, signers, regionId, sessionId, ref }: PullBundleJob,
  onBytes: OnBytes,
  signal: AbortSignal,
): Promise<MovedBytes> {
  const { seed, placeOf } = parts
  const target = placeOf(regionId)
  const data: BundleData = { is: 'pull', file: told(parts, place), signers, seed, target, sessionId, ref }
  return runThread<MovedBytes>(THREAD, data, { signal, onNews: onBytes })
}

/** Source: StoreJobs.pagesOf. Fault 'absent' 'image'. */
export async function pagesOf(region: RegionStore, digests: readonly Digest[]): Promise<readonly PageId[]> {
  const pages = new Set<PageId>()
  for (const digest of digests) {
    for (const page of pagesOfImage(await region.getImage(digest))) pages.add(page)
  }
  return [...pages]
}

function told({ placeOf }: BundleParts, place: FilePlace): BundlePlace {
  return place.is === 'file' ? place : { ...place, region: placeOf(place.regionId) }
}
