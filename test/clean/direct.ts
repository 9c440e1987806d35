import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { ROOT } from '../../demo/server.ts'
import { createAppliance } from '../../src/cleaning/appliance/start.ts'
import { createCleaner } from '../../src/cleaning/cleaner.ts'
import type { Cleaned, Cleaner } from '../../src/cleaning/contract.ts'
import { fileDisk } from '../../src/disk/file-disk.ts'
import { serveNbd } from '../../src/disk/nbd-server.ts'
import { ALL_OPERATIONS, type CleaningReport, type CleaningWish } from '../../src/image/cleaning.ts'
import { run } from '../disks/programs.ts'

/** The appliance is made once for all tests. */
export const APPLIANCE_CACHE = join(ROOT, '.cache/appliance')

export const EVERYTHING: CleaningWish = {
  operations: ALL_OPERATIONS,
  isBestEffort: false,
  onSecrets: 'report',
}

export interface DirectOptions {
  readonly wish?: CleaningWish
  readonly isDryRun?: boolean
}

/** A cleaner without a server, which cleans disk files. */
export interface Direct {
  readonly folder: string
  readonly cleaner: Cleaner
  /**
   * Cleans these disks of one machine; what comes out are files beside the sources, 'PATH.clean', none for a dry run. Throws
   * as the cleaner does.
   */
  clean(paths: readonly string[], options?: DirectOptions): Promise<CleaningReport>
  /** Names of what is in its scratch folder and beside its sockets. */
  left(): Promise<readonly string[]>
}

export async function newDirect(t: Pick<TestContext, 'after'>): Promise<Direct> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const [scratch, runDirectory] = [join(folder, 'scratch'), join(folder, 'run')]
  for (const path of [scratch, runDirectory]) await mkdir(path)
  const cleaner = createCleaner({
    folder: scratch,
    runDirectory,
    startAppliance: createAppliance({ cacheFolder: APPLIANCE_CACHE, acceleration: 'tcg' }),
  })
  t.after(() => cleaner.closeAll())
  let count = 0
  return {
    folder,
    cleaner,
    left: async () => [...(await readdir(scratch)), ...(await readdir(runDirectory))],
    async clean(paths, { wish = EVERYTHING, isDryRun = false } = {}) {
      const key = `direct${count++}`
      const socketPath = join(runDirectory, `${key}.s`)
      const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size))
      const server = await serveNbd({
        listen: { socketPath },
        // Each connection closes the disk that it was given.
        resolve: (name) => fileDisk(paths[Number(name)] ?? ''),
      })
      try {
        const request = {
          ...{ key, wish, isDryRun },
          disks: sizes.map((sizeBytes, i) => ({ sizeBytes, socketPath, exportName: `${i}` })),
        }
        const { disks: cleaned, report } = await cleaner.clean(
          request,
          () => {},
          new AbortController().signal,
        )
        for (const [i, disk] of cleaned.entries()) await copyOutOf(disk, `${paths[i]}.clean`)
        return report
      } finally {
        await cleaner.close(key)
        await server.close()
      }
    },
  }
}

async function copyOutOf({ socketPath, exportName }: Cleaned['disks'][number], path: string): Promise<void> {
  const source = { driver: 'nbd', server: { type: 'unix', path: socketPath }, export: exportName }
  const name = `json:${JSON.stringify({ driver: 'raw', file: source })}`
  await run('qemu-img', ['convert', '-O', 'raw', name, path])
}
