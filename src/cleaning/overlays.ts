import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openNbd } from '../disk/nbd-client.ts'
import { startDaemon } from '../host/tools/daemon.ts'
import { fileFault, isErrno } from '../host/tools/durable.ts'
import { isExportKey } from '../host/tools/exports.ts'
import { baseNode } from '../host/tools/graph.ts'
import { endProcess, findProcess } from '../host/tools/processes.ts'
import { runTool } from '../host/tools/run.ts'
import { shortName, socketPath } from '../host/tools/sockets.ts'
import { Fault } from '../image/fault.ts'
import { endProcessesOf } from '../isolation/left-processes.ts'
import type { CleanedDisk, CleanSource } from './contract.ts'
import { exportNameOf } from './examiner-words.ts'

/** Subclusters of 4 KiB: zeroes that begin anywhere become holes, and a first write copies no more than that. */
const OPTIONS = 'cluster_size=128k,extended_l2=on'
/** The processes read from the source's server; opening waits for it up to 30 s by itself. */
const START_MS = 45_000
const CREATE_MS = 30_000
/** How long reads wait for a source that went away: no guest's, which stands still better than it fails. */
const RECONNECT_SECONDS = 5
const PID_ENDING = '.pid'
const PREFIX = 'clean-'

export interface OverlayDisk {
  readonly sizeBytes: number
  readonly socketPath: string
  readonly exportName: string
  /** The file that holds what was changed. */
  readonly path: string
}

export interface OverlayFolders {
  /** Holds a folder for each key. */
  readonly folder: string
  /** Short: for sockets, each with a pid file and the words of its process. */
  readonly runDirectory: string
}

/**
 * Throw-away layers over read-only exports, each served by a `qemu-nbd` that outlives this process: whoever starts again
 * takes them away with `closeAll`. What was written to them is on no disk for certain, and need not be.
 */
export class Overlays {
  readonly #folders: OverlayFolders

  constructor(folders: OverlayFolders) {
    this.#folders = folders
  }

  /** The folder of everything that belongs to `key`; `open` makes it. */
  folderOf(key: string): string {
    assert(isExportKey(key), 'a key is letters and digits')
    return join(this.#folders.folder, key)
  }

  /** A path for the pid file of a process that has no layer, which `closeAll` ends as well; in a folder that is there then. */
  async newPidPath(): Promise<string> {
    const { runDirectory } = this.#folders
    await mkdir(runDirectory, { recursive: true, mode: 0o700 })
    return join(runDirectory, `${PREFIX}${randomUUID()}${PID_ENDING}`)
  }

  /** Makes empty layers, and serves them for writing. Faults: 'full', 'unavailable'. */
  async open(key: string, sources: readonly CleanSource[], signal: AbortSignal): Promise<OverlayDisk[]> {
    const folder = this.folderOf(key)
    const disks = sources.map(({ sizeBytes }, index) => {
      const exportName = exportNameOf(index)
      const name = `${PREFIX}${shortName(key)}.${exportName}`
      const at = socketPath(this.#folders.runDirectory, name)
      return { sizeBytes, exportName, socketPath: at, path: join(folder, `${exportName}.qcow2`) }
    })
    try {
      await mkdir(this.#folders.runDirectory, { recursive: true, mode: 0o700 })
      await mkdir(folder, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw fileFault(error, 'Making a folder for cleaning')
    }
    for (const source of sources) await checkServed(source, signal)
    for (const [index, disk] of disks.entries()) {
      const made = ['create', '-q', '-f', 'qcow2', '-o', OPTIONS, disk.path, String(disk.sizeBytes)]
      const doing = 'Making a layer for cleaning'
      await runTool('qemu-img', made, { doing, package: 'qemu-utils', timeoutMs: CREATE_MS, signal })
      await serve(disk, sources[index], 'writable', signal)
    }
    return disks
  }

  /** From now on the layers may be read only, under the same names. Faults: 'full', 'unavailable' where changes are lost. */
  async freeze(
    disks: readonly OverlayDisk[],
    sources: readonly CleanSource[],
    signal: AbortSignal,
  ): Promise<CleanedDisk[]> {
    for (const [index, disk] of disks.entries()) {
      await writeDown(disk, signal)
      await endProcess(disk.socketPath + PID_ENDING, 0)
      await serve(disk, sources[index], 'read-only', signal)
    }
    return disks.map(({ socketPath: at, exportName }) => ({
      socketPath: at,
      exportName,
      changes: { name: 'qemu:allocation-depth', most: 1 },
    }))
  }

  /** Takes away everything of `key`: processes that have a path in its folder or beside its sockets, then the files. */
  async close(key: string): Promise<void> {
    await this.#remove(`${PREFIX}${shortName(key)}.`, [this.folderOf(key)])
  }

  /** The same of every key. */
  async closeAll(): Promise<void> {
    const { folder } = this.#folders
    await this.#remove(
      PREFIX,
      (await namesIn(folder)).map((name) => join(folder, name)),
    )
  }

  async #remove(prefix: string, folders: readonly string[]): Promise<void> {
    const { runDirectory } = this.#folders
    await endProcessesOf([join(runDirectory, prefix), ...folders.map((folder) => `${folder}/`)])
    for (const name of await namesIn(runDirectory)) {
      if (name.startsWith(prefix)) await rm(join(runDirectory, name), { force: true })
    }
    for (const folder of folders) await rm(folder, { recursive: true, force: true })
  }
}

/** QEMU would wait half a minute for a server that is not there. */
async function checkServed(source: CleanSource, signal: AbortSignal): Promise<void> {
  const client = await openNbd(source, { signal })
  await client.close()
  if (client.sizeBytes === source.sizeBytes) return
  const message = 'A disk to be cleaned has another size than it had. Try again.'
  throw new Fault('unavailable', message, { subject: 'disk' })
}

/**
 * Makes the process hand over to the system what it holds, so that it may be killed. One that ended by itself may have kept
 * some: then the layer would show again what was taken out of the disk, and there is no image.
 */
async function writeDown(disk: OverlayDisk, signal: AbortSignal): Promise<void> {
  const client = await openNbd(disk, { signal })
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort)
  try {
    signal.throwIfAborted()
    await Promise.race([client.flush(), aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
    await client.close()
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw fileFault(error, 'Looking for what a cleaning left')
  }
}

async function serve(
  disk: OverlayDisk,
  source: CleanSource | undefined,
  how: 'writable' | 'read-only',
  signal: AbortSignal,
): Promise<void> {
  assert(source !== undefined, 'every layer has a source')
  const isReadOnly = how === 'read-only'
  // Nothing here survives the host: what would wait for its disk need not.
  const cache = { 'no-flush': true, direct: false }
  const tree = {
    driver: 'qcow2',
    discard: 'unmap',
    cache,
    ...(isReadOnly && { 'read-only': true }),
    file: {
      driver: 'file',
      filename: disk.path,
      discard: 'unmap',
      cache,
      ...(isReadOnly && { 'read-only': true }),
    },
    backing: { ...baseNode(source), 'reconnect-delay': RECONNECT_SECONDS },
  }
  const pidPath = disk.socketPath + PID_ENDING
  const errorPath = `${disk.socketPath}.err`
  for (const path of [disk.socketPath, pidPath, errorPath]) await rm(path, { force: true })
  const names = [`--pid-file=${pidPath}`, '-k', disk.socketPath, '-x', disk.exportName]
  // -t and -e 0: for any number of connections, one after the other or at once. -A: tells which layer holds what.
  const mode = ['-t', '-e', '0', '-A', '--discard=unmap', ...(isReadOnly ? ['-r'] : [])]
  await startDaemon('qemu-nbd', [...names, ...mode, `json:${JSON.stringify(tree)}`], {
    doing: 'Opening a layer for cleaning',
    package: 'qemu-utils',
    errorPath,
    timeoutMs: START_MS,
    signal,
    isReady: async () => (await findProcess(pidPath)) !== undefined,
  })
}
