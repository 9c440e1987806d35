import assert from 'node:assert/strict'
import { type FileHandle, open, realpath } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { CommandFailure, EXIT, usageFailure } from './failure.ts'
import { printable } from './format.ts'

export interface Part {
  readonly offset: number
  readonly bytes: Buffer
  /** Nothing comes behind it. */
  readonly isLast: boolean
}

/** What was read before is no longer to be had, so that nothing can be made of what was sent. */
export class SourceLost extends CommandFailure {
  constructor(message: string) {
    super(EXIT.fault, message)
    this.name = 'SourceLost'
  }
}

/** What is sent, a part at a time. A part that was read stays valid until the next one is. */
export interface UploadSource {
  /** For people. */
  readonly name: string
  /** Undefined until its end was seen. */
  readonly lengthBytes: number | undefined
  /** From an offset of the part read last, or its end. Throws SourceLost. */
  read(offset: number): Promise<Part>
  close(): Promise<void>
}

export interface UploadFile extends UploadSource {
  readonly lengthBytes: number
  /** Tells this content of the file from another. */
  readonly mark: { readonly path: string; readonly sizeBytes: number; readonly changedAtNs: string }
}

/** A file of this computer. Throws CommandFailure for what is none, or is empty. */
export async function openUploadFile(path: string, partBytes: number): Promise<UploadFile> {
  const handle = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw usageFailure(`Cannot read ${path} (${error.code}). Name a file that is there.`)
  })
  try {
    return await describeFile(handle, path, partBytes)
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function readable<Value>(name: string, work: Promise<Value>): Promise<Value> {
  try {
    return await work
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new CommandFailure(EXIT.fault, `Cannot read ${name} (${code}). See what is wrong with it.`, {
      cause,
    })
  }
}

async function describeFile(handle: FileHandle, path: string, partBytes: number): Promise<UploadFile> {
  const look = async () => {
    const stat = await handle.stat({ bigint: true })
    if (stat.isDirectory()) throw usageFailure(`${path} is a folder; name a file in it.`)
    return { isFile: stat.isFile(), sizeBytes: Number(stat.size), changedAtNs: String(stat.mtimeNs) }
  }
  const first = await look()
  if (!first.isFile)
    throw usageFailure(`${path} is no file. What is no file comes through a pipe: … import - < ${path}`)
  const lengthBytes = first.sizeBytes
  if (lengthBytes === 0) throw usageFailure(`${path} is empty. Name a file that holds a disk.`)
  const buffer = Buffer.allocUnsafe(Math.min(partBytes, lengthBytes))
  return {
    name: printable(path),
    lengthBytes,
    mark: { path: await realpath(path), sizeBytes: lengthBytes, changedAtNs: first.changedAtNs },
    async read(offset) {
      const bytes = buffer.subarray(0, Math.min(partBytes, lengthBytes - offset))
      let filled = 0
      while (filled < bytes.length) {
        const { bytesRead } = await readable(
          path,
          handle.read(bytes, filled, bytes.length - filled, offset + filled),
        )
        if (bytesRead === 0) break
        filled += bytesRead
      }
      const now = await look()
      if (filled < bytes.length || now.sizeBytes !== lengthBytes || now.changedAtNs !== first.changedAtNs) {
        // Half of one content and half of another would be a disk that never was.
        const message = `${path} changed while it was sent. Stop what writes to it, and run the command again.`
        throw new SourceLost(message)
      }
      return { offset, bytes, isLast: offset + bytes.length === lengthBytes }
    },
    close: () => handle.close(),
  }
}

/** What comes through a pipe: one part is held, so that it can be sent again. Throws CommandFailure if nothing comes. */
export function openUploadStream(stream: NodeJS.ReadableStream, partBytes: number): UploadSource {
  const chunks = stream[Symbol.asyncIterator]()
  /** Came behind the part in hand. */
  let rest: Buffer[] = []
  let restBytes = 0
  let hasEnded = false
  let part: Part = { offset: 0, bytes: Buffer.alloc(0), isLast: false }
  /** Beyond a whole part, so that the last one is known to be the last. */
  const fill = async () => {
    while (!hasEnded && restBytes <= partBytes) {
      const { done, value } = await readable('standard input', chunks.next())
      if (done === true) hasEnded = true
      else {
        const bytes = Buffer.from(value as string)
        rest.push(bytes)
        restBytes += bytes.length
      }
    }
  }
  return {
    name: 'standard input',
    get lengthBytes() {
      return part.isLast ? part.offset + part.bytes.length : undefined
    },
    async read(offset) {
      const end = part.offset + part.bytes.length
      if (offset < part.offset || offset > end) {
        const message =
          'The server has lost a part of what came through the pipe, which cannot be read twice. Run it again.'
        throw new SourceLost(message)
      }
      if (offset < end) {
        part = { ...part, offset, bytes: part.bytes.subarray(offset - part.offset) }
        return part
      }
      assert(!part.isLast, 'nothing comes behind the last part')
      await fill()
      const all = Buffer.concat(rest)
      rest = all.length > partBytes ? [all.subarray(partBytes)] : []
      restBytes = Math.max(0, all.length - partBytes)
      part = { offset, bytes: all.subarray(0, partBytes), isLast: hasEnded && restBytes === 0 }
      if (offset === 0 && part.bytes.length === 0) {
        throw usageFailure('Nothing came through standard input. Pipe a disk in, or name a file.')
      }
      return part
    },
    // Ending the iteration would wait for a read that is under way, of a pipe where nothing comes any more.
    close: async () => void (stream as Partial<Readable>).destroy?.(),
  }
}
