import { pullImage } from '../../store/pull.ts'
import type { PulledBytes, PullJob } from '../store-jobs.ts'
import { type CopyPlaces, refWith, takesPacks, withCopyEnds } from './copy-source.ts'
import type { HashAsk } from './hash-thread.ts'
import { TalkingThread } from './talk.ts'
import { inThread } from './thread.ts'

export interface PullData {
  readonly places: CopyPlaces
  readonly job: Pick<PullJob, 'digest' | 'sessionId' | 'ref'>
}

inThread(async ({ places, job }: PullData, { signal, tell }): Promise<PulledBytes> => {
  // Reading, writing and hashing packs is then all beside this thread, which keeps the books.
  const hasher = takesPacks(places)
    ? new TalkingThread(new URL('./hash-thread.ts', import.meta.url))
    : undefined
  const whole = hasher && {
    takesPacks: true,
    hashBeside: (bytes: Uint8Array) => hasher.ask<string>({ bytes } satisfies HashAsk),
  }
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
  }
})
