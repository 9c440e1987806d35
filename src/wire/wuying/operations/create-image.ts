import { CLEAN_ALL } from '../../../image/cleaning.ts'
import { Fault } from '../../../image/fault.ts'
import { type SnapshotId, spellId } from '../../../image/ids.ts'
import { operation } from '../operation.ts'
import { accepted, optional } from '../parameter.ts'
import { missing } from '../request.ts'
import { boolean, description, imageName, list, machineId, oneOf, snapshotId, text } from '../rules.ts'

/** Source: wuying.md §4.1.1 and §7. */
export const createImage = operation({
  name: 'CreateImage',
  useCase: 'images.capture',
  summary:
    'Makes a custom image of a cloud computer that is running or stopped, or of snapshots of its disks. Answers before it is made.',
  parameters: {
    DesktopId: optional(
      machineId,
      'the source; required without snapshots, and with them their own computer if given',
    ),
    ImageName: optional(imageName, 'absent: the server chooses one'),
    Description: optional(description),
    DiskType: optional(
      oneOf('SYSTEM', 'ALL'),
      'SYSTEM takes the system disk alone, ALL (when absent) all disks; with snapshots: SYSTEM refuses data disks, ALL a disk left out, absent takes the disks that are named',
    ),
    AutoCleanUserdata: optional(
      boolean,
      "absent: false. true: the image is made without users' private data, see docs/cleaning.md; the computer itself stays as it is. What cannot be cleaned for certain makes no image",
    ),
    SnapshotId: optional(snapshotId, 'the image is made of this one, which is of a system disk'),
    SnapshotIds: optional(
      list(snapshotId, 100),
      'the image is made of these: one of the system disk, at most one of each data disk, of one computer',
    ),
    DataSnapshotIds: optional(
      list(snapshotId, 100),
      'as SnapshotIds, together with them and SnapshotId, each named once in all; each is of a data disk',
    ),
    ImageResourceType: accepted(text(), 'not public, without a published meaning'),
  },
  async run({ app, caller, region }, given) {
    const { DesktopId, ImageName, Description, DiskType, SnapshotId, SnapshotIds, DataSnapshotIds } = given
    const clean = given.AutoCleanUserdata === true ? { clean: CLEAN_ALL } : {}
    const said = { regionId: region.id, name: ImageName, description: Description, ...clean }
    const systemSnapshotIds = SnapshotId === undefined ? [] : [SnapshotId]
    const dataSnapshotIds = DataSnapshotIds ?? []
    const snapshotIds = [...systemSnapshotIds, ...(SnapshotIds ?? []), ...dataSnapshotIds]
    refuseTwice(snapshotIds)
    if (snapshotIds.length > 0) {
      const disks = DiskType === undefined ? undefined : DiskType === 'SYSTEM' ? 'system' : 'all'
      const source = { machineId: DesktopId, snapshotIds, systemSnapshotIds, dataSnapshotIds }
      const { imageId } = await app.images.compose(caller, { ...said, ...source, disks })
      return { ImageId: spellId('image', imageId, 'wuying') }
    }
    if (DesktopId === undefined) throw missing('DesktopId', 'Or name snapshots of its disks.')
    const { imageId } = await app.images.capture(caller, {
      ...said,
      machineId: DesktopId,
      disks: DiskType === 'SYSTEM' ? 'system' : 'all',
    })
    return { ImageId: spellId('image', imageId, 'wuying') }
  },
})

/** One that is named twice, in one list or two, may be one too few of another disk. */
function refuseTwice(ids: readonly SnapshotId[]): void {
  const twice = ids.find((id, i) => ids.indexOf(id) !== i)
  if (twice === undefined) return
  const message = `Snapshot ${spellId('snapshot', twice, 'wuying')} is named twice. Name one snapshot for each disk, once.`
  throw new Fault('invalid', message, { subject: 'snapshot', reason: 'disk-twice' })
}
