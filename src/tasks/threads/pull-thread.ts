import { pullImage } from '../../store/pull.ts'
import type { MovedBytes, PullJob } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface PullData {
  readonly job: PullJob
  readonly source: RegionPlace
  readonly target: RegionPlace
}

inThread(async ({ job, source, target }: PullData, { signal, tell }): Promise<MovedBytes> => {
  const from = await openRegion(source)
  const to = await openRegion(target)
  try {
    // Committed sources alone: an image that another task is still writing there is not to be had.
    await from.getImage(job.digest, signal)
    let storedBytes = 0
    const result = await pullImage({
      source: from,
      target: to,
      digest: job.digest,
      sessionId: job.sessionId,
      ref: job.ref,
      signal,
      onProgress: ({ doneBytes, totalBytes }) => {
        storedBytes = totalBytes
        tell({ doneBytes, totalBytes, movedBytes: doneBytes })
      },
    })
    return { storedBytes, movedBytes: result.bytesMoved }
  } finally {
    from.close()
    to.close()
  }
})
