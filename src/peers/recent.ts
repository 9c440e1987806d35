import type { PeerEndpointParts } from './contract.ts'

type MayRead = PeerEndpointParts['mayRead']

/** A copy asks some hundred times a second. A right that was taken away holds so much longer. */
const RECENT_MS = 5000
/** Some hundred bytes each. */
const RECENT_COUNT_MAX = 10_000

/** As `mayRead`, which is not asked again for 5 s after it said yes. A no is never kept. */
export function recently(mayRead: MayRead, clock: () => number = Date.now): MayRead {
  // In the order in which they were asked for.
  const saidAtMs = new Map<string, number>()
  // A clock that was set back makes nothing young again.
  const isRecent = (atMs: number | undefined) =>
    atMs !== undefined && clock() >= atMs && clock() - atMs < RECENT_MS
  return async (regionId, digest, projects) => {
    const key = JSON.stringify([regionId, digest, projects])
    if (isRecent(saidAtMs.get(key))) return true
    const askedAtMs = clock()
    const isGood = await mayRead(regionId, digest, projects)
    saidAtMs.delete(key)
    if (!isGood) return false
    saidAtMs.set(key, askedAtMs)
    for (const [one, atMs] of saidAtMs) {
      if (isRecent(atMs) && saidAtMs.size <= RECENT_COUNT_MAX) break
      saidAtMs.delete(one)
    }
    return true
  }
}
