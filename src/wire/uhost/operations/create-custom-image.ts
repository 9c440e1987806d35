import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { optional, required, withDefault } from '../parameter.ts'
import { diskId, list, machineId, name, text } from '../rules.ts'

/** Source: uhost.md §3.3. The system disk alone, as on the cloud; data disks become snapshots that belong to the image. */
export const createCustomImage = defineOperation({
  name: 'CreateCustomImage',
  useCase: 'images.capture',
  summary:
    'An image of a host’s system disk, with snapshots of data disks if asked for; the host may be Running or Stopped.',
  parameters: {
    ...PLACE,
    UHostId: required(machineId()),
    ImageName: required(name()),
    ImageDescription: optional(text(255)),
    Tag: withDefault(name(), 'Default'),
    DataUDiskIds: optional(
      list(diskId(), 100, true),
      'data disks of the host, as DiskSet names them: of each a snapshot is made at the same moment, which goes with the image',
    ),
  },
  words: { machine: 'UHostId', disk: 'DataUDiskIds', name: 'ImageName', description: 'ImageDescription' },
  async run({ app, caller }, given) {
    const { imageId, snapshotIds } = await app.images.capture(caller, {
      ...placeOf(given),
      machineId: given.UHostId,
      name: given.ImageName,
      description: given.ImageDescription,
      tag: given.Tag,
      disks: 'system',
      linkedDiskIds: given.DataUDiskIds,
    })
    return {
      ImageId: spellId('image', imageId, 'uhost'),
      DataSnapshotIds: snapshotIds.map((id) => spellId('snapshot', id, 'uhost')),
    }
  },
})
