import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Fault } from '../../image/fault.ts'

/** True for a Node error with this code ('ENOENT', …). */
export function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

/** The end of a sentence that tells what failed. */
export const MAKE_ROOM = "the host's disk has no space left. Make room there, then try again."

/** What to do about a failed file call. Node's own words name a path of the host, which is no tenant's business. */
const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: 'the service may not use a file there. Give it the right, then try again.',
  EPERM: 'the service may not use a file there. Give it the right, then try again.',
  EROFS: "the host's disk is read-only. Mount it for writing, then try again.",
  EIO: "the host's disk has an error. Look at the disk, then try again.",
  EMFILE: 'the service has too many files open. Try again later, or raise its limit.',
  ENFILE: 'the host has too many files open. Try again later.',
  ENOTDIR: 'a file is where a folder should be. Take it away, then try again.',
  EISDIR: 'a folder is where a file should be. Take it away, then try again.',
}

/** The world's reasons behind a failed file call, as a Fault with the path in its cause; anything else is passed on. */
export function fileFault(error: unknown, doing: string): unknown {
  if (isErrno(error, 'ENOSPC', 'EDQUOT'))
    return new Fault('full', `${doing} failed: ${MAKE_ROOM}`, { subject: 'host', cause: error })
  const remedy = error instanceof Error && 'code' in error ? REMEDIES[String(error.code)] : undefined
  if (remedy === undefined) return error
  return new Fault('unavailable', `${doing} failed: ${remedy}`, { subject: 'host', cause: error })
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
    // What is half written takes room that may just be what is missing.
    await rm(temporary, { force: true }).catch(() => {})
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
