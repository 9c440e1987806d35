import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MachineId } from '../image/ids.ts'
import type { ExportedDisk, Host, MachineDisk } from './contract.ts'
import type { HostFixture, StatusRun } from './suite-tools.ts'
import { startDaemon } from './tools/daemon.ts'
import { isErrno } from './tools/durable.ts'
import { endProcess, findProcess } from './tools/processes.ts'
import { runTool } from './tools/run.ts'

/** A server of one base on a socket that can go and come back. */
export interface BaseServer {
  readonly base: NonNullable<MachineDisk['base']>
  stop(): Promise<void>
  start(): Promise<void>
}

/** A temporary place with everything the suite needs of the real drivers. */
export class RealPlace {
  readonly directory: string
  readonly machines: string
  readonly run: string
  readonly hosts: Host[] = []
  readonly #bases: BaseServer[] = []

  private constructor(directory: string) {
    this.directory = directory
    this.machines = join(directory, 'machines')
    this.run = join(directory, 'run')
  }

  static async make(): Promise<RealPlace> {
    return new RealPlace(await mkdtemp(join(tmpdir(), 'calotype-host-')))
  }

  /** The parts of a fixture that do not depend on the driver. */
  around(): Pick<HostFixture, 'serveBase' | 'readExport' | 'readStatus' | 'leftovers'> {
    return {
      serveBase: async (bytes) => (await this.serveBase(bytes)).base,
      readExport: (disk, offset, lengthBytes) => this.readExport(disk, offset, lengthBytes),
      readStatus: (disk, context) => this.readStatus(disk, context),
      leftovers: (id) => this.leftovers(id),
    }
  }

  async serveBase(bytes: Buffer): Promise<BaseServer> {
    const stem = join(this.directory, `base-${randomBytes(4).toString('hex')}`)
    await writeFile(stem, bytes)
    const base = { socketPath: `${stem}.sock`, exportName: 'content', sizeBytes: bytes.length }
    const server: BaseServer = {
      base,
      stop: () => endProcess(`${stem}.pid`, 0),
      start: async () => {
        for (const end of ['.sock', '.pid']) await rm(stem + end, { force: true })
        const serve = ['-k', base.socketPath, '-x', base.exportName, `--pid-file=${stem}.pid`]
        await startDaemon('qemu-nbd', ['-r', '-t', '-e', '16', '-f', 'raw', ...serve, stem], {
          doing: 'Serving a base',
          package: 'qemu-utils',
          errorPath: `${stem}.err`,
          timeoutMs: 30_000,
          signal: new AbortController().signal,
          isReady: async () => (await findProcess(`${stem}.pid`)) !== undefined,
        })
      },
    }
    await server.start()
    this.#bases.push(server)
    return server
  }

  async readExport(disk: ExportedDisk, offset: number, lengthBytes: number): Promise<Buffer> {
    const path = join(this.directory, `read-${randomBytes(4).toString('hex')}`)
    const server = { type: 'unix', path: disk.socketPath }
    const source = { driver: 'raw', file: { driver: 'nbd', server, export: disk.exportName } }
    await runTool('qemu-img', ['convert', '-O', 'raw', `json:${JSON.stringify(source)}`, path], {
      doing: 'Reading an export',
      package: 'qemu-utils',
      timeoutMs: 60_000,
    })
    const bytes = await readFile(path)
    await rm(path)
    return bytes.subarray(offset, offset + lengthBytes)
  }

  /** By libnbd's own tool, which knows every context. */
  async readStatus(disk: ExportedDisk, context: string): Promise<readonly StatusRun[]> {
    const uri = `nbd+unix:///${encodeURIComponent(disk.mapName)}?socket=${disk.socketPath}`
    const text = await runTool('nbdinfo', [`--map=${context}`, '--json', uri], {
      doing: 'Reading the status of an export',
      package: 'libnbd-bin',
      timeoutMs: 60_000,
    })
    const runs = JSON.parse(text) as { offset: number; length: number; type: number }[]
    return runs.map(({ offset, length, type }) => ({ offset, lengthBytes: length, status: type }))
  }

  async leftovers(id: MachineId): Promise<string[]> {
    const files = await readdir(this.directory, { recursive: true })
    return [...files.filter((name) => name.includes(id)), ...(await processesWith(id))]
  }

  async close(): Promise<void> {
    for (const host of this.hosts) {
      for (const id of await host.list()) await host.ensureGone(id, new AbortController().signal)
      await host.close()
    }
    for (const base of this.#bases) await base.stop()
    await rm(this.directory, { recursive: true, force: true })
  }
}

/** Arguments of the living processes that mention `text`. */
export async function processesWith(text: string): Promise<string[]> {
  const found: string[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const line = await readFile(`/proc/${name}/cmdline`, 'utf8')
      if (line.includes(text)) found.push(line.replaceAll('\0', ' ').slice(0, 100))
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ESRCH')) throw error
    }
  }
  return found
}
