import { PACE_BYTES, Pace } from '../../objects/pace.ts'

/** What copies may read of a region, and what they may bring into it, a second; crosses threads, which count together. */
export interface CopyLimit {
  readonly bytesPerSecond: number
  readonly memory: SharedArrayBuffer
}

export type CopyDirection = 'out' | 'in'

const SLOTS = { out: 0, in: 1 } as const satisfies Record<CopyDirection, number>

/** Once for each region and process. */
export function shareCopyLimit(bytesPerSecond: number): CopyLimit {
  return { bytesPerSecond, memory: new SharedArrayBuffer(Object.keys(SLOTS).length * PACE_BYTES) }
}

/** The line of one direction, none where there is no limit. */
export function pacesOf(limit: CopyLimit | undefined, direction: CopyDirection): Pace[] {
  if (limit === undefined) return []
  const freeAt = new BigInt64Array(limit.memory, SLOTS[direction] * PACE_BYTES, 1)
  return [new Pace({ bytesPerSecond: limit.bytesPerSecond, freeAt })]
}
