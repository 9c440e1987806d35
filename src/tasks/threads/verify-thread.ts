import { verifyRegion } from '../../store/verify.ts'
import type { RegionProblem, VerifyReport } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface VerifyData {
  readonly place: RegionPlace
  readonly deep: boolean
}

inThread(async ({ place, deep }: VerifyData, { signal, tell }): Promise<VerifyReport> => {
  const region = await openRegion(place)
  try {
    const report = await verifyRegion({
      region,
      deep,
      signal,
      onProgress: (bytes) => tell({ ...bytes, movedBytes: 0 }),
    })
    const { imageCount, packCount, logicalBytes, storedBytes, problemCount } = report
    const problems: RegionProblem[] = report.problems.map(({ message, image, diskIndex, offset }) => ({
      message,
      ...(image === undefined ? {} : { image }),
      ...(diskIndex === undefined ? {} : { diskIndex }),
      ...(offset === undefined ? {} : { offset }),
    }))
    if (problemCount > problems.length) {
      problems.push({ message: `and ${problemCount - problems.length} more problems` })
    }
    return { imageCount, packCount, logicalBytes, storedBytes, problems }
  } finally {
    region.close()
  }
})
