import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, rename, rm, writeFile } from 'node:fs/promises'
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

/** The folder for sockets: in the data directory where the path is short enough, else one of its own. */
async function ensureRunDirectory(data: string): Promise<string> {
  const inside = join(data, 'run')
  const short = join(tmpdir(), `calotype-${createHash('sha256').update(data).digest('hex').slice(0, 12)}`)
  const path = Buffer.byteLength(inside) <= RUN_DIRECTORY_BYTES_MAX ? inside : short
  await mkdir(path, { recursive: true, mode: 0o700 })
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

/** Written whole or not at all, readable by its owner alone. */
async function writePrivate(path: string, text: string | Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600, flush: true })
  await rename(`${path}.new`, path)
}

/** The secret that the id keys of all domains are derived from, made at the first start. */
async function ensureDomainsKey(data: string): Promise<Buffer> {
  const path = join(data, 'domains.key')
  if (!existsSync(path)) await writePrivate(path, randomBytes(32))
  const key = readFileSync(path)
  if (key.length === 32) return key
  throw new Fault('corrupt', `${path} is damaged: it has to hold 32 bytes. Restore it from a backup.`)
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

/** Joins all parts and listens. What an earlier process left unfinished goes on by itself. */
export async function startServer(settings: Settings): Promise<RunningServer> {
  await mkdir(settings.data, { recursive: true, mode: 0o700 })
  await chmod(settings.data, 0o700)
  const lock = lockData(settings.data)
  const [log, runDirectory, domainsKey] = await Promise.all([
    createLog(settings.logLevel),
    ensureRunDirectory(settings.data),
    ensureDomainsKey(settings.data),
    mkdir(settings.importDirectory, { recursive: true }),
  ])
  const clock = () => Date.now()
  const { openSqliteCatalog } = await import('./catalog/sqlite.ts')
  const { ensureRoot } = await import('./app/first-start.ts')
  const catalog = await openSqliteCatalog(join(settings.data, 'catalog.db'))
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
  const nbdSocketPath = join(runDirectory, 'images.sock')
  const note = ({ level = 'info', message, ...rest }: Record<string, unknown>) =>
    log[level as 'info'](rest, String(message))
  const { createJobs } = await import('./tasks/threads/jobs.ts')
  const jobs = createJobs({
    places: settings.regions.map((region) => ({
      regionId: region.id,
      objectsFolder: region.objects,
      indexPath: join(settings.data, 'regions', region.id, 'index.db'),
      domainsKey,
    })),
    threadCount: settings.capture.workers,
    nbdSocketPath,
    log: note,
  })

  await jobs.prepare()
  const taskParts = { catalog, host, jobs, clock, nbdSocketPath, importDirectory: settings.importDirectory }
  const runner = await createTasks(
    taskParts,
    { runDirectory, recordDirectory: join(settings.data, 'opened'), serveRaw },
    note,
  )
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
  const { url } = await gateway.listen(settings.listen.host, settings.listen.port)
  await writePrivate(join(settings.data, 'endpoint'), `${url}\n`)

  const { adoptMachines } = await import('./app/adopt.ts')
  const home = settings.regions.find((region) => region.id === settings.defaultRegion)
  const adopted = await adoptMachines(
    catalog,
    host,
    { regionId: settings.defaultRegion, zone: home?.zones[0] ?? '' },
    clock(),
  )
  // Guests that kept running wait for their disks; then come the tasks that had not ended.
  const machine = await catalog.rows.selectFrom('machine').select('id').limit(1).executeTakeFirst()
  if (machine !== undefined) await jobs.serve()
  const resumed = await runner.resume()
  log.info({ url, data: settings.data, resumed, adopted }, 'ready')
  return {
    url,
    async close() {
      await gateway.close()
      await runner.close()
      await jobs.close()
      await host.close()
      await catalog.close()
      await rm(join(settings.data, 'endpoint'), { force: true })
      lock.close()
    },
  }
}

async function createTasks(
  parts: import('./tasks/parts.ts').TaskParts,
  where: Parameters<typeof import('./host/export-file.ts').exportRawFile>[2],
  log: (record: Record<string, unknown>) => void,
) {
  const { createRunner } = await import('./tasks/runner.ts')
  const power = await import('./tasks/machine-power.ts')
  const { captureImage } = await import('./tasks/capture-image.ts')
  const { copyBatch, copyImage } = await import('./tasks/copy-image.ts')
  const { importImage } = await import('./tasks/import-image.ts')
  const { verifyRegion } = await import('./tasks/verify-region.ts')
  const { exportRawFile } = await import('./host/export-file.ts')
  const runner: import('./tasks/runner.ts').Runner = createRunner({
    catalog: parts.catalog,
    clock: parts.clock,
    log,
    definitions: [
      captureImage(parts),
      copyImage(parts),
      copyBatch(parts, () => runner),
      importImage(parts, (path, key, signal) => exportRawFile(path, key, where, signal)),
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
    ...(config === undefined ? {} : { file: { path: config, text: readFileSync(config, 'utf8') } }),
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
}

if (import.meta.main) process.exitCode = await runCli(process.argv.slice(2), { serve })
