import { createCipheriv } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, rename, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from '../../demo/server.ts'
import { BASE_FOLDER, buildBaseImage } from '../../demo/steps.ts'
import { runTool } from '../../src/host/tools/run.ts'

/** Test disks live here from one bench to the next; deleting the folder makes them anew. */
export const CACHE = join(ROOT, '.cache', 'bench')
export const GIB = 1024 ** 3
const CHUNK_BYTES = 256 * 1024
const BLOCK_BYTES = 4096

/** A disk for the benches. */
export interface BenchDisk {
  readonly name: string
  /** Why it cannot be made here, undefined if it can. */
  readonly whyNot: () => string | undefined
  /** Its path; making it the first time may take minutes. Throws what a tool says. */
  readonly ensure: (say: (line: string) => void) => Promise<string>
}

/** Makes `name` in the cache if it is not there: `write` fills a file that gets its name only when it is whole. */
export async function ensureDisk(name: string, write: (path: string) => Promise<void>): Promise<string> {
  const path = join(CACHE, name)
  if (existsSync(path)) return path
  await mkdir(CACHE, { recursive: true })
  const unfinished = `${path}.new-${process.pid}`
  await write(unfinished)
  await rename(unfinished, path)
  return path
}

async function copySparse(source: string, target: string): Promise<void> {
  await runTool('cp', ['--sparse=always', '--reflink=never', source, target], {
    doing: 'Copying the disk',
    package: 'coreutils',
    timeoutMs: 120_000,
  })
}

/** The base image of the demo: 4 GiB with about 208 MiB of data. */
export async function ensureDemoDisk(say: (line: string) => void): Promise<string> {
  await buildBaseImage(say)
  return join(BASE_FOLDER, 'base.raw')
}

/** The demo disk at the start of an otherwise empty disk of 64 GiB. */
export async function ensureLargeDisk(demo: string): Promise<string> {
  const stamp = Math.floor((await stat(demo)).mtimeMs)
  return ensureDisk(`large-${stamp}.raw`, async (path) => {
    await copySparse(demo, path)
    await truncate(path, 64 * GIB)
  })
}

/** Bytes that no compressor makes smaller, the same in every run: AES in counter mode over zeroes. */
export function noise(seed: number): (lengthBytes: number) => Buffer {
  const key = Buffer.alloc(16, seed)
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  return (lengthBytes) => cipher.update(Buffer.alloc(lengthBytes))
}

/** A disk with one of 100 of its chunks that hold data changed, spread evenly. */
export async function ensureChangedDisk(disk: string): Promise<string> {
  const stamp = Math.floor((await stat(disk)).mtimeMs)
  return ensureDisk(`changed-${stamp}.raw`, async (path) => {
    await copySparse(disk, path)
    const copy = await open(path, 'r+')
    try {
      const { size } = await copy.stat()
      const chunk = Buffer.alloc(CHUNK_BYTES)
      const next = noise(2)
      let dataCount = 0
      for (let offset = 0; offset < size; offset += CHUNK_BYTES) {
        const { bytesRead } = await copy.read(chunk, 0, CHUNK_BYTES, offset)
        const isData = chunk.subarray(0, bytesRead).some((byte) => byte !== 0)
        if (isData && dataCount++ % 100 === 50) await copy.write(next(BLOCK_BYTES), 0, BLOCK_BYTES, offset)
      }
    } finally {
      await copy.close()
    }
  })
}
