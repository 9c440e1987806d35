import { rm } from 'node:fs/promises'
import { flushCompileCache } from 'node:module'
import { join } from 'node:path'
import type pino from 'pino'
import type { Parts } from './app/parts.ts'
import { createCleanerOf } from './cleaner.ts'
import { createSigner } from './cleaning/signature.ts'
import { runCli } from './cli/program.ts'
import { ensureFolder, ensureRunDirectory, lockData, readConfig } from './data-directory.ts'
import { parseSettings, type Settings } from './settings.ts'
import { createHost, createLog, createStores, serveRaw } from './stores.ts'
import type { CopyPace } from './tasks/parts.ts'

const SWEEP_MS = 60 * 1000
const MINUTE_MS = 60 * 1000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

export interface RunningServer {
  readonly url: string
  close(): Promise<void>
}

/**
 * Joins all parts and listens. What an earlier process left unfinished goes on by itself. A start that fails takes away
 * again what it had begun, in reverse, so that the process can end.
 */
export async function startServer(settings: Settings): Promise<RunningServer> {
  const closers: (() => unknown)[] = []
  const close = async () => {
    for (let last = closers.pop(); last !== undefined; last = closers.pop()) await last()
  }
  try {
    const url = await joinParts(settings, (closer) => closers.push(closer))
    return { url, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function joinParts(settings: Settings, onClose: (closer: () => unknown) => void): Promise<string> {
  await ensureFolder('data', settings.data, 0o700)
  await ensureFolder('importDirectory', settings.importDirectory)
  const lock = lockData(settings.data)
  onClose(() => lock.close())
  // Until this server answers itself, nobody is to be sent to the one before it.
  await rm(join(settings.data, 'endpoint'), { force: true })
  const { writePrivate } = await import('./secrets.ts')
  const [log, runDirectory] = await Promise.all([
    createLog(settings.logLevel),
    ensureRunDirectory(settings.data),
  ])
  const clock = () => Date.now()
  const { openSqliteCatalog } = await import('./catalog/sqlite.ts')
  const { ensureRoot } = await import('./app/first-start.ts')
  const catalog = await openSqliteCatalog(join(settings.data, 'catalog.db'))
  onClose(() => catalog.close())
  const given = settings.accessKey
  const root = await ensureRoot(
    catalog,
    given === undefined ? undefined : { keyId: given.id, secret: given.secret },
    clock(),
  )
  if (given === undefined) {
    const key = { accessKeyId: root.keyId, accessKeySecret: root.secret }
    await writePrivate(join(settings.data, 'access-key.json'), `${JSON.stringify(key, null, 2)}\n`)
  }

  const host = await createHost(settings, runDirectory, log)
  onClose(() => host.close())
  const note = ({ level = 'info', message, ...rest }: Record<string, unknown>) =>
    log[level as 'info'](rest, String(message))
  const { createPeerClients, peerPlaces } = await import('./peering.ts')
  const knownPeers = await peerPlaces(settings)
  const { jobs, nbdSocketPath, places } = await createStores(settings, runDirectory, note, knownPeers)
  onClose(() => jobs.close())
  await jobs.prepare()
  const cleaner = createCleanerOf(settings, runDirectory, note)
  // What an earlier process left open: its tasks clean again from the start.
  await closeCleanings(cleaner, note)
  onClose(() => closeCleanings(cleaner, note))
  const { ensureReportKey, ensureTransfersKey } = await import('./secrets.ts')
  const { createTransfers } = await import('./transfers.ts')
  const { RawFileExports } = await import('./host/export-file.ts')
  const transfersKey = await ensureTransfersKey(settings.data)
  const { intake, transfers } = createTransfers(settings, {
    runDirectory,
    rawFiles: new RawFileExports({ runDirectory, recordDirectory: join(settings.data, 'opened'), serveRaw }),
    key: transfersKey,
    log: note,
  })
  // Whose tasks go on inspects its file anew.
  await intake.reader.closeAll()
  onClose(() => intake.reader.closeAll())
  const { createEventLog } = await import('./tasks/events.ts')
  const events = createEventLog({ catalog, clock })
  const { atOnce, attempts, acrossProjects, repeatMinutes, pausedDays } = settings.copies
  const limits = new Map(settings.regions.map((region) => [region.id, region.copyBytesPerSecond]))
  const pace: CopyPace = { atOnce, limitOf: (regionId) => limits.get(regionId) }
  const taskParts = {
    copies: { ...pace, attempts },
    ...{ catalog, host, jobs, cleaner, sign: createSigner(await ensureReportKey(settings.data)) },
    ...{ clock, nbdSocketPath, importDirectory: settings.importDirectory, intake },
  }
  const runner = await createTasks(taskParts, events, note)
  onClose(() => runner.close())
  const ensured = await ensureAllRefs(taskParts, settings, note)
  const upkeep = await startUpkeep(taskParts, runner, settings, note)
  onClose(() => upkeep.close())
  const schedule = await startSchedule(taskParts, runner, settings, note)
  onClose(() => schedule.close())
  const { createWebhookParts } = await import('./webhooks.ts')
  const following = createWebhookParts(settings, { catalog, events, key: transfersKey, clock, log: note })
  const peers = createPeerClients(knownPeers)
  onClose(() => peers.close())
  const { createSourceLook } = await import('./tasks/source-look.ts')
  const { gateway, sweep, replicate, admitWebhook } = await createWire(
    {
      sources: createSourceLook(places),
      ...{ events, webhooks: following.webhooks, peers },
      copies: {
        ...{ ...pace, acrossProjects },
        repeatMs: repeatMinutes === 'off' ? undefined : repeatMinutes * MINUTE_MS,
        pausedMs: pausedDays === 'off' ? undefined : pausedDays * DAY_MS,
      },
      catalog,
      host,
      runner,
      jobs,
      clock,
      regions: settings.regions.map(({ id, localName, zones }) => ({
        id,
        localName: localName.zh,
        englishName: localName.en,
        zones,
      })),
      defaultRegionId: settings.defaultRegion,
      imagesPerRegionMax: settings.imagesPerRegionMax,
      snapshotsPerRegionMax: settings.snapshotsPerRegionMax,
      importDirectory: settings.importDirectory,
      secrets: settings.cleaning.secrets,
      transfers,
      upkeep: {
        gcGraceMs: settings.gc.graceHours * HOUR_MS,
        scrubBytesPerSecond: settings.scrub.bytesPerSecond,
        scrubEveryMs: (settings.scrub.everyDays === 'off' ? 7 : settings.scrub.everyDays) * DAY_MS,
      },
    },
    settings,
    log,
  )
  const { adoptMachines } = await import('./app/adopt.ts')
  const home = settings.regions.find((region) => region.id === settings.defaultRegion)
  const adopted = await adoptMachines(
    catalog,
    host,
    { regionId: settings.defaultRegion, zone: home?.zones[0] ?? '' },
    clock(),
  )
  onClose(() => gateway.close())
  const { url } = await gateway.listen(settings.listen.host, settings.listen.port)
  // Guests that kept running wait for their disks; then come the tasks that had not ended.
  const machine = await catalog.rows.selectFrom('machine').select('id').limit(1).executeTakeFirst()
  if (machine !== undefined) await jobs.serve()
  const resumed = await runner.resume()
  const endpointPath = join(settings.data, 'endpoint')
  await writePrivate(endpointPath, `${url}\n`)
  onClose(() => rm(endpointPath, { force: true }))
  const sender = await following.start(admitWebhook)
  onClose(() => sender.close())
  const endpoint = await startPeering(settings, catalog, places, note)
  if (endpoint !== undefined) onClose(() => endpoint.close())
  const replication = replicate(note)
  onClose(() => replication.close())
  await upkeep.look()
  // It logs what fails, and with many rules and images it takes long: nobody waits for it.
  void replication.look()
  await schedule.look()
  const sweeping = setInterval(() => {
    sweep().catch((error: unknown) => log.error({ error }, 'what time is over of could not be taken away'))
  }, SWEEP_MS)
  onClose(() => clearInterval(sweeping))
  log.info({ url, peering: endpoint?.url, data: settings.data, resumed, adopted, ensured }, 'ready')
  return url
}

/** A task that cleans takes away what is left of itself first, so that what does not go now stands in nobody's way. */
async function closeCleanings(
  cleaner: import('./cleaning/contract.ts').Cleaner,
  log: (record: Record<string, unknown>) => void,
): Promise<void> {
  const { isFault } = await import('./image/fault.ts')
  await cleaner.closeAll().catch((error: unknown) => {
    if (!isFault(error)) throw error
    log({ level: 'error', message: 'what cleanings left could not be taken away', error })
  })
}

/** Before any task goes on, and before any collection. A store that is away is asked again then. */
async function ensureAllRefs(
  parts: import('./tasks/parts.ts').TaskParts,
  settings: Settings,
  log: (record: Record<string, unknown>) => void,
): Promise<number> {
  const { ensureRefs } = await import('./tasks/ensure-refs.ts')
  const { isFault } = await import('./image/fault.ts')
  let newCount = 0
  for (const { id } of settings.regions) {
    newCount += await ensureRefs(parts, id, log).catch((error: unknown) => {
      if (!isFault(error)) throw error
      log({ level: 'error', message: 'the refs of a region could not be looked at', region: id, error })
      return 0
    })
  }
  return newCount
}

async function startUpkeep(
  { catalog, jobs, clock }: import('./tasks/parts.ts').TaskParts,
  runner: import('./tasks/runner.ts').Runner,
  { gc, scrub, regions }: Settings,
  log: (record: Record<string, unknown>) => void,
) {
  const { createUpkeep } = await import('./tasks/upkeep.ts')
  return createUpkeep({
    ...{ catalog, runner, jobs, clock, log },
    regionIds: regions.map(({ id }) => id),
    gcEveryMs: gc.everyHours === 'off' ? undefined : gc.everyHours * HOUR_MS,
    gcGraceMs: gc.graceHours * HOUR_MS,
    scrubEveryMs: scrub.everyDays === 'off' ? undefined : scrub.everyDays * DAY_MS,
    scrubBytesPerSecond: scrub.bytesPerSecond,
  })
}

async function startSchedule(
  { catalog, clock }: import('./tasks/parts.ts').TaskParts,
  runner: import('./tasks/runner.ts').Runner,
  { snapshotsPerRegionMax }: Settings,
  log: (record: Record<string, unknown>) => void,
) {
  const { createSnapshotSchedule } = await import('./tasks/snapshot-policies.ts')
  return createSnapshotSchedule({ catalog, runner, clock, snapshotsPerRegionMax, log })
}

/** What other installations read of ours, where the settings let them. */
async function startPeering(
  settings: Settings,
  catalog: Parts['catalog'],
  places: Parameters<typeof import('./tasks/threads/peer-endpoint.ts').startPeerEndpoint>[0]['places'],
  log: (record: Record<string, unknown>) => void,
) {
  const { listen } = settings.peering
  if (listen === 'off') return undefined
  const { startPeerEndpoint } = await import('./tasks/threads/peer-endpoint.ts')
  const { createPeerReading } = await import('./app/peer-reading.ts')
  const { peerReaders } = await import('./peering.ts')
  const { ensurePeerIdentity } = await import('./secrets.ts')
  const identity = await ensurePeerIdentity(settings.data)
  const readers = peerReaders(settings)
  return startPeerEndpoint({ places, listen, identity, readers }, createPeerReading(catalog), log)
}

async function createTasks(
  parts: import('./tasks/parts.ts').TaskParts,
  events: import('./tasks/event-log.ts').EventLog,
  log: (record: Record<string, unknown>) => void,
) {
  const { createRunner } = await import('./tasks/runner.ts')
  const power = await import('./tasks/machine-power.ts')
  const { captureImage, createSnapshot } = await import('./tasks/capture-image.ts')
  const { planCapture } = await import('./tasks/plan-capture.ts')
  const { composeImage } = await import('./tasks/compose-image.ts')
  const { cleanImage, planClean } = await import('./tasks/clean-image.ts')
  const { resetDisk } = await import('./tasks/reset-disk.ts')
  const { copyImage } = await import('./tasks/copy-image.ts')
  const { copyBatch } = await import('./tasks/copy-batch.ts')
  const { planCopy } = await import('./tasks/plan-copy.ts')
  const { importImage } = await import('./tasks/import-image.ts')
  const { verifyRegion } = await import('./tasks/verify-region.ts')
  const { releaseImage } = await import('./tasks/release-image.ts')
  const { collectGarbage } = await import('./tasks/collect-garbage.ts')
  const { repairDamage, scrubRegion } = await import('./tasks/scrub-region.ts')
  const { exportImage } = await import('./tasks/export-image.ts')
  const runner: import('./tasks/runner.ts').Runner = createRunner({
    catalog: parts.catalog,
    clock: parts.clock,
    ...{ log, events, copiesAtOnce: parts.copies.atOnce },
    definitions: [
      captureImage(parts),
      createSnapshot(parts),
      planCapture(parts),
      composeImage(parts),
      cleanImage(parts),
      planClean(parts),
      resetDisk(parts),
      copyImage(parts),
      copyBatch(parts, () => runner),
      planCopy(parts),
      importImage(parts),
      exportImage(parts),
      verifyRegion(parts),
      releaseImage(parts, () => runner),
      collectGarbage(parts, log),
      scrubRegion(parts),
      repairDamage(parts),
      power.launchMachine(parts),
      power.startMachine(parts),
      power.stopMachine(parts),
      power.deleteMachine(parts),
    ],
  })
  return runner
}

async function createWire(parts: Parts, settings: Settings, log: pino.Logger) {
  const { createApp } = await import('./app/app.ts')
  const { createGateway } = await import('./wire/gateway.ts')
  const { createWuyingDoor } = await import('./wire/wuying/door.ts')
  const { createUhostDoor } = await import('./wire/uhost/door.ts')
  const { createNativeDoor } = await import('./wire/native/door.ts')
  const { app, keyring, sweep, replicate, admitWebhook } = createApp(parts)
  const common = {
    app,
    keyring,
    clock: parts.clock,
    clockWindowMs: settings.clockSkewMinutes * 60_000,
    onBug: (error: unknown, requestId: string) => log.error({ error, requestId }, 'a bug'),
  }
  const gateway = createGateway({
    doors: {
      native: createNativeDoor(common),
      wuying: createWuyingDoor(common),
      uhost: createUhostDoor({
        app,
        keyring,
        nowMs: parts.clock,
        report: common.onBug,
        ...(settings.uhostReplayWindowSeconds === 'off'
          ? {}
          : { strictReplayWindowMs: settings.uhostReplayWindowSeconds * 1000 }),
      }),
    },
    bodyLimitBytes: settings.bodyLimitBytes,
    log: (record) => log[record.status >= 500 ? 'warn' : 'debug'](record, 'request'),
  })
  return { gateway, sweep, replicate, admitWebhook }
}

/** `calotype serve`: until a signal ends it. */
async function serve(flags: Readonly<Record<string, string | undefined>>): Promise<void> {
  const { config, ...rest } = flags
  const settings = parseSettings({
    ...(config === undefined ? {} : { file: { path: config, text: readConfig(config) } }),
    environment: process.env,
    flags: rest,
  })
  const server = await startServer(settings)
  console.log(`calotype answers at ${server.url}`)
  console.log(
    settings.accessKey === undefined
      ? `the first access key is in ${join(settings.data, 'access-key.json')}`
      : 'the first access key is the one of the environment',
  )
  const stop = (signal: string) => {
    console.log(`${signal}: finishing; machines keep running`)
    server.close().then(
      () => process.exit(0),
      (error: unknown) => {
        console.error(error)
        process.exit(1)
      },
    )
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
  // Else only a polite end would keep what was compiled, and the next start after a crash would be slow.
  flushCompileCache()
}

if (import.meta.main) {
  process.exitCode = await runCli(process.argv.slice(2), {
    serve,
    offline: async () => (await import('./offline.ts')).offline,
    doctor: async () => (await import('./doctor.ts')).examineHost(),
    peerIdentity: async (flags) => (await import('./peering.ts')).readPeerIdentity(flags),
  })
  // A start that failed halfway may have left sockets and timers behind, which would keep the process.
  if (process.exitCode !== 0) process.exit()
}
