import { randomBytes } from 'node:crypto'
import { type FileHandle, link, mkdir, open, opendir, readdir, rm, stat, unlink } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { Fault, isFault } from '../image/fault.ts'
import type { ObjectStore } from './contract.ts'
import { DIRECT_BYTES_MIN, writeDirect } from './direct-write.ts'
import { type ObjectName, parseObjectName } from './names.ts'

const TEMPORARY = '.tmp'

export interface DirectoryOptions {
  readonly folder: string
  /**
   * Removes what a crash left half written. Only for the first opener of a folder, before any other thread or
   * process writes to it: a temporary file does not tell whether its writer lives.
   */
  readonly clean: boolean
}

/** Objects as files below one folder, which is made if need be. */
export async function openDirectoryObjects(options: DirectoryOptions): Promise<ObjectStore> {
  const temporary = join(options.folder, TEMPORARY)
  try {
    if (options.clean) await rm(temporary, { recursive: true, force: true })
    await mkdir(temporary, { recursive: true })
    await syncFolder(options.folder)
  } catch (error) {
    throw translate(error, 'The store')
  }
  return new DirectoryObjects(options.folder)
}

class DirectoryObjects implements ObjectStore {
  readonly traits = { callsMax: 8, listLagMs: 0 }
  readonly #root: string
  /** Folders whose own names this instance has made durable; a put into them needs to sync only the file's name. */
  readonly #durableFolders = new Set<string>()
  /** What our own puts linked before they failed. */
  readonly #unsure = new Set<ObjectName>()

  /** Settles with the large writes that were asked for so far. Never rejects. */
  #writing: Promise<void> = Promise.resolve()

  constructor(root: string) {
    this.#root = root
  }

  async put(name: ObjectName, bytes: Uint8Array, signal?: AbortSignal): Promise<'stored' | 'present'> {
    signal?.throwIfAborted()
    const path = join(this.#root, name)
    const folder = dirname(path)
    const temporary = join(this.#root, TEMPORARY, randomBytes(12).toString('hex'))
    let made = false
    try {
      if ((await this.size(name)) !== undefined) {
        await this.#ensureFolder(folder)
        // Another writer may not have come to its own sync yet, and 'present' promises as much as 'stored'.
        await syncFolder(folder)
        return this.#unsure.delete(name) ? 'stored' : 'present'
      }
      try {
        // A new folder's name is made durable while the bytes are on their way. Neither runs on behind the other's failure.
        const both = [this.#writeNew(temporary, bytes, signal), this.#ensureFolder(folder)]
        for (const one of await Promise.allSettled(both)) if (one.status === 'rejected') throw one.reason
        // A link, unlike a rename, never replaces: two writers of one name end with one object.
        made = await linkNew(temporary, path)
        await syncFolder(folder)
        return made ? 'stored' : 'present'
      } finally {
        await unlink(temporary).catch((error: unknown) => {
          if (codeOf(error) !== 'ENOENT') throw error
        })
      }
    } catch (error) {
      if (made) this.#unsure.add(name)
      throw translate(error, `Object ${name}`)
    }
  }

  async get(name: ObjectName, offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes)
    await this.getInto(name, offset, bytes, signal)
    return bytes
  }

  async getInto(name: ObjectName, offset: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const lengthBytes = bytes.length
    try {
      const file = await open(join(this.#root, name), 'r')
      try {
        let done = 0
        while (done < lengthBytes) {
          const { bytesRead } = await file.read(bytes, done, lengthBytes - done, offset + done)
          if (bytesRead === 0) {
            throw new Fault('corrupt', `Object ${name} is shorter than it should be.`, { subject: 'store' })
          }
          done += bytesRead
        }
        signal?.throwIfAborted()
      } finally {
        await file.close()
      }
    } catch (error) {
      throw translate(error, `Object ${name}`)
    }
  }

  async size(name: ObjectName, signal?: AbortSignal): Promise<number | undefined> {
    signal?.throwIfAborted()
    try {
      return (await stat(join(this.#root, name))).size
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw translate(error, `Object ${name}`)
    }
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectName> {
    const folder = prefix.includes('/') ? prefix.slice(0, prefix.lastIndexOf('/')) : ''
    if (folder !== '') parseObjectName(folder)
    for await (const path of this.#walk(join(this.#root, folder), signal)) {
      const name = relative(this.#root, path).split(sep).join('/')
      if (name.startsWith(prefix)) yield parseObjectName(name)
    }
  }

  async remove(name: ObjectName, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const path = join(this.#root, name)
    this.#unsure.delete(name)
    try {
      await unlink(path)
      await syncFolder(dirname(path))
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw translate(error, `Object ${name}`)
    }
  }

  async *#walk(folder: string, signal: AbortSignal | undefined): AsyncIterable<string> {
    signal?.throwIfAborted()
    let entries: Awaited<ReturnType<typeof opendir>>
    try {
      entries = await opendir(folder)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return
      throw translate(error, 'The store')
    }
    for await (const entry of entries) {
      signal?.throwIfAborted()
      const path = join(folder, entry.name)
      if (entry.isDirectory() && entry.name !== TEMPORARY) yield* this.#walk(path, signal)
      if (entry.isFile()) yield path
    }
  }

  /**
   * A new file with these bytes, which are safe when it resolves; its name is not. Of several large ones the bytes go to the disk
   * one after the other, while others wait for their syncs: so each is there sooner, and the disk is never without work.
   */
  async #writeNew(path: string, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const file = await open(path, 'wx', 0o600)
    try {
      const write = async () => writeFrom(file, bytes, await writeDirect(path, bytes, signal), signal)
      if (bytes.length < DIRECT_BYTES_MIN) await write()
      else await this.#inTurn(write)
      await file.datasync()
    } finally {
      await file.close()
    }
  }

  async #inTurn(write: () => Promise<void>): Promise<void> {
    const turn = this.#writing.then(write)
    this.#writing = turn.catch(() => {})
    return turn
  }

  /** Makes `folder` and its parents and their names durable, once per instance. */
  async #ensureFolder(folder: string): Promise<void> {
    if (this.#durableFolders.has(folder)) return
    const parent = dirname(folder)
    if (folder !== this.#root) {
      await this.#ensureFolder(parent)
      await mkdir(folder, { recursive: true })
      await syncFolder(parent)
    }
    this.#durableFolders.add(folder)
  }
}

async function writeFrom(
  file: FileHandle,
  bytes: Uint8Array,
  doneBytes: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let done = doneBytes
  while (done < bytes.length) {
    signal?.throwIfAborted()
    const { bytesWritten } = await file.write(
      bytes,
      done,
      Math.min(bytes.length - done, 8 * 1024 * 1024),
      done,
    )
    done += bytesWritten
  }
}

async function linkNew(source: string, target: string): Promise<boolean> {
  try {
    await link(source, target)
    return true
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw error
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Names of half-written files, for tests and for `clean`. */
export async function listTemporary(folder: string): Promise<string[]> {
  return readdir(join(folder, TEMPORARY))
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
}

/** What the operating system said, as a Fault; aborts, faults and bugs pass unchanged. */
function translate(error: unknown, what: string): unknown {
  if (isFault(error)) return error
  const options = { subject: 'store', cause: error } as const
  switch (codeOf(error)) {
    case undefined:
    case 'ABORT_ERR':
      return error
    case 'ENOENT':
      return new Fault('absent', `${what} does not exist.`, options)
    case 'ENOSPC':
    case 'EDQUOT':
      return new Fault('full', 'The store has no space left. Make room, then try again.', options)
    case 'EIO':
    case 'EUCLEAN':
      return new Fault('corrupt', `${what} cannot be read: the disk below the store fails.`, options)
    default:
      return new Fault('unavailable', `${what} cannot be reached (${codeOf(error)}).`, options)
  }
}
