import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip, zstdDecompress } from 'node:zlib'
import { isErrno } from '../../host/tools/durable.ts'
import { endedBadly, failed, toolMissing } from '../../host/tools/run.ts'
import { Fault } from '../../image/fault.ts'

/** A driver of the kernel, ready to be loaded. */
export interface KernelModule {
  readonly name: string
  readonly bytes: Buffer
}

/** What the appliance's kernel has to know, as modules or built in. */
const NEEDED = ['virtio_pci', 'virtio_blk', 'virtio_console', 'ext4']
/** ext4 asks for this checksum by a name that no dependency tells; newer kernels have it built in. */
const WELCOME = ['crc32c_generic']

const FILE = /\.ko(\.zst|\.gz|\.xz)?$/
const MODULE_BYTES_MAX = 64 << 20

/**
 * The modules that the appliance needs, each after those it stands on. The folder is one of /lib/modules. What stands on
 * what is read from the modules themselves, as the list of `depmod` is only there once a package is installed.
 * Throws Fault 'unavailable' for a kernel without one of them.
 */
export async function readModules(folder: string): Promise<KernelModule[]> {
  const files = await moduleFiles(folder)
  const builtIn = new Set((await linesOf(join(folder, 'modules.builtin'))).map(moduleName))
  const found = new Map<string, KernelModule>()
  // A module is put in place when those it stands on are, so each is looked at twice.
  const waiting = [...WELCOME, ...NEEDED].reverse().map((name) => ({ name, isNeeded: NEEDED.includes(name) }))
  const open = new Map<string, Buffer>()
  for (let next = waiting.at(-1); next !== undefined; next = waiting.at(-1)) {
    const { name, isNeeded } = next
    const bytes = open.get(name)
    const path = files.get(name)
    if (bytes !== undefined || found.has(name) || path === undefined) {
      waiting.pop()
      if (bytes !== undefined && !found.has(name)) found.set(name, { name, bytes })
      if (bytes === undefined && path === undefined && isNeeded && !builtIn.has(name)) throw without(name)
      continue
    }
    const read = await readModule(path)
    open.set(name, read)
    waiting.push(...dependencies(read).map((one) => ({ name: one, isNeeded: true })))
  }
  return [...found.values()]
}

function without(name: string): Fault {
  return new Fault(
    'unavailable',
    `The kernel for cleaning ext4 has no module '${name}'. Install another kernel package, or name its folder in the settings.`,
    { subject: 'host' },
  )
}

/** By name; the kernel takes '-' and '_' for the same. */
async function moduleFiles(folder: string): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  for (const path of await readdir(join(folder, 'kernel'), { recursive: true })) {
    if (FILE.test(path)) files.set(moduleName(path), join(folder, 'kernel', path))
  }
  return files
}

function moduleName(path: string): string {
  return basename(path).replace(FILE, '').replaceAll('-', '_')
}

/** Source: Linux, scripts/mod/modpost.c: the section .modinfo holds NAME=VALUE, each ended by a zero byte. */
function dependencies(bytes: Buffer): string[] {
  const marker = Buffer.from('\0depends=')
  const start = bytes.indexOf(marker)
  if (start < 0) return []
  const from = start + marker.length
  const text = bytes.toString('latin1', from, bytes.indexOf(0, from))
  return text
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName)
}

async function readModule(path: string): Promise<Buffer> {
  const limits = { maxOutputLength: MODULE_BYTES_MAX }
  if (path.endsWith('.zst')) return await promisify(zstdDecompress)(await readFile(path), limits)
  if (path.endsWith('.gz')) return await promisify(gunzip)(await readFile(path), limits)
  if (!path.endsWith('.xz')) return await readFile(path)
  return await unpackXz(path)
}

/** Fedora's and Arch's way of packing them, which Node does not read. */
async function unpackXz(path: string): Promise<Buffer> {
  const limits = { encoding: 'buffer', maxBuffer: MODULE_BYTES_MAX, timeout: 30_000 } as const
  try {
    return (await promisify(execFile)('xz', ['--decompress', '--stdout', '--', path], limits)).stdout
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw toolMissing('xz', 'xz-utils', error)
    throw failed('Unpacking a kernel module', endedBadly('xz'), '', error)
  }
}

async function linesOf(path: string): Promise<string[]> {
  try {
    return (await readFile(path, 'utf8')).split('\n')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}
