import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { extname, join, parse } from 'node:path'
import { Fault } from '../../image/fault.ts'
import type { DiskId, MachineId } from '../../image/ids.ts'
import { fileFault, isErrno } from '../tools/durable.ts'
import type { BlockNode } from '../tools/graph.ts'

/** The format is the file name's word, never a guess from content that a guest may have written. */
const FORMATS: Readonly<Record<string, 'raw' | 'qcow2'>> = { '.raw': 'raw', '.img': 'raw', '.qcow2': 'qcow2' }

/** What says that a file is not there or not for us, rather than that the host is in trouble. */
const UNREADABLE = ['ENOENT', 'ELOOP', 'ENOTDIR', 'EACCES', 'EPERM']

/** A machine that the operator put there as files: `NAME.qcow2`, or a folder `NAME/` with one file per disk. */
export interface OperatorMachine {
  readonly id: MachineId
  /** The file's or the folder's name, without the ending that tells the format. */
  readonly name: string
  readonly paths: readonly string[]
}

export interface OperatorDisk {
  readonly id: DiskId
  readonly sizeBytes: number
  readonly tree: BlockNode
}

/** The same name always gets the same id, so that nothing needs to be written beside the operator's files. */
export function idOfName<Kind extends 'machine' | 'disk'>(
  name: string,
): Kind extends 'machine' ? MachineId : DiskId {
  const hash = BigInt(`0x${createHash('sha256').update(name).digest('hex')}`)
  return hash.toString(36).slice(-17).padStart(17, '0') as Kind extends 'machine' ? MachineId : DiskId
}

/** The id of the disk in this file. */
export function diskIdOf(directory: string, path: string): DiskId {
  return idOfName<'disk'>(path.slice(directory.length))
}

/** In the order of names; the first file of a folder is the system disk. A folder that cannot be read holds none. */
export async function findOperatorMachines(directory: string): Promise<OperatorMachine[]> {
  const machines: OperatorMachine[] = []
  const entries = await readdir(directory, { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, entry.name)
    if (entry.isFile() && isDisk(entry.name)) {
      machines.push({ id: idOfName<'machine'>(entry.name), name: parse(entry.name).name, paths: [path] })
    } else if (entry.isDirectory() && !entry.name.startsWith('.')) {
      const names = (await readdir(path).catch(noneIfUnreadable)).sort()
      if (names.includes('spec.json')) continue
      const paths = names.filter(isDisk).map((name) => join(path, name))
      if (paths.length > 0) machines.push({ id: idOfName<'machine'>(entry.name), name: entry.name, paths })
    }
  }
  return machines
}

/**
 * Throws Fault 'invalid' for a file that refers to others: it could show any file of this host as disk content. Also for
 * one that cannot be read: a link to nothing, a folder, a file of somebody else.
 */
export async function readOperatorDisk(directory: string, path: string): Promise<OperatorDisk> {
  try {
    return await readDisk(directory, path)
  } catch (cause) {
    if (isErrno(cause, ...UNREADABLE))
      throw invalid(path, 'cannot be read. Give the service the right to read it, or take it away.', cause)
    throw fileFault(cause, 'Reading a disk file')
  }
}

async function readDisk(directory: string, path: string): Promise<OperatorDisk> {
  const driver = FORMATS[extname(path)]
  // Before it is opened: opening a pipe would wait for its other end.
  if (!(await stat(path)).isFile()) throw invalid(path, 'is no file. Take it away, or put a disk there.')
  const handle = await open(path, 'r')
  try {
    const sizeBytes = driver === 'qcow2' ? await qcow2SizeBytes(handle, path) : await rawSizeBytes(handle)
    const file = { driver: 'file', filename: path, 'read-only': true }
    const tree =
      driver === 'qcow2'
        ? { driver, 'read-only': true, file, backing: null }
        : { driver: 'raw', 'read-only': true, file }
    return { id: diskIdOf(directory, path), sizeBytes, tree }
  } finally {
    await handle.close()
  }
}

function noneIfUnreadable(error: unknown): string[] {
  if (isErrno(error, ...UNREADABLE)) return []
  throw fileFault(error, 'Looking for disk files')
}

function isDisk(name: string): boolean {
  return !name.startsWith('.') && extname(name) in FORMATS
}

async function rawSizeBytes(handle: FileHandle): Promise<number> {
  const { size } = await handle.stat()
  return Math.ceil(size / 512) * 512
}

/** Source: QEMU, docs/interop/qcow2.txt: "Header"; incompatible feature bit 2 is "external data file". */
async function qcow2SizeBytes(handle: FileHandle, path: string): Promise<number> {
  const header = Buffer.alloc(80)
  const { bytesRead } = await handle.read(header, 0, header.length, 0)
  if (bytesRead < 72 || header.readUInt32BE(0) !== 0x514649fb)
    throw invalid(path, 'is no qcow2 file. Give it the name of its format: .raw, .img or .qcow2.')
  if (header.readBigUInt64BE(8) !== 0n)
    throw invalid(path, "has a backing file. Flatten it with 'qemu-img convert -O qcow2' first.")
  const isVersion3 = header.readUInt32BE(4) >= 3
  if (isVersion3 && (header.readBigUInt64BE(72) & 4n) !== 0n)
    throw invalid(path, "keeps its data in another file. Join them with 'qemu-img convert -O qcow2' first.")
  return Number(header.readBigUInt64BE(24))
}

function invalid(path: string, what: string, cause?: unknown): Fault {
  return new Fault('invalid', `The disk file '${path.slice(path.lastIndexOf('/') + 1)}' ${what}`, {
    subject: 'disk',
    cause,
  })
}
