import { Fault } from '../../../image/fault.ts'
import { accepted, optional, refused, required } from '../parameter.ts'
import { noneExist, unlessFalse, unsupported } from '../refusals.ts'
import {
  boolean,
  desktopName,
  imageId,
  integer,
  json,
  list,
  object,
  objects,
  oneOf,
  shaped,
  text,
} from '../rules.ts'
import { tags } from '../tags.ts'

const DISK_GIB_MAX = 32_768
const ACCOUNT_MAX = 999_999_999_999_999

const category = oneOf('cloud_auto', 'cloud_essd')
const level = oneOf('PL0', 'PL1')
const hostName = shaped(
  '2 to 15 letters, digits and hyphens, which may hold one [begin,bits]',
  /^(?=.{2,64}$)[a-z0-9-]{0,15}(\[\d{0,6},\d?\][a-z0-9-]{0,15})?$/i,
)
const noBundles = (): Fault =>
  new Fault('absent', 'There are no templates here yet. Say ImageId and DesktopType in DesktopAttachment.', {
    subject: 'bundle',
  })
const noEncryption = 'Encrypted disks arrive with a later release. Leave it out, or send false.'

const desktopAttachment = json({
  ImageId: required(imageId),
  DesktopType: required(
    text(64),
    'FAMILY.<CPUs>c<GiB>g, like eds.enterprise_office.4c8g: the ending gives CPUs and memory, the family is kept',
  ),
  SystemDiskSize: optional(
    integer(1, DISK_GIB_MAX),
    'GiB; absent: as large as the image’s; smaller is refused',
  ),
  SystemDiskCategory: optional(category, 'kept and shown'),
  SystemDiskPerLevel: optional(level, 'kept and shown'),
  DataDiskSize: optional(
    integer(0, DISK_GIB_MAX),
    'GiB of one empty data disk behind those the image brings; 0 or absent: none',
  ),
  DataDiskCategory: optional(category, 'kept and shown'),
  DataDiskPerLevel: optional(level, 'kept and shown'),
  DefaultLanguage: accepted(
    oneOf('zh-CN', 'zh-HK', 'en-US', 'ja-JP'),
    'the language is that of the image; the cloud changes it in its own system images only',
  ),
})

const bundleModels = objects(
  {
    Amount: optional(integer(1, 300)),
    BundleId: optional(text()),
    DesktopName: optional(desktopName),
    EndUserIds: optional(list(text(), 100)),
    Hostname: optional(hostName),
    VolumeEncryptionEnabled: optional(boolean),
    VolumeEncryptionKey: optional(text()),
  },
  100,
)

const desktopTimers = objects(
  {
    AllowClientSetting: optional(boolean),
    CronExpression: optional(text()),
    Enforce: optional(boolean),
    Interval: optional(integer(0, 1_000_000)),
    OperationType: optional(oneOf('Hibernate', 'Shutdown')),
    ResetType: optional(oneOf('RESET_TYPE_SYSTEM', 'RESET_TYPE_BOTH')),
    TimerType: optional(text()),
  },
  100,
)

const userCommands = objects(
  {
    Content: optional(text(65_536)),
    ContentEncoding: optional(oneOf('Base64', 'PlainText')),
    ContentType: optional(oneOf('RunPowerShellScript', 'RunBatScript', 'RunShellScript')),
  },
  100,
)

const monthDesktopSetting = object({
  BuyerId: optional(integer(0, ACCOUNT_MAX)),
  DesktopId: optional(text()),
  UseDuration: optional(integer(0, 1_000_000)),
})

/** Every documented parameter of CreateDesktops. Source: wuying.md §4.4.1. */
export const createDesktopsParameters = {
  DesktopAttachment: optional(desktopAttachment, 'required as long as there are no templates'),
  BundleId: refused(text(), 'refused: there are no templates here yet', noBundles),
  BundleModels: refused(bundleModels, 'refused: there are no templates here yet', noBundles),
  Amount: optional(integer(1, 300), '1 when absent'),
  DesktopName: optional(desktopName, '`desktop` when absent'),
  DesktopNameSuffix: optional(boolean, 'true when absent: several computers get numbered names'),
  EndUserId: optional(list(text(), 100), 'kept and shown'),
  UserAssignMode: optional(
    oneOf('ALL', 'PER_USER'),
    'kept; PER_USER with several users is refused until a later release',
  ),
  OfficeSiteId: optional(text(), 'kept and shown; office networks are not checked'),
  PolicyGroupId: optional(text(), 'kept and shown; policies are not checked'),
  ResourceGroupId: optional(text(), 'kept and shown'),
  Hostname: optional(hostName, 'kept and shown'),
  HostName: optional(hostName, 'Terraform’s spelling of Hostname'),
  ChargeType: optional(oneOf('PostPaid', 'Postpaid', 'PrePaid'), 'kept and shown; nothing is charged here'),
  Period: optional(integer(1, 6), 'checked with PrePaid; nothing is charged here'),
  PeriodUnit: optional(oneOf('Month', 'Year'), 'checked with PrePaid; Month when absent'),
  Tag: optional(tags, 'kept and shown'),
  VolumeEncryptionEnabled: refused(
    boolean,
    'false has no effect; true is refused until encrypted disks arrive with a later release',
    unlessFalse(noEncryption),
  ),
  VolumeEncryptionKey: refused(
    text(),
    'refused until encrypted disks arrive with a later release',
    unsupported(noEncryption),
  ),
  UserCommands: refused(
    userCommands,
    'refused: nothing here runs commands inside a guest',
    unsupported('This server runs no commands inside a guest. Put them into the image.'),
  ),
  DesktopTimers: refused(
    desktopTimers,
    'refused: no timer would fire here',
    unsupported('There are no timers here. Call StopDesktops on a schedule of your own.'),
  ),
  DesktopMemberIp: refused(
    text(),
    'refused: this server gives out no addresses',
    unsupported('This server gives out no addresses. Leave DesktopMemberIp out.'),
  ),
  GroupId: refused(text(), 'refused: there are no pools here', noneExist('There are no pools here.')),
  TimerGroupId: refused(
    text(),
    'refused: there are no timer groups here',
    noneExist('There are no timer groups here.'),
  ),
  SnapshotPolicyId: refused(
    text(),
    'refused: a snapshot policy names its computers itself, through our own API',
    unsupported(
      'A snapshot policy names its computers itself. Leave it out, then name the computer in the policy.',
    ),
  ),
  QosRuleId: refused(
    text(),
    'refused: there are no bandwidth rules here',
    noneExist('There are no bandwidth rules here.'),
  ),
  AppRuleId: accepted(text(), 'without a published meaning'),
  AutoPay: accepted(boolean, 'nothing is charged here'),
  AutoRenew: accepted(boolean, 'nothing is charged here'),
  ChannelCookie: accepted(text(4096), 'without a published meaning'),
  DirectoryId: accepted(text(), 'not public; OfficeSiteId is kept'),
  ExtendInfo: accepted(text(4096), 'without a published meaning'),
  MonthDesktopSetting: accepted(monthDesktopSetting, 'not public; nothing is charged here'),
  PromotionId: accepted(text(), 'nothing is charged here'),
  PurchaseOptions: accepted(
    json({ MonthlyCredits: optional(integer(0, ACCOUNT_MAX)) }),
    'nothing is charged here',
  ),
  ResellerOwnerUid: accepted(integer(0, ACCOUNT_MAX), 'nothing is resold here'),
  SavingPlanId: accepted(text(), 'nothing is charged here'),
  SubnetId: accepted(text(), 'without a published meaning; there is one network'),
  UserName: accepted(text(), 'not public; EndUserId is kept'),
  VpcId: accepted(text(), 'not public; there is one network'),
} as const
