import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { required } from '../parameter.ts'
import { imageId } from '../rules.ts'

/** Source: uhost.md §3.6. Gone from the lists at once, in any state. */
export const terminateCustomImage = defineOperation({
  name: 'TerminateCustomImage',
  useCase: 'images.remove',
  summary:
    'Removes a custom image with the snapshots that belong to it; one that is being made or copied is given up.',
  parameters: { ...PLACE, ImageId: required(imageId()) },
  words: { image: 'ImageId' },
  async run({ app, caller }, given) {
    await app.images.remove(caller, { ...placeOf(given), imageIds: [given.ImageId] })
    return { ImageId: spellId('image', given.ImageId, 'uhost') }
  },
})
