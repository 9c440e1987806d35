import { join } from 'node:path'
import type { RegionId } from '../../src/image/ids.ts'
import { createJobs, type JobsOptions } from '../../src/tasks/threads/jobs.ts'
import type { RegionPlace } from '../../src/tasks/threads/region.ts'

export const SOURCE = 'source' as RegionId
export const TARGET = 'target' as RegionId

/** A region's store in the folder of its name below `folder`, as a server's data directory has it. */
export function placeIn(folder: string, regionId: RegionId): RegionPlace {
  return {
    regionId,
    objects: { kind: 'directory', folder: join(folder, regionId, 'objects') },
    indexPath: join(folder, regionId, 'index.db'),
    domainsKey: Buffer.alloc(32, 7),
    regionKey: Buffer.alloc(32, 8),
    isEncrypting: true,
  }
}

/** The jobs as the server runs them, over such stores. */
export function jobsIn(
  places: readonly RegionPlace[],
  folder: string,
  threadCount: number,
  more: Pick<JobsOptions, 'peers' | 'cacheFolder'> = {},
) {
  return createJobs({
    ...more,
    places,
    bundleSeed: new Uint8Array(32),
    threadCount,
    nbdSocketPath: join(folder, 'images.sock'),
    log: (record) => console.error(record),
  })
}
