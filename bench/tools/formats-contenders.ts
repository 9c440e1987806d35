import { join } from 'node:path'
import type { ExportFormat } from '../../src/disk/layouts/contract.ts'
import { runTool } from '../../src/host/tools/run.ts'
import { ourCommand, ourEnvironment } from './calotype.ts'
import type { FormatFile } from './formats-files.ts'
import { type Contender, sizeOfTree } from './measure.ts'

// Files of others brought in, and files for others handed out, by us and by `qemu-img convert`.

const COMPARE_MS = 600_000
const MANY_AT_ONCE = ['-m', '16', '-W']

/** What qemu-img makes of a file that it brings in: as we do, packed by zstd; or as it lies on the disk. */
export type ImportTarget = 'zstd qcow2' | 'raw'
const TARGETS: Readonly<Record<ImportTarget, readonly string[]>> = {
  'zstd qcow2': ['-O', 'qcow2', '-c', '-o', 'compression_type=zstd'],
  raw: ['-O', 'raw'],
}

const stored = async (folder: string) => ({ storedBytes: await sizeOfTree(folder) })

export const ourImportName = ({ name }: FormatFile) => `calotype, import of ${name}`
export const peerImportName = ({ name }: FormatFile, target: ImportTarget) =>
  `qemu-img, import of ${name} as ${target}`
export const ourExportName = (format: ExportFormat) => `calotype, export as ${format}`
export const peerExportName = (source: string, format: ExportFormat) =>
  `qemu-img, export of ${source} as ${format}`

/** `dataBytes`: of the image of the raw file, which those of the others have too. Digests differ with each server's keys. */
export function ourImport(imports: string, file: FormatFile, dataBytes: () => number | undefined): Contender {
  return {
    name: ourImportName(file),
    environment: ourEnvironment,
    command: (folder) => ourCommand('formats-import.ts', imports, file.fileName, folder),
    secondsOf: (said) => (JSON.parse(said) as { jobSeconds: number }).jobSeconds,
    look: async (folder, said) => {
      const found = JSON.parse(said) as { cpuSeconds: number; dataBytes: number }
      if (found.dataBytes !== (dataBytes() ?? found.dataBytes))
        throw new Error(`the image of ${file.fileName} has not as much data as the disk`)
      return { ...(await stored(folder)), cpuSeconds: found.cpuSeconds, dataBytes: found.dataBytes }
    },
  }
}

export function peerImport(imports: string, file: FormatFile, target: ImportTarget): Contender {
  const { driver, fileName } = file
  const path = join(imports, fileName)
  const convert = (from: string, source: string, folder: string) => [
    ...['qemu-img', 'convert', '-f', from, ...TARGETS[target], ...MANY_AT_ONCE],
    ...[source, join(folder, 'disk')],
  ]
  // It reads no packed files, and none that is not on a disk: it is unpacked first, as one does.
  const unpackFirst = (folder: string) => {
    const plain = join(folder, 'plain.raw')
    const [command = '', ...words] = convert('raw', plain, folder)
    const unpacked = target === 'raw' ? '' : ` && "$@" && rm ${plain}`
    return ['sh', '-c', `zstd -q -d ${path} -o ${plain}${unpacked}`, 'sh', command, ...words]
  }
  return {
    ...{ name: peerImportName(file, target), tool: 'qemu-img', package: 'qemu-utils' },
    command: (folder) => (driver === undefined ? unpackFirst(folder) : convert(driver, path, folder)),
    look: stored,
  }
}

const EXPORTED = 'disk.exported'

/** `folder` is a store of ours. What is in the exported file is compared with the disk after the clock has stopped. */
export function ourExport(store: string, digest: string, format: ExportFormat, disk: string): Contender {
  return {
    name: ourExportName(format),
    environment: ourEnvironment,
    command: (folder) => ourCommand('formats-export.ts', store, digest, format, join(folder, EXPORTED)),
    look: async (folder) => {
      await runTool('qemu-img', ['compare', '-f', 'raw', '-F', format, disk, join(folder, EXPORTED)], {
        doing: 'Comparing the exported file',
        package: 'qemu-utils',
        timeoutMs: COMPARE_MS,
      })
      return {}
    },
  }
}

export function peerExport(
  source: { readonly name: string; readonly driver: string; readonly path: string },
  format: ExportFormat,
): Contender {
  return {
    ...{ name: peerExportName(source.name, format), tool: 'qemu-img', package: 'qemu-utils' },
    command: (folder) => [
      ...['qemu-img', 'convert', '-f', source.driver, '-O', format, ...MANY_AT_ONCE],
      ...[source.path, join(folder, EXPORTED)],
    ],
  }
}
