import type { ImageId, ProjectId, RegionId } from './ids.ts'

/**
 * How a copy comes about. reference: the region holds the content already, and nothing is moved · pull: what the target
 * lacks is fetched as it is stored · rekey: read and written anew with the keys of the target's project, so that the two
 * projects share nothing; the copy's digest is another one.
 */
export const COPY_WAYS = ['reference', 'pull', 'rekey'] as const
export type CopyWay = (typeof COPY_WAYS)[number]

/** Where the image is that is copied. A peer is another installation; its region's id is its own word. */
export type CopySource =
  | { readonly is: 'region'; readonly regionId: RegionId }
  | { readonly is: 'peer'; readonly peer: string; readonly regionId: string }

/** What a copy to one target would do; the output of a 'plan-copy' task holds one for each. */
export interface CopyTargetPlan {
  readonly regionId: RegionId
  readonly way: CopyWay
  /** Stored bytes: to be fetched, and not because the target has them. Null where a blocker kept us from looking. */
  readonly moveBytes: number | null
  readonly savedBytes: number | null
  /** What the copy will be charged for. */
  readonly chargedBytes: number
  /** Null in a bucket, where nobody can say. */
  readonly freeBytes: number | null
  /** At the rate that this way had last, or its limit; null where neither is known. */
  readonly estimateMs: number | null
  /** Why the copy would be refused or fail as things are; empty where it would go. */
  readonly blockers: readonly string[]
}

export interface CopyPlan {
  readonly targets: readonly CopyTargetPlan[]
  readonly moveBytes: number
  /** All of them, as many at once as the settings allow; null where one of them is not known. */
  readonly estimateMs: number | null
  readonly isPossible: boolean
}

/** Copies new images of a region by itself. */
export interface ReplicationRule {
  readonly id: string
  readonly projectId: ProjectId
  readonly regionId: RegionId
  readonly name: string
  readonly filter: ReplicationFilter
  readonly targetProjectId: ProjectId
  readonly targetRegionIds: readonly RegionId[]
  /** How many of its copies stay in each target, the newest; null for all. */
  readonly keepCount: number | null
  readonly isEnabled: boolean
  /** The name of the user who made it: its copies are asked for in that name. */
  readonly creator: string
  readonly createdAtMs: number
  readonly lastDoneAtMs: number | undefined
  readonly lastFailedAtMs: number | undefined
  readonly lastReason: string | undefined
}

/** An image fits if it fits all that is said. */
export interface ReplicationFilter {
  /** With * for any text and ? for one character. */
  readonly namePattern?: string | undefined
  readonly tag?: string | undefined
  /** Itself, or made of it, in however many steps. */
  readonly familyOf?: ImageId | undefined
}
