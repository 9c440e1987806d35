import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { type Server, startServer, stopServer } from '../../demo/server.ts'
import { BASE_FOLDER, buildBaseImage, verifyAll } from '../../demo/steps.ts'

export const REGIONS = ['cn-hangzhou', 'cn-shanghai', 'cn-bj2', 'hk'] as const
const KEEP_MS = 120_000

export interface PlaceOptions {
  readonly environment?: Readonly<Record<string, string>>
  readonly data?: string
  readonly importDirectory?: string
  /** As `startServer`'s, for this data directory. */
  wrapper?(data: string): readonly string[]
}

export interface Place {
  server: Server
  readonly data: string
  /** Ends the server's process as a power cut would. */
  kill(): Promise<void>
  /** A new process over the same data. */
  start(): Promise<void>
  /** Ends the server's process as a power cut would, and starts a new one over the same data. */
  killAndRestart(): Promise<void>
  /** As a new process after a polite end. */
  restart(): Promise<void>
}

/**
 * A real server over a data directory of its own, as a user starts it. After the test every region is verified, the
 * machines are deleted, the server is stopped, and nothing of it is left.
 */
export async function newPlace(t: TestContext, options: PlaceOptions = {}): Promise<Place> {
  await buildBaseImage(() => {})
  const data = options.data ?? (await mkdtemp(join(tmpdir(), 'calo-')))
  const start = () =>
    startServer({
      data,
      listen: '127.0.0.1:0',
      importDirectory: options.importDirectory ?? BASE_FOLDER,
      ...(options.wrapper === undefined ? {} : { wrapper: options.wrapper(data) }),
      environment: { CALOTYPE_HOST_GRACE_SECONDS: '5', CALOTYPE_LOG_LEVEL: 'debug', ...options.environment },
    })
  const place: Place = {
    server: await start(),
    data,
    async kill() {
      await stopServer(place.server, 'SIGKILL')
      await rm(join(data, 'endpoint'), { force: true })
    },
    async start() {
      place.server = await start()
    },
    async killAndRestart() {
      await place.kill()
      await place.start()
    },
    async restart() {
      await stopServer(place.server)
      place.server = await start()
    },
  }
  t.after(
    async () => {
      // A test that failed while its server was dead leaves machines, which only a server takes away.
      const child = place.server.process
      if (child?.exitCode !== null || child.signalCode !== null) await place.start()
      try {
        await deleteMachines(place.server)
        await verifyAll(place.server)
      } finally {
        await stopServer(place.server)
      }
      const machines = await readdir(join(data, 'machines')).catch(() => [])
      await rm(data, { recursive: true, force: true })
      // Only the driver's own notes may stay beside the machines.
      const left = machines.filter((name) => /^[0-9a-z]{17}$/.test(name))
      if (left.length > 0) throw new Error(`machines were left behind: ${left.join(', ')}`)
    },
    { timeout: KEEP_MS },
  )
  return place
}

/** Deletes every machine in every region and project, and waits until they are gone. */
export async function deleteMachines(server: Server): Promise<void> {
  const { projects } = await server.native.call<{ projects: { id: string }[] }>('GET', '/v1/projects')
  for (const region of REGIONS) {
    for (const { id: project } of projects) {
      const query = { region, project, limit: 100 }
      const { machines } = await server.native.call<{ machines: { id: string; state: string }[] }>(
        'GET',
        '/v1/machines',
        { query },
      )
      for (const { id } of machines) {
        await server.native.call('DELETE', `/v1/machines/${id}`, { query: { region, project } })
      }
    }
  }
  await idle(server)
}

/** Waits until no task runs in any project. */
export async function idle(server: Server): Promise<void> {
  const { projects } = await server.native.call<{ projects: { id: string }[] }>('GET', '/v1/projects')
  for (const { id: project } of projects) {
    for (;;) {
      const { tasks } = await server.native.call<{ tasks: { id: string }[] }>('GET', '/v1/tasks', {
        query: { project, live: true },
      })
      const [first] = tasks
      if (first === undefined) break
      await server.native.call('GET', `/v1/tasks/${first.id}`, { query: { waitMs: 2000 } })
    }
  }
}
