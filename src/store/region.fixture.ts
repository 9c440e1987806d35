import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { openDirectoryObjects } from '../objects/directory.ts'
import { MemoryObjects } from '../objects/memory.ts'
import { openRegionStore, type RegionStore } from './region.ts'

export const TEST_DOMAIN = 'org-test' as DomainId
export const TEST_CHUNK_BYTES = 64 * 1024

/** One region in a folder of its own, or in memory with its index in a folder. */
export interface TestRegion {
  readonly folder: string
  readonly objects: ObjectStore
  store: RegionStore
  /** What a new process would see. */
  reopen(objects?: ObjectStore): Promise<RegionStore>
  dispose(): Promise<void>
}

export type MakeRegion = (options?: {
  readonly wrap?: (objects: ObjectStore) => ObjectStore
}) => Promise<TestRegion>

/** Packs of about 300 KB, so that small disks fill several. */
async function makeRegion(kind: 'memory' | 'directory', wrap: (objects: ObjectStore) => ObjectStore) {
  const folder = await mkdtemp(join(tmpdir(), 'store-'))
  const inner = kind === 'memory' ? new MemoryObjects() : await openDirectoryObjects({ folder, clean: true })
  const open = (objects: ObjectStore) =>
    openRegionStore({ objects, indexPath: join(folder, 'index.sqlite'), packBytes: 300_000 })
  const region: TestRegion = {
    folder,
    objects: inner,
    store: await open(wrap(inner)),
    async reopen(objects = inner) {
      region.store.close()
      region.store = await open(objects)
      return region.store
    },
    async dispose() {
      region.store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
  return region
}

export const memoryRegion: MakeRegion = (options = {}) =>
  makeRegion('memory', options.wrap ?? ((inner) => inner))
export const directoryRegion: MakeRegion = (options = {}) =>
  makeRegion('directory', options.wrap ?? ((inner) => inner))

/** Names of all objects but the domains' keys, which belong to no session. */
export async function objectNames(objects: ObjectStore): Promise<string[]> {
  return (await Array.fromAsync(objects.list('')))
    .filter((name) => /^(packs|pages|images)\//.test(name))
    .sort()
}

/** Runs `body` with regions that are taken away afterwards, whatever happens. */
export async function withRegions<Result>(
  makes: readonly MakeRegion[],
  body: (...regions: TestRegion[]) => Promise<Result>,
): Promise<Result> {
  const regions: TestRegion[] = []
  try {
    for (const make of makes) regions.push(await make())
    return await body(...regions)
  } finally {
    for (const region of regions) await region.dispose()
  }
}
