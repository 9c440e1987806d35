import { join } from 'node:path'
import { runTool } from '../../src/host/tools/run.ts'
import { isInstalled } from './machine.ts'

// One disk as the files that others would send of it.

const TIMEOUT_MS = 600_000
/** A small empty disk beside them, for a server's first import: it finds out once what holds the reader of formats here. */
export const FIRST_FILE = 'first.qcow2'

export interface FormatFile {
  /** As the rows of the report call it. */
  readonly name: string
  readonly fileName: string
  /** What qemu-img calls it; undefined for a packed file, which it does not read. */
  readonly driver: string | undefined
}

interface Recipe extends FormatFile {
  readonly tool: string
  readonly package: string
  readonly words: (disk: string, target: string) => readonly string[]
}

const converted = (name: string, fileName: string, driver: string, more: readonly string[] = []): Recipe => ({
  ...{ name, fileName, driver, tool: 'qemu-img', package: 'qemu-utils' },
  words: (disk, target) => ['convert', '-f', 'raw', '-O', driver, ...more, '-m', '16', '-W', disk, target],
})

const RECIPES: readonly Recipe[] = [
  converted('qcow2', 'disk.qcow2', 'qcow2'),
  converted('zstd qcow2', 'zstd.qcow2', 'qcow2', ['-c', '-o', 'compression_type=zstd']),
  converted('vmdk', 'disk.vmdk', 'vmdk'),
  converted('vhdx', 'disk.vhdx', 'vhdx'),
  converted('vdi', 'disk.vdi', 'vdi'),
  {
    ...{ name: 'raw.zst', fileName: 'disk.raw.zst', driver: undefined, tool: 'zstd', package: 'zstd' },
    words: (disk, target) => ['-q', '-T0', '-3', disk, '-o', target],
  },
]

/** Why they cannot be made here, undefined if they can. */
export function whyNoFiles(): string | undefined {
  const missing = RECIPES.find(({ tool }) => !isInstalled(tool))
  return missing === undefined ? undefined : `${missing.tool} is not installed (package ${missing.package})`
}

/** `disk`, a raw one, in every other format, in `folder`. */
export async function makeFiles(
  folder: string,
  disk: string,
  say: (line: string) => void,
): Promise<readonly FormatFile[]> {
  for (const { name, fileName, tool, package: packageName, words } of RECIPES) {
    say(`making the disk's ${name} file`)
    await runTool(tool, [...words(disk, join(folder, fileName))], {
      doing: `Making a ${name} file`,
      package: packageName,
      timeoutMs: TIMEOUT_MS,
    })
  }
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', join(folder, FIRST_FILE), '1M'], {
    doing: 'Making a small qcow2 file',
    package: 'qemu-utils',
    timeoutMs: TIMEOUT_MS,
  })
  return RECIPES
}
