import { bundleKeys } from '../../store/bundle/keys.ts'
import { openBundle } from '../../store/bundle/open.ts'
import type { OpenBundle } from '../../store/bundle/opened.ts'
import { pullBundle } from '../../store/bundle/pull.ts'
import { writeBundle } from '../../store/bundle/write.ts'
import type { RefInput } from '../../store/refs.ts'
import type { BundleFacts, BundleJob, MovedBytes } from '../store-jobs.ts'
import { type BundlePlace, openSource } from './bundle-source.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

/** `seed`: 32 bytes of the installation. Never to be logged. */
export type BundleData =
  | {
      readonly is: 'write'
      readonly place: RegionPlace
      readonly job: BundleJob
      readonly seed: Uint8Array
      /** How many pieces the other side has taken: shared. */
      readonly taken: Int32Array
    }
  | {
      readonly is: 'read'
      readonly file: BundlePlace
      readonly signers: readonly string[]
      readonly seed: Uint8Array
    }
  | {
      readonly is: 'pull'
      readonly file: BundlePlace
      readonly signers: readonly string[]
      readonly seed: Uint8Array
      readonly target: RegionPlace
      readonly sessionId: string
      readonly ref: RefInput
    }

/** Pieces on their way at once: as long as one is taken the next ones are made. */
export const PIECES_AHEAD = 8

interface Tools {
  readonly signal: AbortSignal
  readonly tell: (news: unknown) => void
}

inThread(async (data: BundleData, tools: Tools): Promise<BundleFacts | MovedBytes | undefined> => {
  switch (data.is) {
    case 'write':
      return write(data, tools)
    case 'read':
      return withBundle(data, tools.signal, async (bundle) => factsOf(bundle))
    case 'pull':
      return withBundle(data, tools.signal, (bundle) => pull(data, bundle, tools))
    default:
      return data satisfies never
  }
})

async function write(
  { place, job, seed, taken }: Extract<BundleData, { is: 'write' }>,
  { signal, tell }: Tools,
): Promise<undefined> {
  const region = await openRegion(place)
  try {
    const { digest, heldPages, recipient, label } = job
    let told = 0
    const keys = bundleKeys(seed)
    for await (const piece of writeBundle({ region, digest, heldPages, recipient, label, keys, signal })) {
      tell(piece)
      told++
      for (let count = Atomics.load(taken, 0); told - count >= PIECES_AHEAD; count = Atomics.load(taken, 0)) {
        await Atomics.waitAsync(taken, 0, count).value
        signal.throwIfAborted()
      }
    }
    return undefined
  } finally {
    region.close()
  }
}

async function withBundle<Result>(
  { file, signers, seed }: Extract<BundleData, { is: 'read' | 'pull' }>,
  signal: AbortSignal,
  work: (bundle: OpenBundle) => Promise<Result>,
): Promise<Result> {
  const source = await openSource(file)
  try {
    return await work(await openBundle(source, bundleKeys(seed), signers, signal))
  } finally {
    await source.close()
  }
}

async function pull(
  { target, sessionId, ref }: Extract<BundleData, { is: 'pull' }>,
  bundle: OpenBundle,
  { signal, tell }: Tools,
): Promise<MovedBytes> {
  const region = await openRegion(target)
  try {
    let storedBytes = 0
    const result = await pullBundle({
      ...{ bundle, target: region, sessionId, ref, signal },
      onProgress: ({ doneBytes, totalBytes }) => {
        storedBytes = totalBytes
        tell({ doneBytes, totalBytes, movedBytes: doneBytes })
      },
    })
    return { storedBytes, movedBytes: result.bytesMoved }
  } finally {
    region.close()
  }
}

function factsOf({ image, statement, storedBytes }: OpenBundle): BundleFacts {
  const { config, os, consistency, parent } = image
  return {
    digest: statement.digest,
    label: statement.label,
    disks: image.disks.map(({ sizeBytes, bus }, index) => ({
      sizeBytes,
      bus,
      dataBytes: statement.dataBytes[index] ?? 0,
    })),
    config,
    os,
    consistency,
    parent: parent ?? undefined,
    storedBytes,
  }
}
