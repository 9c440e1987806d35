import assert from 'node:assert/strict'
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'
import type { DiskId, MachineId } from '../../image/ids.ts'
import type { DiskLayers, MachineDisk, MachineSpec } from '../contract.ts'
import { fileFault, findText, isErrno, syncFile, syncFolder, writeDurably } from './durable.ts'
import { runTool } from './run.ts'

const SPEC_VERSION = 1
const SPEC_FILE = 'spec.json'
const ID = /^[0-9a-z]{17}$/
const OVERLAY_FILE = /^[0-9a-z]{17}(-\d+)?\.qcow2$/
const MAKING = '.making-'
const GOING = '.going-'
/**
 * 256 KiB clusters, the size of our chunks, keep a terabyte's tables at 64 MiB; subclusters (a 32nd of that) keep the
 * copy that a small first write causes at 8 KiB.
 */
const OVERLAY_OPTIONS = 'cluster_size=256k,extended_l2=on'

/** A disk as the record keeps it. */
export interface KeptDisk extends MachineDisk {
  /** How often the disk got other content, and with it a new file of its own; absent: never. */
  readonly overlay?: number
}

export interface KeptSpec extends MachineSpec {
  readonly disks: readonly KeptDisk[]
}

/** Source: `Host.layers`. */
export function layersOf(disks: readonly KeptDisk[]): Readonly<Record<string, DiskLayers>> {
  return Object.fromEntries(
    disks.map(({ id, base, overlay = 0 }) => [
      id,
      { baseName: base?.exportName ?? '', replacedCount: overlay },
    ]),
  )
}

/** A machine's record and disk layers: `directory/<machine id>/`. Nothing else of a machine is kept anywhere. */
export class MachineFolders {
  readonly directory: string

  private constructor(directory: string) {
    this.directory = directory
  }

  /** Also removes what a crash left of machines that were being made or removed. */
  static async open(directory: string): Promise<MachineFolders> {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    for (const name of await readdir(directory)) {
      if (name.startsWith(MAKING) || name.startsWith(GOING))
        await rm(join(directory, name), { recursive: true, force: true })
    }
    return new MachineFolders(directory)
  }

  path(id: MachineId): string {
    assert(ID.test(id), 'a machine id is 17 letters and digits')
    return join(this.directory, id)
  }

  /** The file of the machine's own layer. `disk` is from `find` or `get`: only the record knows which file it is now. */
  overlayPath(id: MachineId, disk: KeptDisk): string {
    return join(this.path(id), overlayFile(disk))
  }

  async list(): Promise<MachineId[]> {
    const found: MachineId[] = []
    for (const name of (await readdir(this.directory)).sort()) {
      // The record is not read here: one that is damaged must not hide the others, nor itself.
      if (ID.test(name) && (await this.has(name as MachineId))) found.push(name as MachineId)
    }
    return found
  }

  /** Also true of a machine whose record cannot be read. */
  async has(id: MachineId): Promise<boolean> {
    try {
      await lstat(join(this.path(id), SPEC_FILE))
      return true
    } catch (error) {
      return !isErrno(error, 'ENOENT', 'ENOTDIR')
    }
  }

  async find(id: MachineId): Promise<KeptSpec | undefined> {
    const text = await findText(join(this.path(id), SPEC_FILE))
    return text === undefined ? undefined : parseSpec(id, text)
  }

  /** Throws Fault 'absent'. */
  async get(id: MachineId): Promise<KeptSpec> {
    const spec = await this.find(id)
    if (spec === undefined) throw machineAbsent(id)
    return spec
  }

  /**
   * Makes the folder in one rename, so that a crash leaves a whole machine or none. `more` may put further files into
   * the folder before.
   */
  async ensure(
    spec: MachineSpec,
    signal: AbortSignal,
    more?: (folder: string) => Promise<void>,
  ): Promise<void> {
    checkSpec(spec)
    const found = await this.find(spec.id)
    if (found !== undefined) return await this.#removeReplaced(found)
    const folder = join(this.directory, MAKING + spec.id)
    try {
      await rm(folder, { recursive: true, force: true })
      await mkdir(folder, { mode: 0o700 })
      for (const disk of spec.disks) {
        const path = join(folder, overlayFile(disk))
        await createOverlay(path, disk.sizeBytes, signal)
        await syncFile(path)
      }
      await more?.(folder)
      await writeSpec(folder, spec)
      await rename(folder, this.path(spec.id))
      await syncFolder(this.directory)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw fileFault(error, 'Making the machine')
    }
  }

  /**
   * Gives a disk an empty layer over its new base, in the one step in which the record changes: the new file is there
   * before, the old one goes after. The caller has made sure that nobody uses the old one. Throws Fault 'absent'.
   */
  async replaceDisk(id: MachineId, disk: MachineDisk, signal: AbortSignal): Promise<void> {
    const spec = await this.get(id)
    const old = spec.disks.find((one) => one.id === disk.id)
    if (old === undefined) throw diskAbsent(disk.id)
    await this.#removeReplaced(spec)
    const fresh: KeptDisk = { ...disk, overlay: (old.overlay ?? 0) + 1 }
    const replaced = { ...spec, disks: spec.disks.map((one) => (one === old ? fresh : one)) }
    checkSpec(replaced)
    try {
      await createOverlay(this.overlayPath(id, fresh), disk.sizeBytes, signal)
      await syncFile(this.overlayPath(id, fresh))
      signal.throwIfAborted()
      await writeSpec(this.path(id), replaced)
    } catch (error) {
      // By what the record says, as it may have been written all the same.
      await this.get(id)
        .then((now) => this.#removeReplaced(now))
        .catch(() => {})
      throw fileFault(error, 'Replacing the disk')
    }
    await this.#removeReplaced(replaced)
  }

  /** Files of layers that the record does not name, which only a crash leaves. */
  async #removeReplaced(spec: KeptSpec): Promise<void> {
    const named = new Set(spec.disks.map(overlayFile))
    for (const name of await readdir(this.path(spec.id))) {
      if (OVERLAY_FILE.test(name) && !named.has(name))
        await rm(join(this.path(spec.id), name), { force: true })
    }
  }

  /** Takes the name away first, so that a crash leaves no half machine that looks whole. */
  async remove(id: MachineId): Promise<void> {
    const going = join(this.directory, GOING + id)
    try {
      await rename(this.path(id), going)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw fileFault(error, 'Removing the machine')
    }
    await rm(going, { recursive: true, force: true })
    await syncFolder(this.directory)
  }
}

function overlayFile({ id, overlay }: KeptDisk): string {
  assert(ID.test(id), 'a disk id is 17 letters and digits')
  return overlay === undefined ? `${id}.qcow2` : `${id}-${overlay}.qcow2`
}

function writeSpec(folder: string, spec: KeptSpec): Promise<void> {
  const record = { version: SPEC_VERSION, spec }
  return writeDurably(join(folder, SPEC_FILE), `${JSON.stringify(record, null, 1)}\n`)
}

export function diskAbsent(id: DiskId): Fault {
  return new Fault('absent', `The machine has no disk '${id}'. Ask for the machine to see its disks.`, {
    subject: 'disk',
  })
}

export function machineAbsent(id: MachineId): Fault {
  return new Fault('absent', `The host has no machine '${id}'.`, { subject: 'machine' })
}

/** A qcow2 file that reads as zeroes. It names no backing: whoever opens it says what is behind. */
export async function createOverlay(path: string, sizeBytes: number, signal?: AbortSignal): Promise<void> {
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', OVERLAY_OPTIONS, path, String(sizeBytes)], {
    doing: 'Making a disk',
    package: 'qemu-utils',
    timeoutMs: 30_000,
    ...(signal && { signal }),
  })
}

/** What any driver demands of a spec. The caller has checked the user's wishes; these are its own promises. */
export function checkSpec(spec: MachineSpec): void {
  assert(ID.test(spec.id))
  assert(spec.disks.length > 0, 'a machine has a system disk')
  assert(Number.isSafeInteger(spec.cpuCount) && spec.cpuCount > 0)
  assert(Number.isSafeInteger(spec.memoryBytes) && spec.memoryBytes >= 1 << 20)
  assert(new Set(spec.disks.map((disk) => disk.id)).size === spec.disks.length, 'disk ids differ')
  for (const disk of spec.disks) {
    assert(ID.test(disk.id))
    assert(Number.isSafeInteger(disk.sizeBytes) && disk.sizeBytes > 0 && disk.sizeBytes % 512 === 0)
  }
}

function parseSpec(id: MachineId, text: string): KeptSpec {
  try {
    const record = JSON.parse(text) as { version: number; spec: KeptSpec }
    assert(record.version === SPEC_VERSION && record.spec.id === id)
    checkSpec(record.spec)
    return record.spec
  } catch (error) {
    throw new Fault('corrupt', `The record of machine '${id}' cannot be read.`, {
      subject: 'machine',
      cause: error,
    })
  }
}
