import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskId, MachineId } from '../image/ids.ts'
import { ExportRecords } from './tools/exports.ts'
import { type ServeRaw, StillExports } from './tools/still-exports.ts'

/** Nobody asks what a file that is imported is worth. */
const WORTH = { consistency: 'crash', consistencyWhy: 'The disk is a file of somebody else.' } as const

/**
 * Raw disk files as read-only NBD exports, each known by a key (letters and digits). Served by `qemu-nbd`, which knows
 * a file's holes, or where that is missing by `serveRaw`. A new one over the same folders finds and ends the exports
 * of an earlier process.
 */
export class RawFileExports {
  readonly #exports: StillExports
  readonly #recordDirectory: string

  constructor(where: {
    readonly runDirectory: string
    readonly recordDirectory: string
    readonly serveRaw?: ServeRaw
  }) {
    this.#exports = new StillExports(where.runDirectory, where.serveRaw)
    this.#recordDirectory = where.recordDirectory
  }

  /** Fault 'unavailable' when nobody can serve the file. */
  async open(path: string, key: string, signal: AbortSignal) {
    const { size: sizeBytes } = await stat(path)
    const disk = {
      id: `import${key}` as DiskId,
      sizeBytes,
      tree: { driver: 'raw', 'read-only': true, file: { driver: 'file', filename: path, 'read-only': true } },
    }
    const records = new ExportRecords(this.#folder(key))
    const id = 'import' as MachineId
    const request = { diskIds: [disk.id], since: {}, consistency: 'best' } as const
    const opened = await this.#exports.open(id, key, request, [disk], WORTH, records, signal)
    const [first] = opened.disks
    if (first === undefined) throw new Error('one disk was given')
    return { socketPath: first.socketPath, exportName: first.exportName, sizeBytes }
  }

  /** Takes away what `open` made, also what a crash left. May be called for nothing. */
  async close(key: string): Promise<void> {
    await this.#exports.close(key, 'given-up', [], new ExportRecords(this.#folder(key)))
    await rm(this.#folder(key), { recursive: true, force: true })
  }

  #folder(key: string): string {
    return join(this.#recordDirectory, key)
  }
}
