import { execFile } from 'node:child_process'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A tool of the system, whose programs for disks may lie where only root looks. Fails with what it said if it fails. */
export async function tool(name: string, parameters: readonly string[], input = ''): Promise<string> {
  const running = run(name, [...parameters], {
    env: {
      ...process.env,
      PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`,
      LC_ALL: 'C.UTF-8',
      MTOOLS_SKIP_CHECK: '1',
    },
    maxBuffer: 64 * 1024 * 1024,
  })
  // Most tools end without having read a word.
  running.child.stdin?.on('error', () => {})
  running.child.stdin?.end(input)
  return (await running).stdout
}

/** A folder for as long as `use` takes. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'volume-'))
  try {
    return await use(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** A raw disk without anything on it. */
export async function emptyDisk(path: string, sizeBytes: number): Promise<string> {
  await writeFile(path, '')
  await truncate(path, sizeBytes)
  return path
}

/** Numbers from 0 to 1 that are the same for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
