import { access, constants, copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '../../image/fault.ts'

/** The firmware's code, shared by all machines, and the empty variables that each machine gets a copy of. */
export interface UefiFirmware {
  readonly codePath: string
  readonly variablesPath: string
}

const NAMES = [
  ['OVMF_CODE_4M.fd', 'OVMF_VARS_4M.fd'],
  ['OVMF_CODE.fd', 'OVMF_VARS.fd'],
] as const

/** Throws Fault 'invalid' if the host has no UEFI firmware: the caller may choose BIOS instead. */
export async function getUefiFirmware(folders: readonly string[]): Promise<UefiFirmware> {
  for (const folder of folders) {
    for (const [code, variables] of NAMES) {
      const firmware = { codePath: join(folder, code), variablesPath: join(folder, variables) }
      if ((await isReadable(firmware.codePath)) && (await isReadable(firmware.variablesPath))) return firmware
    }
  }
  throw new Fault(
    'invalid',
    "This host has no UEFI firmware. Install the package 'ovmf', or use BIOS firmware.",
    { subject: 'machine', field: 'firmware' },
  )
}

/** Gives a machine its own variables once; what the guest stored in them stays. */
export async function ensureVariables(firmware: UefiFirmware, path: string): Promise<void> {
  if (await isReadable(path)) return
  await copyFile(firmware.variablesPath, path, constants.COPYFILE_FICLONE)
}

async function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  )
}
