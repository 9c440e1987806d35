import { join } from 'node:path'
import type pino from 'pino'
import type { Host } from './host/contract.ts'
import type { ServeRaw } from './host/tools/still-exports.ts'
import { Fault } from './image/fault.ts'
import type { PeerPlace } from './peers/contract.ts'
import type { Settings } from './settings.ts'
import type { StoreJobs } from './tasks/store-jobs.ts'
import type { RegionPlace } from './tasks/threads/region.ts'

// What a server and the commands that work without one are joined from alike.

export async function createLog(level: Settings['logLevel']): Promise<pino.Logger> {
  const { default: pino } = await import('pino')
  return pino(
    { level, base: null, errorKey: 'error', timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  )
}

export async function createHost(settings: Settings, runDirectory: string, log: pino.Logger): Promise<Host> {
  const directory = join(settings.data, 'machines')
  switch (settings.host.driver) {
    case 'qemu': {
      const { createQemuHost } = await import('./host/qemu/host.ts')
      return createQemuHost({
        directory,
        runDirectory,
        acceleration: settings.host.acceleration,
        graceMs: settings.host.graceSeconds * 1000,
        log: (text, detail) => log.info({ ...detail }, text),
      })
    }
    case 'files': {
      const { createFilesHost } = await import('./host/files/host.ts')
      return createFilesHost({ directory, runDirectory, serveRaw })
    }
    case 'simulated': {
      const { createSimulation } = await import('./simulation.ts')
      return createSimulation(runDirectory)
    }
    default:
      settings.host.driver satisfies never
      throw new Error('unreachable')
  }
}

/** Where `qemu-nbd` is not installed, raw files are served by ourselves. */
export const serveRaw: ServeRaw = async (path, { socketPath, exportName }) => {
  const { serveNbd } = await import('./disk/nbd-server.ts')
  const { fileDisk } = await import('./disk/file-disk.ts')
  return serveNbd({
    listen: { socketPath },
    async resolve(name) {
      if (name === exportName) return fileDisk(path)
      throw new Fault('absent', `There is no export '${name}'.`, { subject: 'disk' })
    },
  })
}

/** The stores of all regions. A region key that does not fit is refused here. */
export async function createStores(
  settings: Settings,
  runDirectory: string,
  log: (record: Record<string, unknown>) => void,
  peers: readonly PeerPlace[] = [],
): Promise<{
  readonly jobs: StoreJobs
  readonly nbdSocketPath: string
  readonly places: readonly RegionPlace[]
}> {
  const { ensureDomainsKey, ensureRegionKey, ensureTransfersKey } = await import('./secrets.ts')
  const { transferKeys } = await import('./transfers.ts')
  const domainsKey = await ensureDomainsKey(settings.data)
  const { shareLimits } = await import('./objects/open.ts')
  const { shareCopyLimit } = await import('./tasks/threads/copy-limits.ts')
  const placeOf = async (region: Settings['regions'][number]) => {
    const objects = shareLimits(region.objects)
    return {
      regionId: region.id,
      objects,
      indexPath: join(settings.data, 'regions', region.id, 'index.db'),
      domainsKey,
      regionKey: await ensureRegionKey({
        data: settings.data,
        regionId: region.id,
        objects,
        given: settings.regionKeys[region.id],
        old: settings.oldRegionKeys[region.id],
      }),
      isEncrypting: settings.encryption === 'on',
      ...(region.copyBytesPerSecond === undefined
        ? {}
        : { copyLimit: shareCopyLimit(region.copyBytesPerSecond) }),
    }
  }
  const nbdSocketPath = join(runDirectory, 'images.sock')
  const { createJobs } = await import('./tasks/threads/jobs.ts')
  const places = await Promise.all(settings.regions.map(placeOf))
  const jobs = createJobs({
    places,
    peers,
    ...(settings.copies.cacheBytes === 0
      ? {}
      : { cacheFolder: join(settings.data, 'copies'), cacheBytesMax: settings.copies.cacheBytes }),
    threadCount: settings.capture.workers,
    nbdSocketPath,
    bundleSeed: transferKeys(await ensureTransfersKey(settings.data)).bundles,
    log,
  })
  return { jobs, nbdSocketPath, places }
}
