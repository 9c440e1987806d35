import { parentPort, workerData } from 'node:worker_threads'
import { serveNbd } from '../../disk/nbd-server.ts'
import { Fault } from '../../image/fault.ts'
import { parseHash } from '../../image/ids.ts'
import { openImageDisk } from '../../store/reader.ts'
import type { RegionStore } from '../../store/region.ts'
import { openRegion, type RegionPlace } from './region.ts'

/**
 * The NBD server over all images: an export's name says region, digest and disk, so nothing else needs to be known
 * of it, and a restarted server answers for guests that kept running.
 */
export interface ServeData {
  readonly places: readonly RegionPlace[]
  readonly socketPath: string
}

const { places, socketPath } = workerData as ServeData
const regions = new Map<string, Promise<RegionStore>>()

function regionOf(place: RegionPlace): Promise<RegionStore> {
  let region = regions.get(place.regionId)
  if (region === undefined) {
    region = openRegion(place)
    regions.set(place.regionId, region)
    region.catch(() => regions.delete(place.regionId))
  }
  return region
}

const server = await serveNbd({
  listen: { socketPath },
  async resolve(exportName) {
    const [regionId, digest, index, ...rest] = exportName.split('/')
    const place = places.find((each) => each.regionId === regionId)
    if (place === undefined || digest === undefined || !/^\d$/.test(index ?? '') || rest.length > 0) {
      throw new Fault('absent', `There is no export '${exportName.slice(0, 200)}'.`, { subject: 'disk' })
    }
    return openImageDisk(await regionOf(place), parseHash('digest', digest), Number(index))
  },
  report: (error) => parentPort?.postMessage({ is: 'report', message: String(error) }),
})

parentPort?.postMessage({ is: 'ready' })
parentPort?.on('message', async () => {
  await server.close()
  for (const region of regions.values()) (await region).close()
  process.exit()
})
