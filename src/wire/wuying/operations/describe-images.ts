import type { ImageFilter } from '../../../app/contract.ts'
import { findId, spellId } from '../../../image/ids.ts'
import { descriptionOrReason, type Image } from '../../../image/image.ts'
import { gibCeil } from '../../../image/region.ts'
import { operation } from '../operation.ts'
import { nextToken, pagingOf, pagingParameters } from '../page.ts'
import { accepted, optional } from '../parameter.ts'
import { boolean, list, oneOf, text } from '../rules.ts'
import { IMAGE_STATUSES, spellImageStatus, spellSecond, stateOfImageStatus } from '../spell.ts'

const noneHave = (what: string): string => `filter; no image here has ${what}, so nothing matches`

export const describeImages = operation({
  name: 'DescribeImages',
  useCase: 'images.list',
  summary: 'Lists the images of the region, newest first.',
  parameters: {
    ImageId: optional(list(text(), 100), 'filter; ids that name no image are left out'),
    ImageName: optional(text(), 'filter by the name'),
    ImageStatus: optional(oneOf(...IMAGE_STATUSES), 'filter'),
    ImageType: optional(oneOf('SYSTEM', 'CUSTOM'), 'filter'),
    OsType: optional(oneOf('Windows', 'Linux'), 'filter'),
    ProtocolType: optional(oneOf('ASP', 'HDX'), 'filter; every image here is ASP'),
    SessionType: optional(
      oneOf('SINGLE_SESSION', 'MULTIPLE_SESSION'),
      'filter; every image here is SINGLE_SESSION',
    ),
    GpuCategory: optional(boolean, 'filter; every image here is false'),
    GpuDriverVersion: optional(text(), noneHave('a GPU driver')),
    FotaVersion: optional(text(), noneHave('an image version')),
    DesktopInstanceType: accepted(text(), 'every image here starts on every computer type'),
    LanguageType: accepted(text(32), 'the languages inside an image are not known here'),
    ...pagingParameters,
  },
  async run({ app, caller, region, pageKey }, parameters) {
    const { MaxResults, NextToken, ...filters } = parameters
    const scope = { key: pageKey, action: 'DescribeImages', filters: [region.id, filters] }
    const paging = pagingOf(scope, { MaxResults, NextToken })
    const { ImageId, ImageName, ImageStatus, ImageType, OsType } = filters
    const ids = ImageId?.map((id) => findId('image', id)).filter((id) => id !== undefined)
    const nothingMatches =
      ids?.length === 0 ||
      filters.ProtocolType === 'HDX' ||
      filters.SessionType === 'MULTIPLE_SESSION' ||
      filters.GpuCategory === true ||
      filters.GpuDriverVersion !== undefined ||
      filters.FotaVersion !== undefined
    const filter: ImageFilter = {
      regionId: region.id,
      ...(ids === undefined || nothingMatches ? {} : { ids }),
      ...(ImageName === undefined ? {} : { name: ImageName }),
      ...(ImageStatus === undefined ? {} : { states: [stateOfImageStatus(ImageStatus)] }),
      ...(ImageType === undefined ? {} : { kinds: [ImageType === 'SYSTEM' ? 'base' : 'custom'] }),
      ...(OsType === undefined ? {} : { osType: OsType }),
    }
    // The call is made even where nothing can match: it is what checks the caller's right to ask.
    if (nothingMatches) {
      await app.images.list(caller, filter, { offset: 0, limit: 1 })
      return { Images: [], NextToken: '' }
    }
    const page = await app.images.list(caller, filter, paging)
    return { Images: page.items.map(packImage), NextToken: nextToken(scope, paging, page.total) }
  },
})

/** One item of DescribeImages. Source: wuying.md §4.1.2. */
function packImage(image: Image): Readonly<Record<string, unknown>> {
  const [system, ...data] = image.disks
  return {
    ImageId: spellId('image', image.id, 'wuying'),
    Name: image.name,
    Description: descriptionOrReason(image),
    ImageType: image.kind === 'base' ? 'SYSTEM' : 'CUSTOM',
    Status: spellImageStatus(image.state),
    Progress: `${Math.floor(image.progressPermille / 10)}%`,
    OsType: image.osType,
    Platform: image.osName,
    ProtocolType: 'ASP',
    SessionType: 'SINGLE_SESSION',
    Size: gibCeil(system?.sizeBytes ?? 0),
    DataDiskSize: data.reduce((sum, disk) => sum + gibCeil(disk.sizeBytes), 0),
    GpuCategory: false,
    SharedCount: 0,
    SupportedLanguages: [],
    VolumeEncryptionEnabled: false,
    CreationTime: spellSecond(image.createdAtMs),
    UpdateTime: spellSecond(image.updatedAtMs),
  }
}
