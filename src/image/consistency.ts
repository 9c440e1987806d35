/**
 * What disks are worth at a moment, from least to most. 'crash': as after a power cut. 'filesystem': every mounted file
 * system was frozen, so none needs repair. 'application': programs had put their data in order as well (Windows' VSS
 * writers), or the guest had been shut down.
 */
export const CONSISTENCIES = ['crash', 'filesystem', 'application'] as const
export type Consistency = (typeof CONSISTENCIES)[number]

/** 'best': the most that can be had; a level: that one or more, or nothing at all. */
export type WantedConsistency = 'best' | Consistency

export function isEnough(reached: Consistency, wanted: WantedConsistency): boolean {
  return wanted === 'best' || CONSISTENCIES.indexOf(reached) >= CONSISTENCIES.indexOf(wanted)
}
