import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Offline, OfflineFlags } from './cli/commands/offline.ts'
import { ensureRunDirectory, lockData, readConfig } from './data-directory.ts'
import { Fault } from './image/fault.ts'
import type { RegionId } from './image/ids.ts'
import { parseSettings, type Settings } from './settings.ts'
import { createHost, createLog, createStores } from './stores.ts'
import type { StoreJobs } from './tasks/store-jobs.ts'

interface Place {
  readonly settings: Settings
  readonly jobs: StoreJobs
  readonly regionIds: readonly RegionId[]
  readonly runDirectory: string
  readonly log: Awaited<ReturnType<typeof createLog>>
}

/**
 * Runs `work` on a data directory that no server uses, with the settings that a server would have. Faults: 'conflict' if
 * one does use it, 'absent' for a directory or region that there is not.
 */
async function withPlace<Result>(
  { config, ...flags }: OfflineFlags,
  names: readonly string[] | undefined,
  work: (place: Place) => Promise<Result>,
): Promise<Result> {
  const settings = parseSettings({
    ...(config === undefined ? {} : { file: { path: config, text: readConfig(config) } }),
    environment: process.env,
    flags,
  })
  // A mistyped path is not to become a new data directory.
  if (!(await stat(settings.data).catch(() => undefined))?.isDirectory()) {
    throw new Fault(
      'absent',
      `There is no data directory ${settings.data}. Give the server's own with --data.`,
    )
  }
  const known = settings.regions.map(({ id }) => id)
  const regionIds = names === undefined ? known : names.map((name) => regionOf(name, known))
  const lock = lockData(settings.data)
  try {
    const log = await createLog('error')
    const runDirectory = await ensureRunDirectory(settings.data)
    const note = ({ message, ...rest }: Record<string, unknown>) => log.warn(rest, String(message))
    const { jobs } = await createStores(settings, runDirectory, note)
    try {
      return await work({ settings, jobs, regionIds, runDirectory, log })
    } finally {
      await jobs.close()
    }
  } finally {
    lock.close()
  }
}

function regionOf(name: string, known: readonly RegionId[]): RegionId {
  const id = known.find((one) => one === name)
  if (id !== undefined) return id
  throw new Fault('absent', `There is no region '${name}'. There are ${known.join(', ')}.`, {
    subject: 'region',
  })
}

/** What `calotype store rebuild-…` does: for the day on which the database is gone. */
export const offline: Offline = {
  rebuildIndex: (flags, names, tell) =>
    withPlace(flags, names, async ({ jobs, regionIds }) => {
      const reports = []
      for (const regionId of regionIds) {
        const onPack = (packCount: number) => tell(`${regionId}: ${packCount} packs`)
        const report = await jobs.rebuildIndex(regionId, onPack, new AbortController().signal)
        reports.push({ regionId, ...report })
      }
      return reports
    }),

  rebuildCatalog: (flags, names, tell) =>
    withPlace(flags, names, async ({ settings, jobs, regionIds, runDirectory, log }) => {
      const { openSqliteCatalog } = await import('./catalog/sqlite.ts')
      const { rebuildCatalog } = await import('./app/rebuild-catalog.ts')
      const catalog = await openSqliteCatalog(join(settings.data, 'catalog.db'))
      const host = await createHost(settings, runDirectory, log)
      try {
        const given = settings.accessKey
        const rootKey = given === undefined ? undefined : { keyId: given.id, secret: given.secret }
        return await rebuildCatalog(
          { catalog, host, jobs, clock: Date.now, rootKey },
          regionIds,
          (regionId, done, total) => tell(`${regionId}: ${done} of ${total} images looked at`),
          new AbortController().signal,
        )
      } finally {
        await host.close()
        await catalog.close()
      }
    }),
}
