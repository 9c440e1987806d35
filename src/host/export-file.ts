import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskId, MachineId } from '../image/ids.ts'
import { ExportRecords } from './tools/exports.ts'
import { type ServeRaw, StillExports } from './tools/still-exports.ts'

export interface ExportedFile {
  readonly socketPath: string
  readonly exportName: string
  readonly sizeBytes: number
  close(): Promise<void>
}

/**
 * A raw disk file as a read-only NBD export, known by `key` (letters and digits); a second call with the same key
 * finds the first one's. `close`, or the next call with the key, takes away what a crash left.
 * Served by `qemu-nbd`, which knows the file's holes, or where that is missing by `serveRaw`.
 * Faults: 'unavailable' when neither can.
 */
export async function exportRawFile(
  path: string,
  key: string,
  where: {
    readonly runDirectory: string
    readonly recordDirectory: string
    readonly serveRaw?: ServeRaw
  },
  signal: AbortSignal,
): Promise<ExportedFile> {
  const { size } = await stat(path)
  const exports = new StillExports(where.runDirectory, where.serveRaw)
  const records = new ExportRecords(join(where.recordDirectory, key))
  const disk = {
    id: `import${key}` as DiskId,
    sizeBytes: size,
    tree: { driver: 'raw', 'read-only': true, file: { driver: 'file', filename: path, 'read-only': true } },
  }
  const opened = await exports.open('import' as MachineId, key, [disk], records, signal)
  const [first] = opened.disks
  if (first === undefined) throw new Error('one disk was given')
  return {
    socketPath: first.socketPath,
    exportName: first.exportName,
    sizeBytes: size,
    close: () => exports.close(key, records),
  }
}
