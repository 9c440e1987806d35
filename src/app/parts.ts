import type { Catalog } from '../catalog/contract.ts'
import type { Host } from '../host/contract.ts'
import type { Region } from '../image/region.ts'
import type { Runner } from '../tasks/runner.ts'
import type { StoreJobs } from '../tasks/store-jobs.ts'

/** What the use cases are made from; `main.ts` joins it once. */
export interface Parts {
  readonly catalog: Catalog
  readonly host: Host
  readonly runner: Runner
  readonly jobs: Pick<StoreJobs, 'usage' | 'report'>
  readonly regions: readonly Region[]
  readonly defaultRegionId: string
  readonly clock: () => number
  readonly imagesPerRegionMax: number
  readonly snapshotsPerRegionMax: number
  /** The folder that holds files an operator wants imported. */
  readonly importDirectory: string
  /** What becomes of an image in which cleaning finds a secret, whatever its maker says: 'refuse' is stricter. */
  readonly secrets: 'report' | 'refuse'
  /** What is meant by a collection or a scrub that says nothing of it. */
  readonly upkeep: {
    readonly gcGraceMs: number
    readonly scrubBytesPerSecond: number
    readonly scrubEveryMs: number
  }
}
