import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { access, mkdir, open, readdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileFault, isErrno, syncFolder } from '../../host/tools/durable.ts'
import { runTool, toolMissing } from '../../host/tools/run.ts'
import { type CpioMember, writeCpio } from './cpio.ts'
import { findKernel, type Kernel } from './kernel.ts'
import { readModules } from './modules.ts'

/** What QEMU boots. */
export interface ApplianceFiles {
  readonly kernelPath: string
  readonly initialPath: string
  /** By name: kernel, e2fsprogs. */
  readonly tools: Readonly<Record<string, string>>
}

/** The guest's programs and their packages. busybox has no `rm` for paths beyond 4096 bytes, and no `chattr`. */
const PROGRAMS = [
  ['busybox', 'busybox-static'],
  ['e2fsck', 'e2fsprogs'],
  ['chattr', 'e2fsprogs'],
  ['lsattr', 'e2fsprogs'],
  ['rm', 'coreutils'],
] as const

const AGENT_PATH = join(import.meta.dirname, 'agent.sh')
const OWN_FILES = ['agent.sh', 'build.ts', 'cpio.ts', 'modules.ts']
const KEPT = 'appliance-'
const MAKING = '.making-appliance-'

/** A file of the host that goes into the guest at `target`. */
interface Part {
  readonly path: string
  readonly target: string
}

/**
 * Kernel and first file system of the guest, made of what is installed on the host: once, and again when any of it changes.
 * They are kept in `cacheFolder` and appear there in one rename, so that builds at the same time do not hurt each other.
 * No right of root is needed. Faults: 'unavailable' for what is not installed, 'full' without room; or the signal's reason,
 * and then nothing new is kept.
 */
export async function buildAppliance(
  cacheFolder: string,
  kernelRoots: readonly string[],
  signal?: AbortSignal,
): Promise<ApplianceFiles> {
  const kernel = await findKernel(kernelRoots)
  const programs = await Promise.all(PROGRAMS.map(([name, from]) => findProgram(name, from)))
  const libraries = await findLibraries(programs, signal)
  const parts = [...programs, ...libraries]
  const name = KEPT + (await hashInputs(kernel, parts))
  const folder = join(cacheFolder, name)
  const tools = { kernel: kernel.version, e2fsprogs: await e2fsprogsVersion(signal) }
  const files = { kernelPath: join(folder, 'kernel'), initialPath: join(folder, 'initial'), tools }
  try {
    if (await isThere(folder)) return files
    await mkdir(cacheFolder, { recursive: true, mode: 0o700 })
    await make(folder, kernel, parts, signal)
    await removeOthers(cacheFolder, name)
  } catch (error) {
    throw fileFault(error, 'Making the appliance for ext4')
  }
  return files
}

async function make(
  folder: string,
  kernel: Kernel,
  parts: readonly Part[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const making = join(dirname(folder), MAKING + randomUUID())
  try {
    await mkdir(making, { mode: 0o700 })
    await writeSynced(join(making, 'kernel'), await readFile(kernel.path))
    signal?.throwIfAborted()
    const members = await membersOf(kernel, parts)
    signal?.throwIfAborted()
    await writeSynced(join(making, 'initial'), writeCpio(members))
    signal?.throwIfAborted()
    await syncFolder(making)
    await rename(making, folder)
    await syncFolder(dirname(folder))
  } catch (error) {
    await rm(making, { recursive: true, force: true })
    // Somebody else has made the same one meanwhile.
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error
  }
}

async function membersOf(kernel: Kernel, parts: readonly Part[]): Promise<CpioMember[]> {
  const files: { path: string; mode: number; bytes: Buffer }[] = [
    { path: 'init', mode: 0o755, bytes: await readFile(AGENT_PATH) },
  ]
  for (const { path, target } of parts) {
    files.push({ path: target, mode: 0o755, bytes: await readFile(path) })
  }
  // The guest loads them in the order of their names.
  for (const [index, { name, bytes }] of (await readModules(kernel.folder)).entries()) {
    files.push({ path: `modules/${String(index).padStart(3, '0')}-${name}.ko`, mode: 0o644, bytes })
  }
  const folders = new Set(['dev', 'proc', 'sys', 'tmp', 'volumes', 'modules'])
  for (const { path } of files) {
    for (let above = dirname(path); above !== '.'; above = dirname(above)) folders.add(above)
  }
  return [
    // Sorted, a folder comes before what is in it.
    ...[...folders].sort().map((path) => ({ is: 'folder', path }) as const),
    { is: 'console', path: 'dev/console' },
    ...files.map((file) => ({ is: 'file', ...file }) as const),
  ]
}

async function findProgram(name: string, packageName: string): Promise<Part> {
  for (const folder of ['/usr/local/sbin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']) {
    const path = join(folder, name)
    if (await mayRun(path)) return { path: await realpath(path), target: `bin/${name}` }
  }
  throw toolMissing(name, packageName)
}

/** What the programs load when they start, at the places where they look for it. */
async function findLibraries(programs: readonly Part[], signal: AbortSignal | undefined): Promise<Part[]> {
  const found = new Map<string, Part>()
  for (const { path } of programs) {
    const text = await runTool('ldd', [path], {
      doing: 'Looking for the libraries of a program',
      package: 'libc-bin',
      timeoutMs: 10_000,
      ...(signal && { signal }),
      // A program that is linked statically has none.
      goodExitCodes: [0, 1],
    })
    for (const [library] of text.matchAll(/(?<=^|[\s])\/[^\s():]+(?= \(0x)/gm)) {
      found.set(library, { path: await realpath(library), target: library.slice(1) })
    }
  }
  return [...found.values()]
}

async function e2fsprogsVersion(signal: AbortSignal | undefined): Promise<string> {
  // It says it on standard error.
  const text = await runTool('/bin/sh', ['-c', 'PATH=$PATH:/usr/sbin:/sbin e2fsck -V 2>&1'], {
    doing: 'Asking e2fsck for its version',
    package: 'e2fsprogs',
    timeoutMs: 10_000,
    ...(signal && { signal }),
  })
  return /^e2fsck (\S{1,40})/m.exec(text)?.[1] ?? 'unknown'
}

async function hashInputs(kernel: Kernel, parts: readonly Part[]): Promise<string> {
  const hash = createHash('sha256')
  // How it is put together is an input too.
  for (const name of OWN_FILES) hash.update(await readFile(join(import.meta.dirname, name)))
  // The folder stands for all modules: they come in one package.
  for (const path of [kernel.path, join(kernel.folder, 'kernel'), ...parts.map(({ path }) => path)]) {
    const { size, mtimeMs } = await stat(path)
    hash.update(`\n${path} ${size} ${mtimeMs}`)
  }
  hash.update(JSON.stringify(parts))
  return hash.digest('hex').slice(0, 32)
}

async function removeOthers(cacheFolder: string, kept: string): Promise<void> {
  for (const name of await readdir(cacheFolder)) {
    const isOld = name.startsWith(KEPT) && name !== kept
    if (isOld || (name.startsWith(MAKING) && (await isForgotten(join(cacheFolder, name)))))
      await rm(join(cacheFolder, name), { recursive: true, force: true })
  }
}

/** A build takes seconds; one of an hour ago was cut off. */
async function isForgotten(path: string): Promise<boolean> {
  return await stat(path).then(
    ({ mtimeMs }) => mtimeMs < Date.now() - 3_600_000,
    () => false,
  )
}

async function writeSynced(path: string, bytes: Buffer): Promise<void> {
  const handle = await open(path, 'wx', 0o600)
  try {
    await handle.writeFile(bytes)
    await handle.datasync()
  } finally {
    await handle.close()
  }
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    (error) => {
      if (isErrno(error, 'ENOENT')) return false
      throw error
    },
  )
}

async function mayRun(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
