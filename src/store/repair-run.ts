import type { ChunkId, Digest } from '../image/ids.ts'
import type { Damage } from './damage.ts'
import type { RegionStore } from './region.ts'

export interface RepairOptions {
  readonly region: RegionStore
  /** Stores of other regions, in the order in which they are asked. They are read and not written. */
  readonly peers: readonly RegionStore[]
  readonly signal?: AbortSignal
}

/** What is damaged and found nowhere else, as exactly as it is known; `offset` is a byte of the disk. */
export interface LostPart {
  readonly message: string
  readonly image?: Digest
  readonly diskIndex?: number
  readonly offset?: number
  readonly chunk?: ChunkId
}

export interface RepairReport {
  /** Objects that are whole again, or whose content is in new ones; the first thousand. */
  readonly mended: readonly { readonly name: string; readonly message: string }[]
  readonly mendedCount: number
  /** Stays listed until it is found or its images go; the first thousand. */
  readonly lost: readonly LostPart[]
  readonly lostCount: number
  /** Packs that could not be mended now, because a writer relies on them or they are changing: the next repair does. */
  readonly waiting: readonly { readonly name: string; readonly why: string }[]
  /** Holders whose refs were damaged: they keep what they need, but the label is gone. To be set again. */
  readonly unlabelledHolders: readonly string[]
}

/** What a repair has found out so far. */
export interface RepairRun {
  readonly damage: Damage
  mended(name: string, message: string): void
  lost(part: LostPart): void
  lostChunk(chunk: ChunkId): void
  waiting(name: string, why: string): void
  unlabelled(holder: string): void
}
