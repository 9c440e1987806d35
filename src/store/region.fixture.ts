import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DomainId } from '../image/ids.ts'
import type { ObjectStore } from '../objects/contract.ts'
import { openDirectoryObjects } from '../objects/directory.ts'
import { MemoryObjects } from '../objects/memory.ts'
import { LocalWrapper } from './keys.ts'
import { openRegionStore, type RegionStore, type RegionStoreOptions } from './region.ts'

export const TEST_DOMAIN = 'org-test' as DomainId
export const TEST_CHUNK_BYTES = 64 * 1024

/** One region in a folder of its own, or in memory with its index in a folder. */
export interface TestRegion {
  readonly folder: string
  readonly objects: ObjectStore
  store: RegionStore
  /** What a new process would see; `options` replace those that the region was made with. */
  reopen(objects?: ObjectStore, options?: Partial<RegionStoreOptions>): Promise<RegionStore>
  dispose(): Promise<void>
}

export type MakeRegion = (options?: {
  readonly wrap?: (objects: ObjectStore) => ObjectStore
  readonly store?: Partial<RegionStoreOptions>
}) => Promise<TestRegion>

/** The region key of the nth test region: no two regions have the same. */
export const testRegionKey = (n: number) => new Uint8Array(32).fill(n)
let regionCount = 0

/** Packs of about 300 KB, so that small disks fill several. */
async function makeRegion(
  open: (folder: string) => Promise<ObjectStore>,
  options: Parameters<MakeRegion>[0] = {},
) {
  const { wrap = (inner: ObjectStore) => inner, store = {} } = options
  const wrapper = new LocalWrapper(testRegionKey(++regionCount))
  const folder = await mkdtemp(join(tmpdir(), 'store-'))
  const inner = await open(folder)
  const indexPath = join(folder, 'index.sqlite')
  const openStore = (objects: ObjectStore, more: Partial<RegionStoreOptions> = {}) =>
    openRegionStore({ objects, indexPath, packBytes: 300_000, wrapper, ...store, ...more })
  const region: TestRegion = {
    folder,
    objects: inner,
    store: await openStore(wrap(inner)),
    async reopen(objects = inner, more = {}) {
      region.store.close()
      region.store = await openStore(objects, more)
      return region.store
    },
    async dispose() {
      region.store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
  return region
}

/** Over objects that somebody else opens and takes away. */
export const regionOver =
  (open: (folder: string) => Promise<ObjectStore>): MakeRegion =>
  (options) =>
    makeRegion(open, options)

export const memoryRegion: MakeRegion = regionOver(async () => new MemoryObjects())
export const directoryRegion: MakeRegion = regionOver((folder) =>
  openDirectoryObjects({ folder, clean: true }),
)

/** Names of all objects but the domains' keys, which belong to no session. */
export async function objectNames(objects: ObjectStore): Promise<string[]> {
  return (await Array.fromAsync(objects.list('')))
    .filter((name) => /^(packs|pages|signatures|images|refs)\//.test(name))
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
