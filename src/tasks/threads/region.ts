import { createHmac } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { RegionId } from '../../image/ids.ts'
import { openDirectoryObjects } from '../../objects/directory.ts'
import { openRegionStore, type RegionStore } from '../../store/region.ts'

/** Where a region's bytes are; may be handed to threads. */
export interface RegionPlace {
  readonly regionId: RegionId
  readonly objectsFolder: string
  readonly indexPath: string
  /** 32 bytes, from which the id key of every domain is derived: the same in all regions of an installation. */
  readonly domainsKey: Uint8Array
}

/** Opens the region's store for the calling thread. */
export async function openRegion(place: RegionPlace): Promise<RegionStore> {
  await mkdir(dirname(place.indexPath), { recursive: true, mode: 0o700 })
  const objects = await openDirectoryObjects({ folder: place.objectsFolder, clean: false })
  return openRegionStore({
    objects,
    indexPath: place.indexPath,
    idKeyOf: (domain) => createHmac('sha256', place.domainsKey).update(`calotype id ${domain}`).digest(),
  })
}
