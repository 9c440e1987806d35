import { open, readdir, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { runTool } from '../../src/host/tools/run.ts'
import { type BenchDisk, ensureDisk, GIB, noise } from './data.ts'
import { isInstalled } from './machine.ts'

// Disks that are not like a Debian's: little data strewn over much room, nothing that can be compressed, an NTFS.

const MIB = 1024 ** 2
const BUILD_TIMEOUT_MS = 300_000

const missing = (tool: string, packageName: string) =>
  isInstalled(tool) ? undefined : `${tool} is not installed (package ${packageName})`

/** D1: 8 GiB, a tenth of it in runs of 64 KiB that compress well, the same bytes wherever it is made. */
export const strewnDisk: BenchDisk = {
  name: 'strewn disk',
  whyNot: () => missing('nbdkit', 'nbdkit') ?? missing('nbdcopy', 'libnbd-bin'),
  ensure: () =>
    ensureDisk('strewn.raw', async (path) => {
      const source = ['sparse-random', 'size=8G', 'seed=1', 'percent=10', 'runlength=65536']
      await runTool('nbdkit', ['-U', '-', ...source, '--run', `nbdcopy "$uri" '${path}'`], {
        doing: 'Making a sparse disk',
        package: 'nbdkit',
        timeoutMs: BUILD_TIMEOUT_MS,
      })
    }),
}

/** D3: 512 MiB that no compressor makes smaller. */
export const noiseDisk: BenchDisk = {
  name: 'noise',
  whyNot: () => undefined,
  ensure: () =>
    ensureDisk('noise.raw', async (path) => {
      const disk = await open(path, 'w')
      try {
        const next = noise(1)
        for (let offset = 0; offset < 512 * MIB; offset += 4 * MIB) {
          await disk.write(next(4 * MIB), 0, 4 * MIB, offset)
        }
        await disk.sync()
      } finally {
        await disk.close()
      }
    }),
}

const NTFS = { sizeBytes: 2 * GIB, filledBytes: 400 * MIB, fileBytesMin: 256 * 1024 }

/** D4: an NTFS of 2 GiB with 400 MiB of this machine's larger programs and libraries. */
export const ntfsDisk: BenchDisk = {
  name: 'NTFS disk',
  whyNot: () => missing('mkntfs', 'ntfs-3g') ?? missing('ntfscp', 'ntfs-3g'),
  ensure: (say) =>
    ensureDisk('ntfs.raw', async (path) => {
      say('making an NTFS, once')
      const run = (tool: string, args: readonly string[]) =>
        runTool(tool, args, { doing: 'Making an NTFS', package: 'ntfs-3g', timeoutMs: BUILD_TIMEOUT_MS })
      await rm(path, { force: true })
      const disk = await open(path, 'w')
      await disk.truncate(NTFS.sizeBytes).finally(() => disk.close())
      await run('mkntfs', ['-F', '-Q', '-q', path])
      let filledBytes = 0
      let fileCount = 0
      for await (const file of largeFiles()) {
        await run('ntfscp', ['-f', '-q', path, file, `${fileCount++}-${basename(file)}`])
        filledBytes += (await stat(file)).size
        if (filledBytes >= NTFS.filledBytes) return
      }
    }),
}

/** In an order that depends on the names alone. */
async function* largeFiles(): AsyncIterable<string> {
  for (const folder of ['/usr/bin', '/usr/lib/x86_64-linux-gnu', '/usr/lib']) {
    for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const path = join(folder, entry.name)
      if (entry.isFile() && (await stat(path)).size >= NTFS.fileBytesMin) yield path
    }
  }
}
