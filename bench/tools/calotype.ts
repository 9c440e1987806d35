import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../../demo/server.ts'

/** A program of ours as `bin/calotype` would start it: with the same Node, its flag, and the same cache of compiled code. */
export function ourCommand(file: string, ...words: readonly string[]): readonly string[] {
  return [process.execPath, '--max-semi-space-size=2', join(ROOT, 'bench/tools', file), ...words]
}

export function ourEnvironment(): Readonly<Record<string, string>> {
  const NODE_COMPILE_CACHE = join(ROOT, 'node_modules/.cache/compiled')
  mkdirSync(NODE_COMPILE_CACHE, { recursive: true })
  return { NODE_COMPILE_CACHE }
}
