import { createHmac } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { DomainId, RegionId } from '../../image/ids.ts'
import { type ObjectsPlace, openObjects } from '../../objects/open.ts'
import { LocalWrapper } from '../../store/keys.ts'
import type { DomainSecrets } from '../../store/open-domain.ts'
import { openRegionStore, type RegionStore, type RegionStoreOptions } from '../../store/region.ts'
import type { CopyLimit } from './copy-limits.ts'

/** Where a region's bytes are; may be handed to threads. */
export interface RegionPlace {
  readonly regionId: RegionId
  /** Through `shareLimits`, so that all threads count together. */
  readonly objects: ObjectsPlace
  readonly indexPath: string
  /** 32 bytes, from which the keys of every domain are derived: the same in all regions of an installation. */
  readonly domainsKey: Uint8Array
  /** 32 bytes, the region's own. Wraps the domains' keys in the region's objects. Neither is ever to be logged. */
  readonly regionKey: Uint8Array
  /** False: new chunks are stored unencrypted. */
  readonly isEncrypting: boolean
  /** From `shareCopyLimit`; without, copies are not held back. */
  readonly copyLimit?: CopyLimit
}

/** Opens the region's store for the calling thread. */
export async function openRegion(place: RegionPlace, packBytes?: number): Promise<RegionStore> {
  return openRegionStore(await regionOptions(place, packBytes))
}

/** What the region's store is opened with. */
export async function regionOptions(place: RegionPlace, packBytes?: number): Promise<RegionStoreOptions> {
  await mkdir(dirname(place.indexPath), { recursive: true, mode: 0o700 })
  const objects = await openObjects(place.objects, { clean: false })
  return {
    objects,
    indexPath: place.indexPath,
    ...(packBytes === undefined ? {} : { packBytes }),
    wrapper: new LocalWrapper(place.regionKey),
    secretsOf: (domain) => domainSecrets(place.domainsKey, domain),
    isEncrypting: place.isEncrypting,
  }
}

/** The keys of a domain in this installation. */
function domainSecrets(domainsKey: Uint8Array, domain: DomainId): DomainSecrets {
  const derive = (use: string) =>
    createHmac('sha256', domainsKey).update(`calotype ${use} ${domain}`).digest()
  return { idKey: derive('id'), dataKey: derive('data') }
}
