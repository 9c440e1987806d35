import { verifyRegion } from '../../store/verify.ts'
import type { VerifyReport } from '../store-jobs.ts'
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
    const problems = report.problems.map((problem) => problem.message)
    if (problemCount > problems.length) problems.push(`and ${problemCount - problems.length} more problems`)
    return { imageCount, packCount, logicalBytes, storedBytes, problems }
  } finally {
    region.close()
  }
})
