import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { access, chmod, constants, lstat, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Fault } from './image/fault.ts'

/** A unix socket's path has at most 107 bytes, and the names below this folder take up to 37. */
const RUN_DIRECTORY_BYTES_MAX = 70

/** Makes a folder that a setting names. Throws Fault 'invalid' that names the setting. */
export async function ensureFolder(setting: string, path: string, mode = 0o755): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode })
    if (mode === 0o700) await chmod(path, mode)
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'it is no directory'
    throw new Fault(
      'invalid',
      `The setting ${setting} takes a directory that can be made and written; ${path} cannot (${why}).`,
      { field: setting, cause },
    )
  }
}

/** The text of the settings file. Throws Fault 'invalid' that names the flag. */
export function readConfig(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code
    throw new Fault(
      'invalid',
      `The flag --config takes a YAML file that can be read; ${path} cannot (${why}).`,
      {
        field: 'config',
        cause,
      },
    )
  }
}

/** The folder for sockets: in the data directory where the path is short enough, else one of its own. */
export async function ensureRunDirectory(data: string): Promise<string> {
  const inside = join(data, 'run')
  const short = join(tmpdir(), `calotype-${createHash('sha256').update(data).digest('hex').slice(0, 12)}`)
  const path = Buffer.byteLength(inside) <= RUN_DIRECTORY_BYTES_MAX ? inside : short
  await mkdir(path, { recursive: true, mode: 0o700 })
  // In the common folder for temporary files somebody else may have made it first, to reach our sockets.
  const found = await lstat(path)
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new Fault('conflict', `${path} belongs to somebody else. Remove it, or give a shorter --data.`)
  }
  await chmod(path, 0o700)
  return path
}

/** Held as long as this process lives, however it ends. Throws Fault 'conflict' if another server has it. */
export function lockData(data: string): DatabaseSync {
  const lock = new DatabaseSync(join(data, 'lock.db'))
  try {
    lock.exec('pragma locking_mode = exclusive; begin exclusive; pragma user_version = 1; commit')
    return lock
  } catch (cause) {
    lock.close()
    throw new Fault('conflict', `Another server uses ${data}. Stop it first, or give another --data.`, {
      cause,
    })
  }
}
