import { createCipheriv } from 'node:crypto'
import { existsSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from '../../demo/server.ts'
import { BASE_FOLDER, buildBaseImage } from '../../demo/steps.ts'
import { runTool } from '../../src/host/tools/run.ts'

/** Test disks live here from one bench to the next; deleting the folder makes them anew. */
export const CACHE = join(ROOT, '.cache', 'bench')
export const GIB = 1024 ** 3
const MIB = 1024 ** 2
const CHUNK_BYTES = 256 * 1024
const BLOCK_BYTES = 4096

/** Makes `name` in the cache if it is not there: `write` fills a file that gets its name only when it is whole. */
async function ensureDisk(name: string, write: (path: string) => Promise<void>): Promise<string> {
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
function noise(seed: number): (lengthBytes: number) => Buffer {
  const key = Buffer.alloc(16, seed)
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  return (lengthBytes) => cipher.update(Buffer.alloc(lengthBytes))
}

/** The demo disk with one of 100 of its chunks that hold data changed, spread evenly. */
export async function ensureChangedDisk(demo: string): Promise<string> {
  const stamp = Math.floor((await stat(demo)).mtimeMs)
  return ensureDisk(`changed-${stamp}.raw`, async (path) => {
    await copySparse(demo, path)
    const disk = await open(path, 'r+')
    try {
      const { size } = await disk.stat()
      const chunk = Buffer.alloc(CHUNK_BYTES)
      const next = noise(2)
      let dataCount = 0
      for (let offset = 0; offset < size; offset += CHUNK_BYTES) {
        const { bytesRead } = await disk.read(chunk, 0, CHUNK_BYTES, offset)
        const isData = chunk.subarray(0, bytesRead).some((byte) => byte !== 0)
        if (isData && dataCount++ % 100 === 50) await disk.write(next(BLOCK_BYTES), 0, BLOCK_BYTES, offset)
      }
    } finally {
      await disk.close()
    }
  })
}

/** Names of regular files below `folder`, in an order that depends on the names alone. */
async function* filesBelow(folder: string): AsyncIterable<string> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* filesBelow(path)
    else if (entry.isFile()) yield path
  }
}

/** The contents of this machine's programs and libraries one after the other, each at a block's start. */
async function* usrBlocks(): AsyncIterable<Buffer> {
  for (const folder of ['/usr/bin', '/usr/lib', '/usr/share']) {
    for await (const path of filesBelow(folder)) {
      const file = await open(path, 'r').catch(() => undefined)
      if (file === undefined) continue
      try {
        for (;;) {
          const part = Buffer.alloc(4 * MIB)
          const { bytesRead } = await file.read(part, 0, part.length)
          if (bytesRead > 0) yield part.subarray(0, Math.ceil(bytesRead / BLOCK_BYTES) * BLOCK_BYTES)
          if (bytesRead < part.length) break
        }
      } finally {
        await file.close()
      }
    }
  }
}

const MIXED = { sizeBytes: 2 * GIB, zoneBytes: 64 * MIB, realBytes: 40 * MIB, noiseBytes: 8 * MIB }

/**
 * A disk of 2 GiB as a used one looks: of every 64 MiB, 40 are real files of this machine, 8 cannot be compressed,
 * 16 are free. A machine with fewer files leaves more of it free.
 */
export async function ensureMixedDisk(): Promise<string> {
  return ensureDisk('mixed.raw', async (path) => {
    const disk = await open(path, 'w')
    try {
      await disk.truncate(MIXED.sizeBytes)
      await writeReal(disk)
      const next = noise(1)
      for (let at = MIXED.realBytes; at < MIXED.sizeBytes; at += MIXED.zoneBytes) {
        for (let done = 0; done < MIXED.noiseBytes; done += MIB)
          await disk.write(next(MIB), 0, MIB, at + done)
      }
      await disk.sync()
    } finally {
      await disk.close()
    }
  })
}

async function writeReal(disk: FileHandle): Promise<void> {
  let at = 0
  for await (const bytes of usrBlocks()) {
    for (let done = 0; done < bytes.length; ) {
      const zoneEnd = Math.floor(at / MIXED.zoneBytes) * MIXED.zoneBytes + MIXED.realBytes
      const length = Math.min(bytes.length - done, zoneEnd - at)
      await disk.write(bytes, done, length, at)
      done += length
      at += length
      if (at === zoneEnd) at += MIXED.zoneBytes - MIXED.realBytes
      if (at >= MIXED.sizeBytes) return
    }
  }
}
