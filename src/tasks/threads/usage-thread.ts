import { type RegionUsage, usageOf } from '../../store/usage.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface UsageData {
  readonly place: RegionPlace
}

inThread(async ({ place }: UsageData, { signal }): Promise<RegionUsage> => {
  const region = await openRegion(place)
  try {
    return await usageOf(region, signal)
  } finally {
    region.close()
  }
})
