import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { access, chmod, constants, lstat, mkdir, rm } from 'node:fs/promises'
import { flushCompileCache } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type pino from 'pino'
import type { Parts } from './app/parts.ts'
import { runCli } from './cli/program.ts'
import type { ServeRaw } from './host/tools/still-exports.ts'
import { Fault } from './image/fault.ts'
import { parseSettings, type Settings } from './settings.ts'

/** A unix socket's path has at most 107 bytes, and the names below this folder take up to 37. */
const RUN_DIRECTORY_BYTES_MAX = 70

/** Makes a folder that a setting names. Throws Fault 'invalid' that names the setting. */
async function ensureFolder(setting: string, path: string, mode = 0o755): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode })
    if (mode === 0o700) await chmod(path, mode)
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'it is no directory'
    throw new Fault(
      'invalid',
      `The setting ${setting} takes a directory that can be made and written; ${path} cannot (${why}).`,
      { field: setting, cause },
    )
  }
}

/** The text of the settings file. Throws Fault 'invalid' that names the flag. */
function readConfig(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code
    throw new Fault(
      'invalid',
      `The flag --config takes a YAML file that can be read; ${path} cannot (${why}).`,
      {
        field: 'config',
        cause,
      },
    )
  }
}

/** The folder for sockets: in the data directory where the path is short enough, else one of its own. */
async function ensureRunDirectory(data: string): Promise<string> {
  const inside = join(data, 'run')
  const short = join(tmpdir(), `calotype-${createHash('sha256').update(data).digest('hex').slice(0, 12)}`)
  const path = Buffer.byteLength(inside) <= RUN_DIRECTORY_BYTES_MAX ? inside : short
  await mkdir(path, { recursive: true, mode: 0o700 })
  // In the common folder for temporary files somebody else may have made it first, to reach our sockets.
  const found = await lstat(path)
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new Fault('conflict', `${path} belongs to somebody else. Remove it, or give a shorter --data.`)
  }
  await chmod(path, 0o700)
  return path
}

/** Held as long as this process lives, however it ends. Throws Fault 'conflict' if another server has it. */
function lockData(data: string): DatabaseSync {
  const lock = new DatabaseSync(join(data, 'lock.db'))
  try {
    lock.exec('pragma locking_mode = exclusive; begin exclusive; pragma user_version = 1; commit')
    return lock
  } catch (cause) {
    lock.close()
    throw new Fault('conflict', `Another server uses ${data}. Stop it first, or give another --data.`, {
      cause,
    })
  }
}

async function createLog(level: Settings['logLevel']): Promise<pino.Logger> {
  const { default: pino } = await import('pino')
  return pino(
    { level, base: null, errorKey: 'error', timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  )
}

async function createHost(settings: Settings, runDirectory: string, log: pino.Logger) {
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
const serveRaw: ServeRaw = async (path, { socketPath, exportName }) => {
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
  const { ensureDomainsKey, ensureRegionKey, writePrivate } = await import('./secrets.ts')
  const [log, runDirectory, domainsKey] = await Promise.all([
    createLog(settings.logLevel),
    ensureRunDirectory(settings.data),
    ensureDomainsKey(settings.data),
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
  const nbdSocketPath = join(runDirectory, 'images.sock')
  const note = ({ level = 'info', message, ...rest }: Record<string, unknown>) =>
    log[level as 'info'](rest, String(message))
  const placeOf = async (region: Settings['regions'][number]) => ({
    regionId: region.id,
    objectsFolder: region.objects,
    indexPath: join(settings.data, 'regions', region.id, 'index.db'),
    domainsKey,
    regionKey: await ensureRegionKey({
      data: settings.data,
      regionId: region.id,
      objectsFolder: region.objects,
      given: settings.regionKeys[region.id],
      old: settings.oldRegionKeys[region.id],
    }),
    isEncrypting: settings.encryption === 'on',
  })
  const { createJobs } = await import('./tasks/threads/jobs.ts')
  const jobs = createJobs({
    places: await Promise.all(settings.regions.map(placeOf)),
    threadCount: settings.capture.workers,
    nbdSocketPath,
    log: note,
  })
  onClose(() => jobs.close())
  await jobs.prepare()
  const taskParts = { catalog, host, jobs, clock, nbdSocketPath, importDirectory: settings.importDirectory }
  const runner = await createTasks(
    taskParts,
    { runDirectory, recordDirectory: join(settings.data, 'opened'), serveRaw },
    note,
  )
  onClose(() => runner.close())
  const gateway = await createWire(
    {
      catalog,
      host,
      runner,
      clock,
      regions: settings.regions.map(({ id, localName, zones }) => ({
        id,
        localName: localName.zh,
        englishName: localName.en,
        zones,
      })),
      defaultRegionId: settings.defaultRegion,
      imagesPerRegionMax: settings.imagesPerRegionMax,
      importDirectory: settings.importDirectory,
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
  log.info({ url, data: settings.data, resumed, adopted }, 'ready')
  return url
}

async function createTasks(
  parts: import('./tasks/parts.ts').TaskParts,
  where: ConstructorParameters<typeof import('./host/export-file.ts').RawFileExports>[0],
  log: (record: Record<string, unknown>) => void,
) {
  const { createRunner } = await import('./tasks/runner.ts')
  const power = await import('./tasks/machine-power.ts')
  const { captureImage } = await import('./tasks/capture-image.ts')
  const { copyBatch, copyImage } = await import('./tasks/copy-image.ts')
  const { importImage } = await import('./tasks/import-image.ts')
  const { verifyRegion } = await import('./tasks/verify-region.ts')
  const { RawFileExports } = await import('./host/export-file.ts')
  const runner: import('./tasks/runner.ts').Runner = createRunner({
    catalog: parts.catalog,
    clock: parts.clock,
    log,
    definitions: [
      captureImage(parts),
      copyImage(parts),
      copyBatch(parts, () => runner),
      importImage(parts, new RawFileExports(where)),
      verifyRegion(parts),
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
  const { app, keyring } = createApp(parts)
  const common = {
    app,
    keyring,
    clock: parts.clock,
    clockWindowMs: settings.clockSkewMinutes * 60_000,
    onBug: (error: unknown, requestId: string) => log.error({ error, requestId }, 'a bug'),
  }
  return createGateway({
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
  process.exitCode = await runCli(process.argv.slice(2), { serve })
  // A start that failed halfway may have left sockets and timers behind, which would keep the process.
  if (process.exitCode !== 0) process.exit()
}
