import { rename } from 'node:fs/promises'
import { isFault } from '../../image/fault.ts'
import { IndexDatabase } from '../../store/database.ts'
import type { RebuildReport } from '../../store/rebuild.ts'
import { RegionStore } from '../../store/region.ts'
import { type RegionPlace, regionOptions } from './region.ts'
import { inThread } from './thread.ts'

export interface RebuildData {
  readonly place: RegionPlace
}

/** An index that cannot be opened keeps nobody from a new one; it stays beside it, for whoever wants to look. */
async function moveDamagedAway(path: string): Promise<void> {
  try {
    new IndexDatabase(path).close()
  } catch (error) {
    if (!isFault(error, 'corrupt')) throw error
    for (const end of ['', '-wal', '-shm']) {
      await rename(path + end, `${path}.damaged${end}`).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code !== 'ENOENT') throw cause
      })
    }
  }
}

inThread(async ({ place }: RebuildData, { signal, tell }): Promise<RebuildReport> => {
  // Opened without a look at what the index says of itself: it is made anew in any case.
  const options = await regionOptions(place)
  await moveDamagedAway(place.indexPath)
  const region = new RegionStore(options)
  try {
    return await region.rebuildIndex({ signal, onProgress: tell })
  } finally {
    region.close()
  }
})
