import type { CleaningPlan } from '../guest/contract.ts'
import type { CleaningWish } from '../image/cleaning.ts'
import type { FaultKind, FaultSubject } from '../image/fault.ts'
import type { DiskLayout, FoundVolume, RefusalReason } from '../volume/contract.ts'

/** What the service and the examiner, its child process, say to each other: a line of JSON each, in turn. */

export interface RefusedVolume {
  /** Position among all volumes of all disks, in order: that of the report. */
  readonly volume: number
  readonly reason: RefusalReason
  readonly message: string
}

/** How a volume is made clean: file systems by their own scrub. */
export interface ScrubOrder {
  readonly volume: number
  readonly how: 'files' | 'swap' | 'zero'
}

export type Ask =
  /** Finds the volumes and opens those with files, to see whether they can be; but for those that are `left` as they are. */
  | { readonly is: 'look'; readonly left: readonly number[] }
  /** Opens these volumes anew, as the appliance may have changed them, and makes the plan. */
  | { readonly is: 'plan'; readonly volumes: readonly number[]; readonly wish: CleaningWish }
  /** Carries out what of the last plan is not the appliance's. */
  | { readonly is: 'apply' }
  | { readonly is: 'scrub'; readonly orders: readonly ScrubOrder[] }
  | { readonly is: 'check'; readonly orders: readonly ScrubOrder[] }
  /** Looks for a system on one of the disks: alone, without any of the others. */
  | { readonly is: 'detect'; readonly disk: number }

export interface SeenVolume extends FoundVolume {
  /** Of a volume with files that can be opened. */
  readonly opened?: { readonly label: string; readonly needsReplay: boolean }
  readonly refusal?: { readonly reason: RefusalReason; readonly message: string }
}

export interface Look {
  readonly disks: readonly {
    readonly scheme: DiskLayout['scheme']
    readonly volumes: readonly SeenVolume[]
  }[]
}

export interface Planned {
  /** Its edits are those of the appliance. Absent where volumes are refused now: ask again without them. */
  readonly plan?: CleaningPlan
  readonly refused: readonly RefusedVolume[]
}

export interface ScrubbedVolume {
  readonly volume: number
  readonly places: readonly { readonly what: string; readonly count: number; readonly bytes: number }[]
}

export interface ScrubAnswer {
  readonly volumes: readonly ScrubbedVolume[]
  readonly gapBytes: number
}

export interface CheckAnswer {
  /** Places that a scrub would still change. */
  readonly differenceCount: number
  /** Things that a plan would still take away. */
  readonly leftCount: number
}

/** Why an ask failed. A bug of ours is told by the places in our sources alone: its message may hold the disk's bytes. */
export type Failure =
  | {
      readonly is: 'fault'
      readonly kind: FaultKind
      readonly subject: FaultSubject
      readonly reason: string | null
      readonly message: string
      /** The volume that was worked on, -1 for none. */
      readonly volume: number
    }
  | { readonly is: 'bug'; readonly name: string; readonly places: readonly string[]; readonly volume: number }

/** Before the reply, as often as it changes: the volume that is worked on, so that it is known if no reply comes. */
export interface At {
  readonly is: 'at'
  readonly volume: number
}

export type Reply<Value> =
  | { readonly is: 'answer'; readonly value: Value }
  | { readonly is: 'failure'; readonly failure: Failure }

/** The name of the `index`th overlay's export. */
export function exportNameOf(index: number): string {
  return `d${index}`
}
