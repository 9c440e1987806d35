import { type ScrubReport, scrub } from '../../store/scrub.ts'
import type { ScrubJob } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface ScrubData {
  readonly place: RegionPlace
  readonly job: ScrubJob
}

inThread(async ({ place, job }: ScrubData, { signal, tell }): Promise<ScrubReport> => {
  const region = await openRegion(place)
  try {
    return await scrub({
      region,
      ...job,
      signal,
      onProgress: (bytes) => tell({ ...bytes, movedBytes: 0 }),
    })
  } finally {
    region.close()
  }
})
