import type { RegionId } from '../../image/ids.ts'
import { type RepairReport, repair } from '../../store/repair.ts'
import { Peers } from './peers.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface RepairData {
  /** All regions of the installation: those that are not mended are asked for what is lost. */
  readonly places: readonly RegionPlace[]
  readonly regionId: RegionId
}

inThread(async ({ places, regionId }: RepairData, { signal }): Promise<RepairReport> => {
  const own = places.find((place) => place.regionId === regionId)
  if (own === undefined) throw new Error(`no place of region ${regionId}`)
  const region = await openRegion(own)
  const others = new Peers(places)
  try {
    const opened = await Promise.all(
      places.filter((place) => place !== own).map((place) => others.open(place)),
    )
    // One that is away, or has other keys, cannot help; others may.
    const peers = opened.filter((peer) => peer !== undefined)
    return await repair({ region, peers, signal })
  } finally {
    await others.close()
    region.close()
  }
})
