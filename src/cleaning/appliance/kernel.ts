import { constants } from 'node:fs'
import { access, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '../../host/tools/durable.ts'
import { Fault } from '../../image/fault.ts'

export interface Kernel {
  /** As `uname -r` says it. */
  readonly version: string
  readonly path: string
  /** Its modules. */
  readonly folder: string
}

const VERSION = /^\d[\w.+~-]{0,99}$/
/** The ELF and the bzImage both carry it; QEMU boots the latter. Source: Linux, Documentation/arch/x86/boot.rst, "header". */
const BZIMAGE = { offset: 0x202, magic: 'HdrS' }

/**
 * The newest kernel that has its modules, in the first of the folders that has any. Each is laid out as '/' is: kernels as
 * boot/vmlinuz-VERSION or beside their modules in lib/modules/VERSION. Throws Fault 'unavailable' where there is none.
 */
export async function findKernel(roots: readonly string[]): Promise<Kernel> {
  for (const root of roots) {
    for (const modules of [join(root, 'lib/modules'), join(root, 'usr/lib/modules')]) {
      const versions = (await namesIn(modules)).filter((name) => VERSION.test(name)).sort(newestFirst)
      for (const version of versions) {
        const folder = join(modules, version)
        if ((await namesIn(join(folder, 'kernel'))).length === 0) continue
        for (const path of [join(root, 'boot', `vmlinuz-${version}`), join(folder, 'vmlinuz')]) {
          if (await canBoot(path)) return { version, path, folder }
        }
      }
    }
  }
  throw new Fault(
    'unavailable',
    'Cleaning ext4 needs a Linux kernel that the service may read, with its modules. Install the package ' +
      "'linux-image-cloud-amd64', or let scripts/setup.sh fetch it.",
    { subject: 'host', reason: 'tool-missing' },
  )
}

/** By their numbers: 6.10 is newer than 6.9. */
function newestFirst(one: string, other: string): number {
  return other.localeCompare(one, 'en', { numeric: true })
}

async function canBoot(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK)
    return (await readFile(path)).toString('latin1', BZIMAGE.offset, BZIMAGE.offset + 4) === BZIMAGE.magic
  } catch (error) {
    // On some systems root alone may read a kernel; another one may do.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES')) return false
    throw error
  }
}

async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return []
    throw error
  }
}
