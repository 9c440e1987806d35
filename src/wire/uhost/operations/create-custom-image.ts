import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { optional, refused, required, withDefault } from '../parameter.ts'
import { list, machineId, name, text } from '../rules.ts'

/** Source: uhost.md §3.3. The system disk alone, as on the cloud. */
export const createCustomImage = defineOperation({
  name: 'CreateCustomImage',
  useCase: 'images.capture',
  summary: 'An image of a host’s system disk; the host may be Running or Stopped.',
  parameters: {
    ...PLACE,
    UHostId: required(machineId()),
    ImageName: required(name()),
    ImageDescription: optional(text(255)),
    Tag: withDefault(name(), 'Default'),
    DataUDiskIds: refused(
      list(text(64), 100),
      'Linking data disks to an image needs disk snapshots, which this version does not have yet.',
    ),
  },
  words: { machine: 'UHostId', name: 'ImageName', description: 'ImageDescription' },
  async run({ app, caller }, given) {
    const { imageId } = await app.images.capture(caller, {
      ...placeOf(given),
      machineId: given.UHostId,
      name: given.ImageName,
      description: given.ImageDescription,
      tag: given.Tag,
      disks: 'system',
    })
    return { ImageId: spellId('image', imageId, 'uhost'), DataSnapshotIds: [] }
  },
})
