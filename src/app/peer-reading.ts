import type { Catalog } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import type { PeerEndpointParts } from '../peers/contract.ts'
import { imagesOf } from './rows.ts'

/**
 * What other installations may read of ours, by the catalog: available custom images of the projects that the settings give
 * them, and base images, which are everybody's. An image of any other project is answered as one that is not there (I10).
 */
export function createPeerReading({
  rows,
}: Pick<Catalog, 'rows'>): Pick<PeerEndpointParts, 'image' | 'mayRead'> {
  const readable = (regionId: string, projects: readonly string[] | 'all') => {
    const images = rows.selectFrom('image').where('regionId', '=', regionId)
    if (projects === 'all') return images
    return images.where((is) => is.or([is('kind', '=', 'base'), is('projectId', 'in', projects)]))
  }

  return {
    async image(regionId, id, projects) {
      const row = await readable(regionId, projects).where('id', '=', id).selectAll().executeTakeFirst()
      const [image] = await imagesOf(rows, row === undefined ? [] : [row])
      if (image === undefined) {
        throw new Fault('absent', 'There is no such image that this peer may read.', { subject: 'image' })
      }
      const { state, name, description, tag, labels, osType, osName, disks, config, consistency } = image
      if (state.at !== 'available') {
        throw new Fault('conflict', `The image is ${state.at}; it can be copied once it is available.`, {
          subject: 'image',
        })
      }
      const { parent, imported, cleaning, dataBytes, storedBytes } = image
      return {
        id: image.id,
        digest: state.digest,
        facts: {
          ...{ name, description, tag, labels, osType, osName, disks, config, consistency },
          ...{ parent, imported, cleaning, dataBytes, storedBytes },
        },
      }
    },

    async mayRead(regionId, digest, projects) {
      const row = await readable(regionId, projects)
        .where('state', '=', 'available')
        .where('digest', '=', digest)
        .select('id')
        .executeTakeFirst()
      return row !== undefined
    },
  }
}
