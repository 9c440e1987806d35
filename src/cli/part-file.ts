import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CommandFailure, EXIT, usageFailure } from './failure.ts'
import type { Piece } from './range-buffer.ts'
import { isAllZero } from './zero.ts'

/** Content of which every download has equal bytes. */
export interface PartMark {
  /** A strong validator. */
  readonly etag: string
  readonly sizeBytes: number
}

/**
 * A file that is being written under its name with `.part` behind it, and has its own name once it is whole and durable.
 * Blocks of zeroes are left out. Throws CommandFailure, which says what of the disk or the folder is in the way.
 */
export interface PartFile {
  /** From earlier tries too. */
  readonly doneBytes: number
  /** Of `doneBytes`, those that are there after whatever happens; once `leave` is over, where the next try goes on. */
  readonly durableBytes: number
  append(piece: Piece): Promise<void>
  finish(): Promise<void>
  /** Of a file with a mark: the next try goes on where this one stopped. Of another: takes it away. */
  leave(): Promise<void>
}

const BLOCK_BYTES = 4096
/** Of content that is the same as no other. */
const UNMARKED: PartMark = { etag: '', sizeBytes: Number.MAX_SAFE_INTEGER }
/** After so many bytes what was written is made durable, and noted, while more is written. */
const NOTE_BYTES = 128 * 1024 ** 2

interface Note extends PartMark {
  readonly doneBytes: number
  /** Who writes to it, as far as that process is still there. */
  readonly processId: number
}

/** Throws CommandFailure if something has this name and may not be replaced. */
export async function requireFree(path: string, mayReplace: boolean): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw usageFailure(`Cannot write ${path} (${error.code}). Name another file.`)
  })
  if (found === undefined) return requireFolder(dirname(path))
  if (found.isDirectory()) throw usageFailure(`${path} is a folder. Name a file in it.`)
  if (!mayReplace)
    throw usageFailure(`${path} is there already. Name another file, or replace it with --force.`)
}

async function requireFolder(path: string): Promise<void> {
  const isThere = (await stat(path).catch(() => undefined))?.isDirectory() === true
  if (!isThere) throw usageFailure(`There is no folder ${path}. Make it, or name another file.`)
}

/** `mark` undefined for content that cannot be gone on with. */
export async function openPartFile(
  path: string,
  mark: PartMark | undefined,
  mayReplace: boolean,
): Promise<PartFile> {
  await requireFree(path, mayReplace)
  const part = `${path}.part`
  const notePath = `${path}.part.json`
  const note = await readNote(notePath)
  if (note !== undefined && isOther(note.processId)) {
    const message = `Process ${note.processId} is writing ${part}. Wait for it; if it is some other program, delete ${notePath}.`
    throw new CommandFailure(EXIT.fault, message)
  }
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants
  const handle = await open(part, O_RDWR | O_CREAT | O_NOFOLLOW).catch((error: NodeJS.ErrnoException) => {
    throw usageFailure(`Cannot write ${part} (${error.code}). Name another file, or see what is in the way.`)
  })
  const keep = mark !== undefined && note?.etag === mark.etag && note.sizeBytes === mark.sizeBytes
  let doneBytes = keep ? note.doneBytes : 0
  let notedBytes = doneBytes
  const guard = async <Value>(work: Promise<Value>): Promise<Value> => {
    try {
      return await work
    } catch (error) {
      throw writeFailure(part, error as NodeJS.ErrnoException)
    }
  }
  let begunBytes = doneBytes
  let noting: Promise<void> | undefined
  let lost: unknown
  /** Resolves when the note is begun: it speaks of what was written until then, while more is written behind that. */
  const beginNote = async () => {
    await noting
    if (lost !== undefined) throw lost
    begunBytes = doneBytes
    // Zeroes at the end are there too; what an earlier try wrote behind them is not.
    await handle.truncate(begunBytes)
    noting = writeNote(begunBytes).catch((error: unknown) => {
      // The kernel tells of lost bytes once: the next sync would not fail for them.
      lost = error
    })
  }
  const writeNote = async (safeBytes: number) => {
    // What is noted as done has to be there after a crash.
    await handle.datasync()
    const said: Note = { ...(mark ?? UNMARKED), doneBytes: safeBytes, processId: process.pid }
    await writeFile(`${notePath}.new`, JSON.stringify(said))
    await rename(`${notePath}.new`, notePath)
    notedBytes = safeBytes
  }
  const endNote = async () => {
    await noting
    if (lost !== undefined) throw lost
  }
  const takeNote = async () => {
    await beginNote()
    await endNote()
  }
  try {
    const { size } = await guard(handle.stat())
    if (size < doneBytes) doneBytes = 0
    await guard(takeNote())
  } catch (error) {
    await handle.close()
    throw error
  }
  return {
    get doneBytes() {
      return doneBytes
    },
    get durableBytes() {
      return notedBytes
    },
    async append({ lengthBytes, bytes }) {
      if (bytes !== undefined) await guard(writeSparsely(handle, bytes, doneBytes))
      doneBytes += lengthBytes
      if (doneBytes - begunBytes >= NOTE_BYTES) await guard(beginNote())
    },
    async finish() {
      await guard(endNote())
      await guard(handle.truncate(doneBytes))
      await guard(handle.sync())
      await handle.close()
      await requireFree(path, mayReplace)
      await guard(rename(part, path))
      await rm(notePath, { force: true })
      await syncFolder(dirname(path))
    },
    async leave() {
      // Whatever ended the download is to be told, not that a disk which is full has no room for a note either.
      await takeNote().catch(() => rm(`${notePath}.new`, { force: true }).catch(() => {}))
      await handle.close().catch(() => {})
      if (mark !== undefined) return
      for (const left of [part, notePath]) await rm(left, { force: true }).catch(() => {})
    },
  }
}

async function readNote(path: string): Promise<Note | undefined> {
  try {
    const value = JSON.parse(await readFile(path, 'utf8')) as Partial<Note> | null
    const { etag, sizeBytes, doneBytes, processId } = value ?? {}
    const isWhole = [sizeBytes, doneBytes, processId].every(
      (one) => Number.isSafeInteger(one) && Number(one) >= 0,
    )
    return typeof etag === 'string' && isWhole && Number(doneBytes) <= Number(sizeBytes)
      ? (value as Note)
      : undefined
  } catch {
    return undefined
  }
}

function isOther(processId: number): boolean {
  if (processId === process.pid || processId === 0) return false
  try {
    process.kill(processId, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function writeSparsely(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  // Most of a sparse file comes as pieces of nothing: a look at each block would cost more than its making did.
  if (isAllZero(bytes)) return
  const isZero = (at: number) => bytes[at] === 0 && isAllZero(bytes.subarray(at, at + BLOCK_BYTES))
  for (let at = 0; at < bytes.length; ) {
    const isHole = isZero(at)
    let end = at + BLOCK_BYTES
    while (end < bytes.length && isZero(end) === isHole) end += BLOCK_BYTES
    end = Math.min(end, bytes.length)
    if (!isHole) await writeWhole(handle, bytes.subarray(at, end), offset + at)
    at = end
  }
}

async function writeWhole(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    // A disk that is nearly full takes less than it was given, and says why at the next write.
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, offset + at)
    at += bytesWritten
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined)
  // Some file systems have no folders to sync: the file itself is durable.
  await handle?.sync().catch(() => {})
  await handle?.close()
}

function writeFailure(path: string, error: NodeJS.ErrnoException): CommandFailure {
  const why =
    error.code === 'ENOSPC' || error.code === 'EDQUOT'
      ? 'There is no room for it. Make room'
      : error.code === 'EFBIG'
        ? 'Its file system takes no file as large as this. Choose another'
        : 'See what is wrong with the disk'
  return new CommandFailure(EXIT.fault, `Cannot write ${path} (${error.code}). ${why}.`, { cause: error })
}
