import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Fault } from '../../image/fault.ts'

/** True for a Node error with this code ('ENOENT', …). */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

/** The world's reasons behind a failed file call, as a Fault; anything else is passed on. */
export function fileFault(error: unknown, doing: string): unknown {
  if (isErrno(error, 'ENOSPC', 'EDQUOT'))
    return new Fault('full', `${doing} failed: no space left.`, { subject: 'host', cause: error })
  if (isErrno(error, 'EACCES', 'EPERM', 'EROFS', 'EIO', 'EMFILE', 'ENOTDIR'))
    return new Fault('unavailable', `${doing} failed: ${(error as Error).message}`, {
      subject: 'host',
      cause: error,
    })
  return error
}

/** Makes names in a folder survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a file's bytes survive a power cut. Another process may be writing it: its pages are the same ones. */
export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.datasync()
  } finally {
    await handle.close()
  }
}

/** After this, `path` holds `text` or, had we crashed on the way, what it held before. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`
  try {
    const handle = await open(temporary, 'w', 0o600)
    try {
      await handle.writeFile(text)
      await handle.datasync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
    await syncFolder(dirname(path))
  } catch (error) {
    throw fileFault(error, 'Writing a record of the machine')
  }
}

/** The file's text, or undefined if there is none. */
export async function findText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw fileFault(error, 'Reading a record of the machine')
  }
}
