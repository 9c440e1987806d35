import { execFileSync } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'

/** On what it was measured. `load` is the 1, 5 and 15 minute load when the bench began: above 0 others were at work. */
export interface Machine {
  readonly cores: number
  readonly cpu: string
  readonly memoryBytes: number
  readonly kernel: string
  readonly load: readonly number[]
  /** Versions; null for a tool that is not installed. */
  readonly tools: Readonly<Record<string, string | null>>
}

const TOOLS = {
  'qemu-img': ['--version'],
  'qemu-system-x86_64': ['--version'],
  restic: ['version'],
  borg: ['--version'],
  rsync: ['--version'],
  zstd: ['--version'],
} as const

export function isInstalled(tool: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v "$1"`, 'sh', tool], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function versionOf(tool: string, args: readonly string[]): string | null {
  try {
    const said = execFileSync(tool, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return said.match(/\d+\.\d+(\.\d+)*/)?.[0] ?? null
  } catch {
    return null
  }
}

export function thisMachine(): Machine {
  const tools = Object.entries(TOOLS).map(([tool, args]) => [tool, versionOf(tool, args)] as const)
  return {
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    memoryBytes: totalmem(),
    kernel: release(),
    load: loadavg().map((one) => Number(one.toFixed(2))),
    tools: { node: process.versions.node, ...Object.fromEntries(tools) },
  }
}
