import { totalmem } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { serveNbd } from '../../disk/nbd-server.ts'
import { Fault } from '../../image/fault.ts'
import { parseHash } from '../../image/ids.ts'
import { ChunkCache } from '../../store/cache.ts'
import { ChunkReader } from '../../store/chunk-reader.ts'
import { onDamage } from '../../store/damage.ts'
import { openImageDisk } from '../../store/reader.ts'
import { openRegionStore, type RegionStore } from '../../store/region.ts'
import { Peers } from './peers.ts'
import { type RegionPlace, regionOptions } from './region.ts'

/**
 * The NBD server over all images: an export's name says region, digest and disk, so nothing else needs to be known
 * of it, and a restarted server answers for guests that kept running.
 */
export interface ServeData {
  readonly places: readonly RegionPlace[]
  readonly socketPath: string
  /** The most decoded chunks that are kept in memory, all regions and guests together. */
  readonly cacheBytes?: number
}

const MIB = 1024 ** 2

/**
 * An eighth of the machine: what is not in it costs a guest a millisecond for each chunk, but the rest is the guests'.
 * What all guests read while they start is a few hundred MiB for each image, so that 2 GiB hold several of them.
 */
function defaultCacheBytes(): number {
  return Math.min(2048 * MIB, Math.max(128 * MIB, Math.floor(totalmem() / 8)))
}

const { places, socketPath, cacheBytes = defaultCacheBytes() } = workerData as ServeData
/** One for all: the same chunk of one domain has the same id in every region. */
const cache = new ChunkCache(cacheBytes)
const regions = new Map<string, Promise<{ region: RegionStore; chunks: ChunkReader }>>()

/** Who is asked for a chunk that is damaged here, while the guest waits. */
const peers = new Peers(places)

async function open(place: RegionPlace): Promise<{ region: RegionStore; chunks: ChunkReader }> {
  const { regionId } = place
  const rescue = peers.rescueFor(regionId)
  const region = await openRegionStore({ ...(await regionOptions(place)), rescue })
  onDamage(region, () => parentPort?.postMessage({ is: 'damage', regionId }))
  return { region, chunks: new ChunkReader(region, '', cache) }
}

function regionOf(place: RegionPlace): Promise<{ region: RegionStore; chunks: ChunkReader }> {
  let region = regions.get(place.regionId)
  if (region === undefined) {
    region = open(place)
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
    const { region, chunks } = await regionOf(place)
    return openImageDisk(region, parseHash('digest', digest), Number(index), { chunks })
  },
  report: (error) => parentPort?.postMessage({ is: 'report', message: String(error) }),
})

parentPort?.postMessage({ is: 'ready' })
parentPort?.on('message', async () => {
  await server.close()
  for (const opened of regions.values()) {
    const { region, chunks } = await opened
    chunks.close()
    region.close()
  }
  await peers.close()
  process.exit()
})
