import { execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)
const FOLDER_PREFIX = 'calo-ceph-'
const UP_MS_MAX = 120_000
const ATTEMPTS_MAX = 3

/** One node of Ceph with its S3 gateway on loopback: what an `s3` place needs, but for bucket and prefix. */
export interface Ceph {
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** `radosgw-admin` with these arguments; answers its standard output. */
  administer(...args: readonly string[]): Promise<string>
  /** Ends the daemons and takes their folder away. May run twice. */
  stop(): Promise<void>
}

/**
 * Starts a monitor, a disk and a gateway in a new folder below the one for temporary files, on free ports. They are
 * children of this process and bound to its life: the kernel ends them when it ends, also when it is killed; what
 * such an end leaves in the folder goes at the next start. Throws with what the daemons said last.
 */
export async function startCeph(): Promise<Ceph> {
  await removeStale()
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce()
    } catch (error) {
      // Somebody else may have taken a port that was free a moment ago.
      if (attempt === ATTEMPTS_MAX) throw error
    }
  }
}

async function startOnce(): Promise<Ceph> {
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`))
  const daemons: Daemon[] = []
  // Tools wait for daemons; for one that has ended they would wait in vain.
  const ended = new AbortController()
  const stop = async () => {
    // The gateway first and the monitor last, or the others wait for it.
    for (let last = daemons.pop(); last !== undefined; last = daemons.pop()) await last.stop()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const [monitorPort, gatewayPort] = await freePorts()
    const configuration = join(folder, 'ceph.conf')
    const fsid = randomUUID()
    await writeFile(configuration, configure({ folder, fsid, monitorPort, gatewayPort }))
    for (const each of ['mon', 'osd', 'gateway', 'run']) await mkdir(join(folder, each))
    const environment = { ...process.env, CEPH_CONF: configuration }
    const tool = async (name: string, ...args: readonly string[]) => {
      try {
        return (await run(name, args, { env: environment, timeout: UP_MS_MAX, signal: ended.signal })).stdout
      } catch (cause) {
        throw new Error(`${name} failed. ${await tails(daemons)}`, { cause })
      }
    }
    const start = async (name: string, ...args: readonly string[]) => {
      const daemon = await Daemon.start(name, args, { folder, environment })
      daemons.push(daemon)
      void daemon.ended.then(() => ended.abort())
    }

    const map = join(folder, 'monitors')
    await tool('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', `[v1:127.0.0.1:${monitorPort}]`, map)
    await tool('ceph-mon', '-i', 'a', '--mkfs', '--monmap', map)
    await start('ceph-mon', '-f', '-i', 'a')
    const disk = randomUUID()
    await tool('ceph', 'osd', 'new', disk)
    await tool('ceph', 'osd', 'crush', 'add', 'osd.0', '1', 'root=default', 'host=here')
    await tool('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', disk)
    await start('ceph-osd', '-f', '-i', '0')
    const keys = { accessKeyId: 'calotype-test', secretAccessKey: 'calotype-test-secret' }
    const administer = (...args: readonly string[]) => tool('radosgw-admin', ...args)
    // Before the gateway: this also makes the pools that it would else make while requests wait.
    await administer(
      ...['user', 'create', '--uid=test', '--display-name=Test'],
      ...[`--access-key=${keys.accessKeyId}`, `--secret-key=${keys.secretAccessKey}`],
    )
    await start('radosgw', '-f', '-n', 'client.rgw.a')
    const endpoint = `http://127.0.0.1:${gatewayPort}`
    await answers(endpoint, daemons)
    return { endpoint, region: 'default', ...keys, administer, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

interface DaemonPlace {
  readonly folder: string
  readonly environment: NodeJS.ProcessEnv
}

/** A program in the foreground, its output in a file. */
class Daemon {
  readonly #child: ReturnType<typeof spawn>
  readonly #logPath: string
  readonly name: string
  readonly ended: Promise<void>

  private constructor(name: string, child: ReturnType<typeof spawn>, logPath: string) {
    this.name = name
    this.#child = child
    this.#logPath = logPath
    this.ended = new Promise((resolve) => {
      child.once('exit', () => resolve())
      child.once('error', () => resolve())
    })
  }

  static async start(name: string, args: readonly string[], place: DaemonPlace): Promise<Daemon> {
    const logPath = join(place.folder, 'run', `${name}.out`)
    const log = await open(logPath, 'w')
    try {
      // A test run that is killed runs no handler of ours; this the kernel does by itself.
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', name, ...args], {
        stdio: ['ignore', log.fd, log.fd],
        env: place.environment,
      })
      return new Daemon(name, child, logPath)
    } finally {
      await log.close()
    }
  }

  get isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  async tail(): Promise<string> {
    return (await readFile(this.#logPath, 'utf8')).slice(-2000)
  }

  /** Nothing in the folder is needed afterwards, so nothing is lost by not asking politely. */
  async stop(): Promise<void> {
    if (this.isRunning) this.#child.kill('SIGKILL')
    await this.ended
  }
}

async function answers(endpoint: string, daemons: readonly Daemon[]): Promise<void> {
  const until = Date.now() + UP_MS_MAX
  for (;;) {
    if (daemons.some((daemon) => !daemon.isRunning)) throw new Error(await tails(daemons))
    const status = await fetch(endpoint).then(
      (answer) => answer.status,
      () => undefined,
    )
    if (status === 200) return
    if (Date.now() > until) throw new Error(`No gateway at ${endpoint} (${status}).`)
    await delay(100)
  }
}

/** What each daemon said last, and whether it still runs. */
async function tails(daemons: readonly Daemon[]): Promise<string> {
  const texts = daemons.map(async (daemon) => {
    return `${daemon.name} ${daemon.isRunning ? 'runs' : 'ended'}:\n${await daemon.tail()}`
  })
  return (await Promise.all(texts)).join('\n')
}

/** Two ports that are free now; they are let go together, so that they are two. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()] as const
  const ports: number[] = []
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    if (address !== null && typeof address === 'object') ports.push(address.port)
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve))
  return ports as [number, number]
}

/** Folders of test runs that were killed: the name says whose they are. */
async function removeStale(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = new RegExp(`^${FOLDER_PREFIX}(\\d+)-`).exec(name)?.[1]
    if (pid !== undefined && !isAlive(Number(pid))) {
      await rm(join(tmpdir(), name), { recursive: true, force: true })
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** A disk that looks up its own place at its first start may ask before it knows the cluster, and ends: we place it. */
function configure(place: {
  readonly folder: string
  readonly fsid: string
  readonly monitorPort: number
  readonly gatewayPort: number
}): string {
  const { folder, fsid, monitorPort, gatewayPort } = place
  return `[global]
fsid = ${fsid}
mon host = [v1:127.0.0.1:${monitorPort}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
mon data = ${folder}/mon
osd data = ${folder}/osd
rgw data = ${folder}/gateway
run dir = ${folder}/run
admin socket = ${folder}/run/$name.$pid.asok
pid file =
log file =
log to stderr = true
err to stderr = true
osd objectstore = bluestore
bluestore block size = 8589934592
osd crush update on start = false
osd class update on start = false
osd memory target = 939524096
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
paxos propose interval = 0.05
paxos min wait = 0.01
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort}
`
}
