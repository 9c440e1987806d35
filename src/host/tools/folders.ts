import assert from 'node:assert/strict'
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'
import type { MachineId } from '../../image/ids.ts'
import type { MachineDisk, MachineSpec } from '../contract.ts'
import { fileFault, findText, isErrno, syncFile, syncFolder, writeDurably } from './durable.ts'
import { runTool } from './run.ts'

const SPEC_VERSION = 1
const SPEC_FILE = 'spec.json'
const ID = /^[0-9a-z]{17}$/
const MAKING = '.making-'
const GOING = '.going-'
/**
 * 256 KiB clusters, the size of our chunks, keep a terabyte's tables at 64 MiB; subclusters (a 32nd of that) keep the
 * copy that a small first write causes at 8 KiB.
 */
const OVERLAY_OPTIONS = 'cluster_size=256k,extended_l2=on'

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

  overlayPath(id: MachineId, disk: MachineDisk): string {
    assert(ID.test(disk.id), 'a disk id is 17 letters and digits')
    return join(this.path(id), `${disk.id}.qcow2`)
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

  async find(id: MachineId): Promise<MachineSpec | undefined> {
    const text = await findText(join(this.path(id), SPEC_FILE))
    return text === undefined ? undefined : parseSpec(id, text)
  }

  /** Throws Fault 'absent'. */
  async get(id: MachineId): Promise<MachineSpec> {
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
    if ((await this.find(spec.id)) !== undefined) return
    const folder = join(this.directory, MAKING + spec.id)
    try {
      await rm(folder, { recursive: true, force: true })
      await mkdir(folder, { mode: 0o700 })
      for (const disk of spec.disks) {
        const path = join(folder, `${disk.id}.qcow2`)
        await createOverlay(path, disk.sizeBytes, signal)
        await syncFile(path)
      }
      await more?.(folder)
      await writeDurably(
        join(folder, SPEC_FILE),
        `${JSON.stringify({ version: SPEC_VERSION, spec }, null, 1)}\n`,
      )
      await rename(folder, this.path(spec.id))
      await syncFolder(this.directory)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw fileFault(error, 'Making the machine')
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

function parseSpec(id: MachineId, text: string): MachineSpec {
  try {
    const record = JSON.parse(text) as { version: number; spec: MachineSpec }
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
