import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { required } from '../parameter.ts'
import { imageId } from '../rules.ts'

/** Source: uhost.md §3.2; asked in the target's region and project. 100.00 means Available (I8). */
export const getImageCopyProgress = defineOperation({
  name: 'GetImageCopyProgress',
  useCase: 'images.copyProgress',
  summary: 'How far a copy is, in per cent with two decimals.',
  parameters: { ...PLACE, ImageId: required(imageId(), 'the copy, not its source') },
  words: { image: 'ImageId' },
  async run({ app, caller }, given) {
    const permille = await app.images.copyProgress(caller, { ...placeOf(given), imageId: given.ImageId })
    return { ProgressInfo: (permille / 10).toFixed(2) }
  },
})
