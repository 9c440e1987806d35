import type {
  CleaningOperation,
  CleaningWish,
  FoundSecret,
  KeptItem,
  RemovedItem,
} from '../image/cleaning.ts'
import type { Edit, FileSystem } from '../volume/contract.ts'

/** A volume with files, as the plan sees it. `index`: its position in the report's list of volumes. */
export interface GuestVolume {
  readonly index: number
  readonly diskIndex: number
  readonly partition: number
  readonly files: FileSystem
}

export interface PlannedEdit {
  readonly volume: number
  readonly operation: CleaningOperation
  readonly edit: Edit
}

/** Everything that is to happen, before anything does; the same for a dry run and a real one. */
export interface CleaningPlan {
  /** Those of one volume in the order in which they are done. No two concern the same path, nor one beneath another's. */
  readonly edits: readonly PlannedEdit[]
  readonly removed: readonly RemovedItem[]
  readonly kept: readonly KeptItem[]
  readonly secrets: readonly FoundSecret[]
  readonly warnings: readonly string[]
  /** By volume index: where its Linux mounts it ('/', '/home'); absent for others. */
  readonly mountPoints: Readonly<Record<number, string>>
  /** Set when the plan itself cannot be made as wished (a registry that is damaged or has unwritten changes): reason and message as of a refusal. */
  readonly refusals: readonly { readonly volume: number; readonly message: string }[]
}

/** Pure but for reading the volumes. Throws what their file systems throw. */
export type MakePlan = (volumes: readonly GuestVolume[], wish: CleaningWish) => Promise<CleaningPlan>
