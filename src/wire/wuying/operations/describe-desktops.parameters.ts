import { PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, pagingParameters } from '../page.ts'
import { accepted, optional, refused } from '../parameter.ts'
import { unsupported } from '../refusals.ts'
import { boolean, integer, list, oneOf, text, time } from '../rules.ts'
import { DESKTOP_STATUSES } from '../spell.ts'
import { tags } from '../tags.ts'

const noneHave = (what: string): string => `filter; no computer here has ${what}, so nothing matches`

/** Every documented parameter of DescribeDesktops. Source: wuying.md §4.4.2. */
export const describeDesktopsParameters = {
  DesktopId: optional(list(text(), 100), 'filter; ids that name no computer are left out'),
  DesktopName: optional(text(), 'filter by the name'),
  DesktopStatus: optional(oneOf(...DESKTOP_STATUSES), 'filter'),
  DesktopStatusList: optional(
    list(oneOf(...DESKTOP_STATUSES), 20),
    'filter: any of these, and DesktopStatus if given',
  ),
  DesktopType: optional(text(), 'filter'),
  ImageId: optional(list(text(), 100), 'filter'),
  EndUserId: optional(list(text(), 100), 'filter: assigned to any of these'),
  ExcludedEndUserId: optional(list(text(), 100), 'filter: assigned to none of these'),
  UserName: optional(text(), 'filter: assigned to this user'),
  OfficeSiteId: optional(text(), 'filter'),
  DirectoryId: optional(text(), 'filter, the same as OfficeSiteId'),
  PolicyGroupId: optional(text(), 'filter'),
  ResourceGroupId: optional(text(), 'filter'),
  ChargeType: optional(oneOf('PostPaid', 'Postpaid', 'PrePaid'), 'filter'),
  SubPayType: optional(
    oneOf('duration', 'postPaid', 'monthPackage', 'prePaid'),
    'filter; nothing matches duration and monthPackage',
  ),
  OsTypes: optional(list(oneOf('Windows', 'Linux'), 2), 'filter'),
  Tag: optional(tags, 'filter: has all of these; a tag without Value matches any value'),
  ProtocolType: optional(oneOf('ASP', 'HDX'), 'filter; every computer here is ASP'),
  ManagementFlag: optional(oneOf('NoFlag', 'Migrating', 'Updating'), 'filter; every computer here is NoFlag'),
  DesktopGroupId: optional(text(), noneHave('a pool')),
  GroupId: optional(text(), noneHave('a pool')),
  OnlyDesktopGroup: optional(boolean, 'true: nothing matches, as there are no pools here'),
  GpuInstanceGroupId: optional(text(), noneHave('a GPU group')),
  OfficeSiteName: optional(text(), noneHave('a named office network')),
  QosRuleId: optional(text(), noneHave('a bandwidth rule')),
  SnapshotPolicyId: refused(
    text(),
    'refused: which computers a snapshot policy names is told by our own API alone',
    unsupported('Ask our own API for the snapshot policy: it names its computers. Leave it out here.'),
  ),
  FillResourceGroup: optional(boolean, 'true: ResourceGroups is filled'),
  ...pagingParameters,
  PageNumber: optional(
    integer(1, 1_000_000),
    'instead of NextToken: the page, from 1; the answer then has PageNumber and PageSize',
  ),
  PageSize: optional(
    integer(1, PAGE_SIZE_MAX),
    `page size with PageNumber, ${PAGE_SIZE_DEFAULT} when absent`,
  ),
  FilterDesktopGroup: accepted(boolean, 'there are no pool members to leave out or show'),
  BusinessChannel: accepted(text(), 'without a published meaning'),
  ExpiredTime: accepted(time, 'nothing expires here'),
  IncludeAutoSnapshotPolicy: accepted(boolean, 'without a published meaning'),
  MultiResource: accepted(boolean, 'without a published meaning'),
  QueryFotaUpdate: accepted(boolean, 'there are no image versions to update to'),
} as const
