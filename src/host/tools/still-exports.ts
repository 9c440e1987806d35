import { readdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isFault } from '../../image/fault.ts'
import type { DiskId, MachineId } from '../../image/ids.ts'
import type { DiskExports } from '../contract.ts'
import { startDaemon } from './daemon.ts'
import { type ExportedDisk, type ExportRecords, exportsOf } from './exports.ts'
import type { BlockNode } from './graph.ts'
import { endProcess, findProcess } from './processes.ts'
import { TOOL_MISSING } from './run.ts'
import { shortName, socketPath } from './sockets.ts'

export interface StillDisk {
  readonly id: DiskId
  readonly sizeBytes: number
  readonly tree: BlockNode
}

/**
 * Serves a raw file at a socket, for as long as this process lives: what is done where `qemu-nbd` is not installed.
 * Passed in, because the doors do not import each other.
 */
export type ServeRaw = (
  path: string,
  at: { readonly socketPath: string; readonly exportName: string },
) => Promise<{ close(): Promise<void> }>

/** No limit: how many connections read one disk is the setting of whoever captures, and all of them are ours. */
const CLIENT_COUNT_UNLIMITED = 0
const PID_ENDING = '.pid'
/** Opening waits for the base's server up to 30 s by itself. */
const START_TIMEOUT_MS = 45_000

/** Read-only exports of the disks of a machine that stands still: one `qemu-nbd` process per disk. */
export class StillExports {
  readonly #runDirectory: string
  readonly #serveRaw: ServeRaw | undefined
  /** By socket path. */
  readonly #served = new Map<string, { close(): Promise<void> }>()

  constructor(runDirectory: string, serveRaw?: ServeRaw) {
    this.#runDirectory = runDirectory
    this.#serveRaw = serveRaw
  }

  /** The caller has made sure that no guest runs; the record keeps one from starting until `close`. */
  async open(
    id: MachineId,
    key: string,
    disks: readonly StillDisk[],
    records: ExportRecords,
    signal: AbortSignal,
  ): Promise<DiskExports> {
    const found = await records.find(key)
    if (found?.how === 'still' && found.state === 'open' && (await this.#allLive(found.disks)))
      return exportsOf(found, 'same')
    if (found !== undefined) await this.close(key, records)
    const exported = disks.map((disk, index): ExportedDisk => {
      const path = socketPath(this.#runDirectory, `${id}-${shortName(key)}.n${index}`)
      return {
        id: disk.id,
        sizeBytes: disk.sizeBytes,
        socketPath: path,
        exportName: disk.id,
        mapName: disk.id,
      }
    })
    const record = { key, how: 'still', disks: exported, consistency: 'crash', pausedMs: 0 } as const
    await records.write({ ...record, state: 'opening' })
    try {
      for (const [index, disk] of exported.entries()) await this.#start(disk, disks[index]?.tree, signal)
      await records.write({ ...record, state: 'open' })
    } catch (error) {
      // Should this fail too, the record stays, and the next call by this key takes the rest away.
      await this.close(key, records).catch(() => {})
      throw error
    }
    return exportsOf({ ...record, state: 'open' }, 'new')
  }

  async close(key: string, records: ExportRecords): Promise<void> {
    const record = await records.find(key)
    if (record === undefined) return
    for (const disk of record.disks) {
      await this.#served.get(disk.socketPath)?.close()
      this.#served.delete(disk.socketPath)
      await endProcess(pidPath(disk), 2_000)
      await rm(disk.socketPath, { force: true })
      await rm(pidPath(disk), { force: true })
      await rm(errorPath(disk), { force: true })
    }
    await records.remove(key)
  }

  /** Takes away what any capture left of the machine, found by names alone: its records may be damaged. */
  async closeAll(id: MachineId): Promise<void> {
    const isItsOwn = (name: string) => name.startsWith(`${id}-`)
    for (const [path, server] of this.#served) {
      if (!isItsOwn(basename(path))) continue
      await server.close()
      this.#served.delete(path)
    }
    const paths = (await readdir(this.#runDirectory))
      .filter(isItsOwn)
      .map((name) => join(this.#runDirectory, name))
    for (const path of paths) if (path.endsWith(PID_ENDING)) await endProcess(path, 2_000)
    for (const path of paths) await rm(path, { force: true })
  }

  async #allLive(disks: readonly ExportedDisk[]): Promise<boolean> {
    for (const disk of disks) {
      if (this.#served.has(disk.socketPath)) continue
      if ((await findProcess(pidPath(disk))) === undefined) return false
    }
    return true
  }

  async #start(disk: ExportedDisk, tree: BlockNode | undefined, signal: AbortSignal): Promise<void> {
    try {
      await start(disk, tree, signal)
    } catch (error) {
      const isMissing = isFault(error) && error.reason === TOOL_MISSING
      const path = tree === undefined ? undefined : rawFileOf(tree)
      if (!isMissing || path === undefined || this.#serveRaw === undefined) throw error
      this.#served.set(disk.socketPath, await this.#serveRaw(path, disk))
    }
  }
}

/** The file behind a tree that is nothing but a raw file. */
function rawFileOf({ driver, file }: BlockNode): string | undefined {
  const { driver: protocol, filename } = (file ?? {}) as { driver?: unknown; filename?: unknown }
  return driver === 'raw' && protocol === 'file' && typeof filename === 'string' ? filename : undefined
}

/** Beside its socket in the run folder, which is empty after a reboot, as the process table is. */
function pidPath(disk: ExportedDisk): string {
  return disk.socketPath + PID_ENDING
}

function errorPath(disk: ExportedDisk): string {
  return `${disk.socketPath}.err`
}

async function start(disk: ExportedDisk, tree: BlockNode | undefined, signal: AbortSignal): Promise<void> {
  await rm(disk.socketPath, { force: true })
  await rm(pidPath(disk), { force: true })
  const serve = [`--pid-file=${pidPath(disk)}`, '-k', disk.socketPath, '-x', disk.exportName]
  // -t: lives on when the last reader goes, so that an interrupted capture finds the same moment again.
  const limits = ['-r', '-t', '-e', String(CLIENT_COUNT_UNLIMITED)]
  await startDaemon('qemu-nbd', [...serve, ...limits, `json:${JSON.stringify(tree)}`], {
    doing: 'Opening a disk for reading',
    package: 'qemu-utils',
    errorPath: errorPath(disk),
    timeoutMs: START_TIMEOUT_MS,
    signal,
    isReady: async () => (await findProcess(pidPath(disk))) !== undefined,
  })
}
