import { createByteProgress } from './byte-progress.ts'
import { type Download, type DownloadWish, openDownload } from './download.ts'
import { CommandFailure, EXIT, usageFailure } from './failure.ts'
import { formatBytes, printable } from './format.ts'
import { interruptible } from './interrupt.ts'
import { openPartFile, requireFree } from './part-file.ts'
import type { Session } from './session.ts'
import { zeroes } from './zero.ts'

export interface SaveWish extends DownloadWish {
  /** '-' is standard output; undefined the name that the server gives, in this folder. */
  readonly output: string | undefined
  /** Where the server gives no name that can be taken. */
  readonly fallbackName: string
  readonly mayReplace: boolean
}

export interface Saved {
  readonly file: string
  readonly sizeBytes: number
}

/** Throws CommandFailure where standard output is not a place for a file. */
export function requireOutput(session: Session, output: string | undefined): void {
  if (output !== '-') return
  if (session.isJson) throw usageFailure('With --json, standard output is for the JSON: name a file with -o.')
  if (session.io.stdout.isTerminal)
    throw usageFailure('That would write a disk to the terminal: name a file with -o.')
}

/** Downloads to a file, which has its name only once it is whole, or to standard output. */
export async function save(session: Session, wish: SaveWish): Promise<Saved> {
  const { io } = session
  if (wish.output !== undefined && wish.output !== '-') await requireFree(wish.output, wish.mayReplace)
  let doneBytes = 0
  /** What stays after a break, for people. */
  let kept = 'Nothing of it is kept.'
  let isMarked = false
  const describe = () => `Stopped at ${formatBytes(doneBytes)}. ${kept}`
  const onLeft = (durableBytes: number) => {
    doneBytes = durableBytes
  }
  return interruptible(io, describe, async (signal) => {
    const download = await openDownload(session, wish, signal)
    const file = wish.output ?? nameOf(download, wish.fallbackName)
    const progress = createByteProgress(
      io,
      file === '-' ? 'download' : `download ${printable(file)}`,
      download.sizeBytes,
    )
    const onBytes = (now: number) => {
      doneBytes = now
      progress.update(now)
    }
    try {
      if (file === '-') return await pour(session, download, onBytes)
      const { etag, sizeBytes } = download
      const mark = etag === undefined || sizeBytes === undefined ? undefined : { etag, sizeBytes }
      isMarked = mark !== undefined
      if (isMarked) kept = `What came is in ${file}.part: run the same command again to go on.`
      return await fill(download, file, mark, wish.mayReplace, { onBytes, onLeft })
    } catch (error) {
      if (!(error instanceof CommandFailure) || error.exitCode === EXIT.usage) throw error
      // What was said when it was interrupted knew only what had come, not what is safe.
      const isInterrupted = error.exitCode === EXIT.interrupted
      const message = isInterrupted ? describe() : `${error.message} ${isMarked ? describe() : kept}`
      throw new CommandFailure(error.exitCode, message, { cause: error })
    } finally {
      progress.end()
    }
  })
}

async function fill(
  download: Download,
  file: string,
  mark: { readonly etag: string; readonly sizeBytes: number } | undefined,
  mayReplace: boolean,
  { onBytes, onLeft }: Record<'onBytes' | 'onLeft', (byteCount: number) => void>,
): Promise<Saved> {
  const part = await openPartFile(file, mark, mayReplace)
  try {
    onBytes(part.doneBytes)
    for await (const piece of download.read(part.doneBytes, onBytes)) await part.append(piece)
    await part.finish()
  } catch (error) {
    await part.leave()
    if (mark !== undefined) onLeft(part.durableBytes)
    throw error
  }
  return { file, sizeBytes: part.doneBytes }
}

async function pour(
  { io }: Session,
  download: Download,
  onBytes: (doneBytes: number) => void,
): Promise<Saved> {
  let sizeBytes = 0
  for await (const { lengthBytes, bytes } of download.read(0, onBytes)) {
    for (const part of bytes === undefined ? zeroes(lengthBytes) : [bytes]) await io.stdout.writeOut(part)
    sizeBytes += lengthBytes
  }
  return { file: '-', sizeBytes }
}

/** A name from elsewhere is taken only if it is a plain one: it must not lead out of this folder, or hide. */
function nameOf({ fileName }: Download, fallbackName: string): string {
  return /^[\p{L}\p{N}_][\p{L}\p{N}_.+ -]{0,199}$/u.test(fileName) ? fileName : fallbackName
}
