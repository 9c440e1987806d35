import assert from 'node:assert/strict'
import { chown, lchown, mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { openNbd } from '../disk/nbd-client.ts'
import { fileFault, isErrno } from '../host/tools/durable.ts'
import { isExportKey } from '../host/tools/exports.ts'
import { KeyedLock } from '../host/tools/keyed-lock.ts'
import { shortName, socketPath } from '../host/tools/sockets.ts'
import { Fault, isFault } from '../image/fault.ts'
import { type Isolation, userOf } from '../isolation/isolation.ts'
import { endProcessesOf } from '../isolation/left-processes.ts'
import type { FormatReader, ReadableDisk } from './contract.ts'
import { getReaderIsolation, readerIsolation } from './reader-isolation.ts'
import { type ForeignDisk, IN_NAME, OUT_NAME, READER_MARK, ReaderProcess } from './reader-process.ts'

const PREFIX = 'read-'
/** Others may pass through, to what they own in it. */
const FOLDER_MODE = 0o711

export interface FormatReaderOptions {
  /** For sockets: short. May hold others' files. */
  readonly runDirectory: string
  readonly log: (record: Record<string, unknown>) => void
}

/** Readers on this host: a `qemu-nbd` for each disk, which outlives this process: see `closeAll`. */
export function createFormatReader(options: FormatReaderOptions): FormatReader {
  return new HostFormatReader(options)
}

/** What belongs to a key from `prepare` on. */
interface Reading {
  readonly isolation: Isolation
  readonly user: number | undefined
  readonly processes: ReaderProcess[]
}

class HostFormatReader implements FormatReader {
  readonly #options: FormatReaderOptions
  readonly #readings = new Map<string, Reading>()
  readonly #locks = new KeyedLock()

  constructor(options: FormatReaderOptions) {
    this.#options = options
  }

  async facts() {
    return (await readerIsolation()).facts
  }

  prepare(key: string): Promise<{ readonly socketPath: string }> {
    return this.#locks.run(key, async () => {
      const isolation = await getReaderIsolation()
      await this.#close(key)
      const user = userOf(isolation)
      const folder = this.#folderOf(key)
      try {
        await mkdir(this.#options.runDirectory, { recursive: true, mode: 0o700 })
        await mkdir(folder, { mode: user === undefined ? 0o700 : FOLDER_MODE })
        await mkdir(join(folder, OUT_NAME), { mode: 0o700 })
        if (user !== undefined) await chown(join(folder, OUT_NAME), user, user)
      } catch (error) {
        throw fileFault(error, 'Making a folder for reading a file')
      }
      this.#readings.set(key, { isolation, user, processes: [] })
      return { socketPath: join(folder, IN_NAME) }
    })
  }

  open(
    key: string,
    disks: Parameters<FormatReader['open']>[1],
    signal: AbortSignal,
  ): Promise<readonly ReadableDisk[]> {
    return this.#locks.run(key, async () => {
      const reading = this.#readings.get(key)
      assert(reading !== undefined && reading.processes.length === 0, 'a file is prepared, then opened once')
      const foreign = disks.map(asForeign)
      try {
        return await this.#open(key, reading, foreign, signal)
      } catch (error) {
        await Promise.all(reading.processes.map((one) => one.end()))
        reading.processes.length = 0
        signal.throwIfAborted()
        throw error
      }
    })
  }

  async close(key: string): Promise<void> {
    await this.#locks.run(key, () => this.#close(key))
  }

  async closeAll(): Promise<void> {
    const { runDirectory } = this.#options
    await Promise.all([...this.#readings.keys()].map((key) => this.close(key)))
    const folders = (await namesIn(runDirectory)).filter((name) => name.startsWith(PREFIX))
    await endProcessesOf([join(runDirectory, PREFIX)], READER_MARK)
    for (const name of folders) await rm(join(runDirectory, name), { recursive: true, force: true })
  }

  async #open(
    key: string,
    reading: Reading,
    disks: readonly ForeignDisk[],
    signal: AbortSignal,
  ): Promise<ReadableDisk[]> {
    const { isolation, user, processes } = reading
    const folder = this.#folderOf(key)
    for (const { exportName } of disks) await checkServed(join(folder, IN_NAME), exportName, signal)
    try {
      // Nothing runs as that user yet, and nobody else can put anything in the socket's place.
      if (user !== undefined) await lchown(join(folder, IN_NAME), user, user)
    } catch (error) {
      throw fileFault(error, 'Serving a file to whoever reads it')
    }
    const readable: ReadableDisk[] = []
    for (const [index, disk] of disks.entries()) {
      signal.throwIfAborted()
      const onDeath = (error: Error) =>
        this.#options.log({ level: 'warn', message: 'a reader of a file ended by itself', key, error })
      const one = new ReaderProcess({ folder, index, disk, isolation, user, onDeath })
      processes.push(one)
      readable.push(await one.ready(signal))
    }
    return readable
  }

  async #close(key: string): Promise<void> {
    const folder = this.#folderOf(key)
    const reading = this.#readings.get(key)
    this.#readings.delete(key)
    if (reading !== undefined) await Promise.all(reading.processes.map((one) => one.end()))
    await endProcessesOf([`${folder}/`], READER_MARK)
    await rm(folder, { recursive: true, force: true })
  }

  #folderOf(key: string): string {
    assert(isExportKey(key), 'a key is letters and digits')
    const name = `${PREFIX}${shortName(key)}`
    // The longest name that is ever in it has to fit as well.
    return dirname(dirname(socketPath(this.#options.runDirectory, `${name}/${OUT_NAME}/000`)))
  }
}

function asForeign({ format, ...rest }: Parameters<FormatReader['open']>[1][number]): ForeignDisk {
  assert(format !== 'raw', 'a raw disk is read as it is')
  return { format, ...rest }
}

/** QEMU would say the same less clearly. */
async function checkServed(path: string, exportName: string, signal: AbortSignal): Promise<void> {
  try {
    const client = await openNbd({ socketPath: path, exportName }, { signal })
    await client.close()
  } catch (cause) {
    signal.throwIfAborted()
    if (!isFault(cause)) throw cause
    const message = 'The file is not served any more to whoever reads it. Try again.'
    throw new Fault('unavailable', message, { subject: 'host', reason: 'reader', cause })
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw fileFault(error, 'Looking for what was left of reading files')
  }
}
