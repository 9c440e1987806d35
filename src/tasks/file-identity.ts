import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Fault } from '../image/fault.ts'

/**
 * Which file it is, and as of which change: whatever is written to it or put in its place makes another text. Somebody who
 * writes in the very tick of the clock in which it was looked at is not seen.
 */
export function identityOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
}

/**
 * Opens a file of the import folder: a regular one and no link. Faults 'absent' and 'invalid' 'file'; with the `identity` of
 * an earlier look 'conflict' 'file' for another one.
 */
export async function openPlain(
  path: string,
  identity: string | undefined,
): Promise<{ readonly file: FileHandle; readonly status: BigIntStats }> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((cause) => {
    const message = 'The file is not in the import folder of the server any more. Put it there again.'
    throw new Fault('absent', message, { subject: 'file', cause })
  })
  try {
    const status = await file.stat({ bigint: true })
    if (!status.isFile()) {
      const message = 'It is no regular file. Put the file itself into the import folder.'
      throw new Fault('invalid', message, { subject: 'file' })
    }
    refuseAnother(identity, status)
    return { file, status }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Throws Fault 'conflict' 'file' for another file than the one of that identity. */
export function refuseAnother(identity: string | undefined, status: BigIntStats): void {
  if (identity !== undefined && identityOf(status) !== identity) throw changed()
}

/** The same fault where what is held open was written to. What becomes of its name is of no account. */
export function refuseChanged(identity: string | undefined, { size, mtimeNs }: BigIntStats): void {
  if (identity === undefined) return
  const [, , thenSize, thenMtimeNs] = identity.split(' ')
  if (String(size) !== thenSize || String(mtimeNs) !== thenMtimeNs) throw changed()
}

const changed = () =>
  new Fault('conflict', 'The file was changed or replaced while it was imported. Import it again.', {
    subject: 'file',
  })
