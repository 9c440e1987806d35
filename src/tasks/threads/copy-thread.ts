import { planPull, pullImage } from '../../store/pull.ts'
import type { PullEstimate, PulledBytes, PullJob } from '../store-jobs.ts'
import { type CopyPlaces, refWith, takesPacks, withCopyEnds } from './copy-source.ts'
import { HashBeside } from './hash-beside.ts'
import { inLastingThread } from './lasting-thread.ts'

/** 'plan' answers a `PullEstimate`, 'pull' a `PulledBytes`. */
export type CopyAsk =
  | { readonly is: 'plan'; readonly places: CopyPlaces; readonly sessionId: string | undefined }
  | {
      readonly is: 'pull'
      readonly places: CopyPlaces
      readonly job: Pick<PullJob, 'digest' | 'sessionId' | 'ref'>
    }

interface Options {
  readonly signal: AbortSignal
  readonly tell: (news: unknown) => void
}

/** Reading, writing and hashing packs is then all beside this thread, which keeps the books. */
let hasher: HashBeside | undefined

async function plan(
  { places, sessionId }: Extract<CopyAsk, { is: 'plan' }>,
  { signal }: Options,
): Promise<PullEstimate> {
  return withCopyEnds(places, signal, async ({ source, target, dataBytes }) => {
    const { digest } = places
    // The session of a copy that has not begun is none.
    const isKnown = target.listSessions().some(({ id, state }) => id === sessionId && state === 'open')
    const session = isKnown && sessionId !== undefined ? { sessionId } : {}
    const planned = await planPull({ source, target, digest, signal, ...session })
    const { missingBytes, missingPageBytes, reusedBytes, resumedBytes } = planned
    // The pull comes next: the thread that hashes for it loads meanwhile.
    if (sessionId !== undefined && missingBytes > 0 && takesPacks(places)) hasher ??= new HashBeside()
    return {
      ...{ missingBytes: missingBytes + missingPageBytes, savedBytes: reusedBytes, resumedBytes },
      ...(dataBytes === undefined ? {} : { dataBytes }),
    }
  })
}

async function pull(
  { places, job }: Extract<CopyAsk, { is: 'pull' }>,
  { signal, tell }: Options,
): Promise<PulledBytes> {
  if (takesPacks(places)) hasher ??= new HashBeside()
  const beside = takesPacks(places) ? hasher : undefined
  const whole = beside && { takesPacks: true, hashBeside: () => beside.begin() }
  try {
    return await withCopyEnds(places, signal, async ({ source, target, check, rangeBytesMax, dataBytes }) => {
      const { digest, sessionId } = job
      const ref = refWith(job.ref, dataBytes)
      let storedBytes = 0
      const result = await pullImage({
        ...{ source, target, digest, sessionId, ref, signal, check, limits: { rangeBytesMax }, ...whole },
        isHashedBeside: true,
        onProgress: (progress) => {
          storedBytes = progress.totalBytes
          tell(progress)
        },
      })
      return {
        ...{ storedBytes, movedBytes: result.bytesMoved, savedBytes: result.bytesReused },
        ...(dataBytes === undefined ? {} : { dataBytes }),
      }
    })
  } finally {
    await hasher?.close()
    hasher = undefined
  }
}

inLastingThread<CopyAsk, PullEstimate | PulledBytes>((ask, options) =>
  ask.is === 'plan' ? plan(ask, options) : pull(ask, options),
)
