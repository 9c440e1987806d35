import type { Catalog } from '../catalog/contract.ts'
import type { Host } from '../host/contract.ts'
import type { Region } from '../image/region.ts'
import type { Runner } from '../tasks/runner.ts'

/** What the use cases are made from; `main.ts` joins it once. */
export interface Parts {
  readonly catalog: Catalog
  readonly host: Host
  readonly runner: Runner
  readonly regions: readonly Region[]
  readonly defaultRegionId: string
  readonly clock: () => number
  readonly imagesPerRegionMax: number
  /** The folder that holds files an operator wants imported. */
  readonly importDirectory: string
}
