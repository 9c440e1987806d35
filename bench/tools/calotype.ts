import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../../demo/server.ts'

/** A program of ours as `bin/calotype` would start it: the same Node, flag, words for malloc and cache of compiled code. */
export function ourCommand(file: string, ...words: readonly string[]): readonly string[] {
  return [process.execPath, '--max-semi-space-size=2', join(ROOT, 'bench/tools', file), ...words]
}

export function ourEnvironment(): Readonly<Record<string, string>> {
  const NODE_COMPILE_CACHE = join(ROOT, 'node_modules/.cache/compiled')
  mkdirSync(NODE_COMPILE_CACHE, { recursive: true })
  return {
    NODE_COMPILE_CACHE,
    ...{ MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '1048576', MALLOC_TRIM_THRESHOLD_: '1048576' },
  }
}
