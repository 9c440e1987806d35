import { readdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Consistency, isEnough } from '../../image/consistency.ts'
import { isFault } from '../../image/fault.ts'
import type { DiskId, MachineId } from '../../image/ids.ts'
import type { ChangeContext, DiskExports, ExportedDisk, ExportRequest, MachineDisk } from '../contract.ts'
import { bitmapName, type Outcome, prepareFile, settleFile } from './bitmaps.ts'
import { startDaemon } from './daemon.ts'
import {
  type ExportRecord,
  type ExportRecords,
  exportsOf,
  isSameRequest,
  notConsistent,
  requestedDisks,
} from './exports.ts'
import { type BlockNode, readOnlyTree } from './graph.ts'
import { endProcess, findProcess } from './processes.ts'
import { TOOL_MISSING } from './run.ts'
import { shortName, socketPath } from './sockets.ts'

export interface StillDisk {
  readonly id: DiskId
  readonly sizeBytes: number
  readonly tree: BlockNode
  /** The machine's own layer, where it was made by us; a file of the operator's is never written. */
  readonly layer?: { readonly path: string; readonly hasBase: boolean }
}

/** A disk whose layer was made by `MachineFolders`. */
export function madeDisk(disk: MachineDisk, overlayPath: string): StillDisk {
  return {
    id: disk.id,
    sizeBytes: disk.sizeBytes,
    tree: readOnlyTree(disk, overlayPath),
    layer: { path: overlayPath, hasBase: disk.base !== undefined },
  }
}

/** What disks at rest are worth, and why not more. */
export interface StillWorth {
  readonly consistency: Consistency
  readonly consistencyWhy: string
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
/** The machine has one layer of its own over the base. */
const OWN: ChangeContext = { name: 'qemu:allocation-depth', most: 1 }
const NOT_RECORDED = "The disk is a file of the operator's own, for which no changes are recorded."
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

  /**
   * `disks` are all the machine has. The caller has made sure that no guest runs; the record keeps one from starting
   * until `close`.
   */
  async open(
    id: MachineId,
    key: string,
    request: ExportRequest,
    disks: readonly StillDisk[],
    worth: StillWorth,
    records: ExportRecords,
    signal: AbortSignal,
  ): Promise<DiskExports> {
    const asked = requestedDisks(disks, request)
    const found = await records.find(key)
    const isSame = found?.how === 'still' && found.state === 'open' && isSameRequest(found, request)
    if (isSame && (await this.#allLive(found.disks))) return exportsOf(found, 'same')
    if (found !== undefined) await this.close(key, 'given-up', disks, records)
    if (!isEnough(worth.consistency, request.consistency))
      throw notConsistent(request.consistency, worth.consistencyWhy)
    const exported: ExportedDisk[] = []
    const previous: Record<string, string> = {}
    for (const [index, disk] of asked.entries()) {
      const path = socketPath(this.#runDirectory, `${id}-${shortName(key)}.n${index}`)
      const since = request.since[disk.id]
      const told = await lookAtBitmaps(disk, key, since)
      if (told.changes !== undefined && since !== undefined) previous[disk.id] = since
      const own: ChangeContext | undefined = disk.layer?.hasBase ? OWN : undefined
      const names = { socketPath: path, exportName: disk.id, mapName: disk.id }
      exported.push({ id: disk.id, sizeBytes: disk.sizeBytes, ...names, ...told, ...(own && { own }) })
    }
    const opening: ExportRecord = {
      key,
      how: 'still',
      state: 'opening',
      request,
      previous,
      disks: exported,
      ...worth,
      pausedMs: 0,
      frozenMs: 0,
    }
    await records.write(opening)
    try {
      for (const [index, disk] of exported.entries())
        await this.#start(disk, asked[index]?.tree, previous[disk.id], signal)
      const open: ExportRecord = { ...opening, state: 'open' }
      await records.write(open)
      return exportsOf(open, 'new')
    } catch (error) {
      // Should this fail too, the record stays, and the next call by this key takes the rest away.
      await this.close(key, 'given-up', disks, records).catch(() => {})
      throw error
    }
  }

  /** `disks` are all the machine has. */
  async close(
    key: string,
    outcome: Outcome,
    disks: readonly StillDisk[],
    records: ExportRecords,
  ): Promise<void> {
    const record = await records.find(key)
    if (record === undefined) return
    for (const disk of record.disks) {
      await this.#served.get(disk.socketPath)?.close()
      this.#served.delete(disk.socketPath)
      await endProcess(pidPath(disk), 2_000)
      await rm(disk.socketPath, { force: true })
      await rm(pidPath(disk), { force: true })
      await rm(errorPath(disk), { force: true })
      const path = disks.find((one) => one.id === disk.id)?.layer?.path
      if (path !== undefined) await settleFile(path, key, { since: undefined, outcome, wasStill: true })
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

  async #start(
    disk: ExportedDisk,
    tree: BlockNode | undefined,
    since: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await start(disk, tree, since, signal)
    } catch (error) {
      const isMissing = isFault(error) && error.reason === TOOL_MISSING
      const path = tree === undefined ? undefined : rawFileOf(tree)
      if (!isMissing || path === undefined || this.#serveRaw === undefined) throw error
      this.#served.set(disk.socketPath, await this.#serveRaw(path, disk))
    }
  }
}

/** What the layer's bitmaps tell of a disk at rest. */
async function lookAtBitmaps(
  disk: StillDisk,
  key: string,
  since: string | undefined,
): Promise<Pick<ExportedDisk, 'changes' | 'changesWhy'>> {
  if (disk.layer === undefined) return { changesWhy: since === undefined ? '' : NOT_RECORDED }
  return await prepareFile(disk.layer.path, key, since)
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

async function start(
  disk: ExportedDisk,
  tree: BlockNode | undefined,
  since: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  await rm(disk.socketPath, { force: true })
  await rm(pidPath(disk), { force: true })
  const serve = [`--pid-file=${pidPath(disk)}`, '-k', disk.socketPath, '-x', disk.exportName]
  // -t: lives on when the last reader goes, so that an interrupted capture finds the same moment again.
  const limits = ['-r', '-t', '-e', String(CLIENT_COUNT_UNLIMITED)]
  const contexts = [...(disk.own ? ['-A'] : []), ...(since === undefined ? [] : ['-B', bitmapName(since)])]
  await startDaemon('qemu-nbd', [...serve, ...limits, ...contexts, `json:${JSON.stringify(tree)}`], {
    doing: 'Opening a disk for reading',
    package: 'qemu-utils',
    errorPath: errorPath(disk),
    timeoutMs: START_TIMEOUT_MS,
    signal,
    isReady: async () => (await findProcess(pidPath(disk))) !== undefined,
  })
}
