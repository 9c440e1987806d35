import { join } from 'node:path'
import type { Digest, DomainId } from '../../src/image/ids.ts'
import type { ObjectStore } from '../../src/objects/contract.ts'
import { openDirectoryObjects } from '../../src/objects/directory.ts'
import type { PeerIdentity } from '../../src/peers/identity.ts'
import { noise, type TestDisk } from '../../src/store/disks.fixture.ts'
import { LocalWrapper } from '../../src/store/keys.ts'
import { openRegionStore, type RegionStore } from '../../src/store/region.ts'

export const PACK_BYTES = 512 * 1024
export const CHUNK_BYTES = 64 * 1024
/** So that a pack is read in several pieces. */
export const RANGE_BYTES = 128 * 1024
export const DOMAIN = 'org-test' as DomainId
export const REGION = 'theirs'
export const SESSION = 'copied'

/** When a process is to die: right before the nth call, so many milliseconds into it, or right after it. */
export interface Death {
  /** From 1; 0 is never. */
  readonly atCall: number
  readonly when: 'before' | 'during' | 'after'
  readonly delayMs: number
}

/** What a process is told once. */
export type Order = { readonly folder: string; readonly death: Death } & (
  | {
      readonly is: 'pull'
      readonly digest: Digest
      readonly takesPacks: boolean
      /** Where it notes what it has asked the source's packs for. */
      readonly notePath: string
    }
  | {
      readonly is: 'serve'
      /** 0 for any. */
      readonly port: number
      readonly identity: PeerIdentity
      /** Of who may read. */
      readonly fingerprint: string
    }
)

/** What a process says: that it has loaded everything, where it listens, or how many calls its whole work took. */
export type Word =
  | { readonly is: 'ready' }
  | { readonly is: 'listening'; readonly url: string }
  | { readonly is: 'done'; readonly callCount: number }

export async function openStore(
  folder: string,
  which: 'source' | 'target',
  options: { readonly wrap?: (objects: ObjectStore) => ObjectStore; readonly clean?: boolean } = {},
): Promise<RegionStore> {
  const { wrap = (objects) => objects, clean = false } = options
  const objects = await openDirectoryObjects({ folder: join(folder, which), clean })
  return openRegionStore({
    objects: wrap(objects),
    indexPath: join(folder, `${which}.sqlite`),
    packBytes: PACK_BYTES,
    wrapper: new LocalWrapper(new Uint8Array(32).fill(which === 'source' ? 1 : 2)),
  })
}

/** Chunks of these contents; odd ones do not compress. */
export function diskOf(seeds: readonly number[]): TestDisk {
  const bytes = Buffer.alloc(seeds.length * CHUNK_BYTES)
  for (const [i, seed] of seeds.entries()) {
    if (seed > 0) noise(CHUNK_BYTES, seed, seed % 2 === 0 ? 64 : 1).copy(bytes, i * CHUNK_BYTES)
  }
  return { bytes, chunkBytes: CHUNK_BYTES }
}
