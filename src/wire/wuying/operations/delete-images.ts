import { operation } from '../operation.ts'
import { accepted, required } from '../parameter.ts'
import { boolean, imageId, list } from '../rules.ts'

export const deleteImages = operation({
  name: 'DeleteImages',
  useCase: 'images.remove',
  summary: 'Deletes custom images, all of them or none; one that is being made is cancelled.',
  parameters: {
    ImageId: required(list(imageId, 100), 'an id given twice counts once'),
    DeleteCascadedBundle: accepted(boolean, 'no template exists that could use an image'),
  },
  async run({ app, caller, region }, { ImageId }) {
    await app.images.remove(caller, { regionId: region.id, imageIds: [...new Set(ImageId)] })
    return {}
  },
})
