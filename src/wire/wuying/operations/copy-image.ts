import assert from 'node:assert/strict'
import type { App } from '../../../app/contract.ts'
import { Fault, isFault } from '../../../image/fault.ts'
import { spellId } from '../../../image/ids.ts'
import type { Region } from '../../../image/region.ts'
import { operation } from '../operation.ts'
import { optional, required } from '../parameter.ts'
import { description, imageId, imageName, regionId } from '../rules.ts'

/** Source: wuying.md §4.1.5. The copy belongs to the project of its source: this cloud has no word for another one. */
export const copyImage = operation({
  name: 'CopyImage',
  useCase: 'images.copy',
  summary:
    'Copies a custom image to another region. Answers before it is there; it is listed in that region at once, as Creating.',
  parameters: {
    ImageId: required(imageId, 'the source, which has to be Available'),
    DestinationRegionId: required(regionId, 'not RegionId, where the source is'),
    DestinationImageName: required(imageName),
    DestinationDescription: optional(description, 'absent: that of the source'),
  },
  async run({ app, caller, region }, given) {
    const destination = regionOf(app, given.DestinationRegionId)
    // Before the image is looked for: it is the request that is wrong, whatever the image is.
    if (destination.id === region.id)
      throw new Fault('invalid', `The image is in '${region.id}' already. Name another region.`, {
        ...{ field: 'DestinationRegionId', reason: 'same-place' },
      })
    const { copies } = await app.images.copy(caller, {
      regionId: region.id,
      imageId: given.ImageId,
      targetRegionIds: [destination.id],
      name: given.DestinationImageName,
      description: given.DestinationDescription,
    })
    const [copy] = copies
    assert(copy !== undefined, 'one target makes one copy')
    return { ImageId: spellId('image', copy.imageId, 'wuying') }
  },
})

/** An unknown one is said of the parameter that named it, so that nobody looks at RegionId. */
function regionOf(app: App, id: string): Region {
  try {
    return app.regions.get(id)
  } catch (error) {
    if (!isFault(error, 'absent')) throw error
    throw new Fault('absent', error.message, { field: 'DestinationRegionId', cause: error })
  }
}
