import type { ImageFilter } from '../../../app/contract.ts'
import { findId, type ImageId, spellId } from '../../../image/ids.ts'
import { descriptionOrReason, type Image } from '../../../image/image.ts'
import { gibCeil } from '../../../image/region.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { accepted, optional, withDefault } from '../parameter.ts'
import { choice, integer, list, name, text } from '../rules.ts'

/** Source: uhost.md §3.5. An id that names nothing is no error: clients wait for an empty ImageSet. */
export const describeImage = defineOperation({
  name: 'DescribeImage',
  useCase: 'images.list',
  summary: 'The project’s custom images and the operator’s base images of a region, newest first.',
  parameters: {
    ...PLACE,
    ImageType: optional(choice('Base', 'Business', 'Custom'), 'there are no Business images here'),
    FuncType: optional(text(32), 'all images here are `uhost`; other words than gpu, app, uhost are ignored'),
    OsType: optional(choice('Linux', 'Windows')),
    ImageId: optional(text(64), 'together with ImageIds: the images of both'),
    ImageIds: optional(list(text(64), 1000)),
    Tag: optional(name(), 'absent: images of every group'),
    Offset: withDefault(integer(0, 1_000_000_000), 0),
    Limit: withDefault(integer(1, 1000), 20),
    PriceSet: accepted(integer(0, 1), 'nothing is charged here: 1 answers an empty PriceSet'),
  },
  words: {},
  async run({ app, caller }, given) {
    const asked = [given.ImageId, ...(given.ImageIds ?? [])].filter((id) => id !== undefined)
    const known = asked.map((id) => findId('image', id)).filter((id): id is ImageId => id !== undefined)
    const fitsNothing = given.ImageType === 'Business' || given.FuncType === 'gpu' || given.FuncType === 'app'
    const filter: ImageFilter = {
      ...placeOf(given),
      // No ids at all is a filter that nothing fits; the call is made all the same, for the caller's rights.
      ...((asked.length > 0 || fitsNothing) && { ids: fitsNothing ? [] : known }),
      ...(given.ImageType && { kinds: [given.ImageType === 'Base' ? 'base' : 'custom'] }),
      ...(given.OsType && { osType: given.OsType }),
      ...(given.Tag !== undefined && { tag: given.Tag }),
    }
    const page = await app.images.list(caller, filter, { offset: given.Offset, limit: given.Limit })
    const zone = given.Zone ?? given.Region.zones[0] ?? ''
    const prices = given.PriceSet === 1 ? { PriceSet: [] } : {}
    return {
      TotalCount: page.total,
      ImageSet: page.items.map((image) => ({ ...imageRow(image, zone), ...prices })),
    }
  },
})

function imageRow(image: Image, zone: string) {
  return {
    Zone: zone,
    ImageId: spellId('image', image.id, 'uhost'),
    ImageName: image.name,
    Tag: image.tag,
    OsType: image.osType,
    OsName: image.osName,
    ImageType: image.kind === 'base' ? 'Base' : 'Custom',
    // No CloudInit: clients read from it that the image does not run user data.
    Features: [],
    FuncType: 'uhost',
    State: stateWord(image),
    ImageDescription: descriptionOrReason(image),
    CreateTime: Math.floor(image.createdAtMs / 1000),
    ImageSize: gibCeil(image.disks[0]?.sizeBytes ?? 0),
    MinimalCPU: '',
    MaintainEol: '',
    DataSnapshotIds: image.snapshotIds.map((id) => spellId('snapshot', id, 'uhost')),
    SupportedGPUTypes: [],
    SceneCategories: [],
    PrimarySoftware: '',
  }
}

function stateWord({ state, origin }: Image): 'Available' | 'Making' | 'Copying' | 'Unavailable' {
  switch (state.at) {
    case 'creating':
      return origin === 'copy' ? 'Copying' : 'Making'
    case 'available':
      return 'Available'
    case 'failed':
      return 'Unavailable'
    default:
      return state satisfies never
  }
}
