import { join } from 'node:path'
import type { MachineId } from '../../image/ids.ts'
import type { MachineFolders } from '../tools/folders.ts'
import { socketPath } from '../tools/sockets.ts'

/** Where the files and sockets of one QEMU are. Sockets have short names, because the kernel limits their paths. */
export interface GuestPaths {
  readonly folder: string
  readonly pid: string
  readonly error: string
  readonly consoleLog: string
  /** Where QEMU notes that its guest has powered itself off. */
  readonly shutdownLog: string
  /** There as long as the guest's file systems may be frozen. */
  readonly freezeMark: string
  readonly firmwareVariables: string
  readonly monitor: string
  readonly console: string
  readonly agent: string
}

/** The capture socket is the longest name: 17 characters of id and 12 more. Throws Fault 'invalid' for a long path. */
export function guestPaths(folders: MachineFolders, runDirectory: string, id: MachineId): GuestPaths {
  const folder = folders.path(id)
  return {
    folder,
    pid: join(folder, 'qemu.pid'),
    error: join(folder, 'qemu.log'),
    consoleLog: join(folder, 'console.log'),
    shutdownLog: join(folder, 'shutdown.log'),
    freezeMark: join(folder, 'qemu.freeze'),
    firmwareVariables: join(folder, 'firmware-variables.fd'),
    monitor: socketPath(runDirectory, `${id}.q`),
    console: socketPath(runDirectory, `${id}.c`),
    agent: socketPath(runDirectory, `${id}.a`),
  }
}
