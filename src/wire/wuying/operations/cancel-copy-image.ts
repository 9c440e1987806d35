import { operation } from '../operation.ts'
import { required } from '../parameter.ts'
import { imageId } from '../rules.ts'

/** Source: wuying.md §4.1.6. */
export const cancelCopyImage = operation({
  name: 'CancelCopyImage',
  useCase: 'images.cancelCopy',
  summary:
    'Ends a copy that is on its way, and takes the image that it was making off the lists. RegionId is the region it was going to.',
  parameters: {
    ImageId: required(imageId, 'the copy, as CopyImage answered it, not its source'),
  },
  async run({ app, caller, region }, { ImageId }) {
    await app.images.cancelCopy(caller, { regionId: region.id, imageId: ImageId })
    return {}
  },
})
