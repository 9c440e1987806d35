import { spellId } from '../../../image/ids.ts'
import { operation } from '../operation.ts'
import { accepted, optional, refused } from '../parameter.ts'
import { unlessFalse, unsupported } from '../refusals.ts'
import { missing } from '../request.ts'
import { boolean, description, imageName, list, machineId, oneOf, text } from '../rules.ts'

const fromSnapshot = unsupported(
  'Images from snapshots arrive with a later release. Name the cloud computer in DesktopId.',
)

export const createImage = operation({
  name: 'CreateImage',
  useCase: 'images.capture',
  summary: 'Makes a custom image of a cloud computer that is running or stopped. Answers before it is made.',
  parameters: {
    // Required as long as no snapshot can be the source.
    DesktopId: optional(machineId, 'the source; required until images can be made from snapshots'),
    ImageName: optional(imageName, 'absent: the server chooses one'),
    Description: optional(description),
    DiskType: optional(
      oneOf('SYSTEM', 'ALL'),
      'SYSTEM takes the system disk alone, ALL (when absent) all disks',
    ),
    AutoCleanUserdata: refused(
      boolean,
      'false has no effect; true is refused until cleaning arrives with a later release',
      unlessFalse('Cleaning arrives with a later release. Clean inside the guest, then send false.'),
    ),
    SnapshotId: refused(text(), 'refused until snapshots arrive with a later release', fromSnapshot),
    SnapshotIds: refused(
      list(text(), 100),
      'refused until snapshots arrive with a later release',
      fromSnapshot,
    ),
    DataSnapshotIds: refused(
      list(text(), 100),
      'refused until snapshots arrive with a later release',
      fromSnapshot,
    ),
    ImageResourceType: accepted(text(), 'not public, without a published meaning'),
  },
  async run({ app, caller, region }, { DesktopId, ImageName, Description, DiskType }) {
    if (DesktopId === undefined) throw missing('DesktopId')
    const { imageId } = await app.images.capture(caller, {
      regionId: region.id,
      machineId: DesktopId,
      name: ImageName,
      description: Description,
      disks: DiskType === 'SYSTEM' ? 'system' : 'all',
    })
    return { ImageId: spellId('image', imageId, 'wuying') }
  },
})
