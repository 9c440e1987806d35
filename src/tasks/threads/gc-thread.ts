import { collectGarbage, type GcReport } from '../../store/gc.ts'
import type { CollectJob } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface CollectData {
  readonly place: RegionPlace
  readonly job: CollectJob
}

inThread(async ({ place, job }: CollectData, { signal, tell }): Promise<GcReport> => {
  const region = await openRegion(place)
  try {
    return await collectGarbage({
      region,
      ...job,
      signal,
      onProgress: (bytes) => tell({ ...bytes, movedBytes: 0 }),
    })
  } finally {
    region.close()
  }
})
