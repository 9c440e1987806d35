import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { MachineId, SnapshotId } from '../../image/ids.ts'
import { refusalOf } from './fixture-requests.ts'
import { attachment, BASE, benchWithRows, COPYING, DATA, DESKTOP, LEAST, OWN, ROOT } from './fixture-rows.ts'
import { fakeCore } from './fixture-things.ts'

const NO_SNAPSHOT = `s-${fakeCore<SnapshotId>('none')}`
const ORPHAN = `s-${fakeCore<SnapshotId>('orphan')}`
const NAME = 'InvalidDestinationImageName.Malformed'
const DESCRIPTION = 'InvalidDestinationDescription.Malformed'
const LINKED = `s-${fakeCore<SnapshotId>('linked')}`

/** Operation, parameters beyond the least form, status, code. */
type Bad = [string, Record<string, string>, number, string]
const BAD: Bad[] = [
  ['DescribeRegions', { AcceptLanguage: 'x'.repeat(33) }, 400, 'InvalidAcceptLanguage'],
  ['StartDesktops', { 'DesktopId.1': 'ecd-unknown' }, 404, 'InvalidDesktopId.NotFound'],
  [
    'StartDesktops',
    { 'DesktopId.2': `ecd-${fakeCore<MachineId>('no one')}` },
    404,
    'InvalidDesktopId.NotFound',
  ],
  ['StartDesktops', { 'DesktopId.0': DESKTOP }, 400, 'InvalidDesktopId'],
  ['StartDesktops', { 'DesktopId.x': DESKTOP }, 400, 'InvalidDesktopId'],
  ['StartDesktops', { 'DesktopId.2': '' }, 400, 'InvalidDesktopId'],
  ['StartDesktops', { DesktopId: DESKTOP }, 400, 'InvalidDesktopId'],
  ['StopDesktops', { CreateSnapshot: 'true' }, 400, 'InvalidCreateSnapshot.Unsupported'],
  ['StopDesktops', { CreateSnapshot: 'maybe' }, 400, 'InvalidCreateSnapshot'],
  ['StopDesktops', { OsUpdate: 'true' }, 400, 'InvalidOsUpdate.Unsupported'],
  ['StopDesktops', { PatchId: 'KB1' }, 400, 'InvalidPatchId.Unsupported'],
  ['StopDesktops', { StoppedMode: 'Charging' }, 400, 'InvalidStoppedMode'],
  ['DeleteDesktops', { ResellerOwnerUid: 'me' }, 400, 'InvalidResellerOwnerUid'],
  ['CreateImage', { DesktopId: 'ecd-unknown' }, 404, 'InvalidDesktopId.NotFound'],
  ['CreateImage', { ImageName: 'x' }, 400, 'InvalidImageName.Malformed'],
  ['CreateImage', { ImageName: 'x'.repeat(129) }, 400, 'InvalidImageName.Malformed'],
  ['CreateImage', { ImageName: '1st' }, 400, 'InvalidImageName.Malformed'],
  ['CreateImage', { ImageName: 'http://x' }, 400, 'InvalidImageName.Malformed'],
  ['CreateImage', { ImageName: 'a b' }, 400, 'InvalidImageName.Malformed'],
  ['CreateImage', { Description: 'x' }, 400, 'InvalidDescription.Malformed'],
  ['CreateImage', { Description: 'x'.repeat(257) }, 400, 'InvalidDescription.Malformed'],
  ['CreateImage', { Description: 'https://x' }, 400, 'InvalidDescription.Malformed'],
  ['CreateImage', { DiskType: 'DATA' }, 400, 'InvalidDiskType'],
  ['CreateImage', { AutoCleanUserdata: 'yes' }, 400, 'InvalidAutoCleanUserdata'],
  ['CreateImage', { DesktopId: '', SnapshotId: 's-1' }, 404, 'InvalidSnapshotId.NotFound'],
  ['CreateImage', { SnapshotId: NO_SNAPSHOT }, 404, 'InvalidSnapshotId.NotFound'],
  ['CreateImage', { 'SnapshotIds.1': 's-1' }, 404, 'InvalidSnapshotId.NotFound'],
  ['CreateImage', { 'SnapshotIds.1': ROOT, 'SnapshotIds.2': NO_SNAPSHOT }, 404, 'InvalidSnapshotId.NotFound'],
  ['CreateImage', { SnapshotIds: '["s-1"]' }, 400, 'InvalidSnapshotIds'],
  ['CreateImage', { 'DataSnapshotIds.1': 's-1' }, 404, 'InvalidSnapshotId.NotFound'],
  ['CreateImage', { 'DataSnapshotIds.0': DATA }, 400, 'InvalidDataSnapshotIds'],
  ['CreateImage', { SnapshotId: ROOT, DesktopId: 'ecd-unknown' }, 404, 'InvalidDesktopId.NotFound'],
  ['CreateImage', { SnapshotId: ROOT, DiskType: 'system' }, 400, 'InvalidDiskType'],
  ['CreateImage', { SnapshotId: ROOT, AutoCleanUserdata: '1' }, 400, 'InvalidAutoCleanUserdata'],
  ['CreateSnapshot', { DesktopId: 'ecd-unknown' }, 404, 'InvalidDesktopId.NotFound'],
  ['CreateSnapshot', { DesktopId: `ecd-${'0'.repeat(17)}` }, 404, 'InvalidDesktopId.NotFound'],
  ...['auto', 'auto-1', 'automatic', 'x', '1st', '_a', '-a', 'a b', 'a.b', 'a:b', 'x'.repeat(128), 'a\n'].map(
    (SnapshotName): Bad => ['CreateSnapshot', { SnapshotName }, 400, 'InvalidSnapshotName.Malformed'],
  ),
  ['CreateSnapshot', { Description: 'x'.repeat(129) }, 400, 'InvalidDescription.Malformed'],
  ['CreateSnapshot', { Description: 'a\u0007b' }, 400, 'InvalidDescription.Malformed'],
  ['CreateSnapshot', { SourceDiskType: 'ALL' }, 400, 'InvalidSourceDiskType'],
  ['DescribeSnapshots', { MaxResults: '0' }, 400, 'InvalidMaxResults'],
  ['DescribeSnapshots', { MaxResults: '101' }, 400, 'InvalidMaxResults'],
  ['DescribeSnapshots', { NextToken: 'AAAA' }, 400, 'InvalidNextToken'],
  ['DescribeSnapshots', { SnapshotType: 'manual' }, 400, 'InvalidSnapshotType'],
  ['DescribeSnapshots', { SourceDiskType: 'ALL' }, 400, 'InvalidSourceDiskType'],
  ['DescribeSnapshots', { OsType: 'BeOS' }, 400, 'InvalidOsType'],
  ['DescribeSnapshots', { StartTime: 'yesterday' }, 400, 'InvalidStartTime'],
  ['DescribeSnapshots', { EndTime: '2026-11-21T19:44Z' }, 400, 'InvalidEndTime'],
  [
    'DescribeSnapshots',
    { StartTime: '2026-11-21T19:44:49Z', EndTime: '2026-11-21T19:44:48Z' },
    400,
    'InvalidEndTime',
  ],
  ['DescribeSnapshots', { SnapshotName: 'x'.repeat(129) }, 400, 'InvalidSnapshotName'],
  ['DescribeSnapshots', { Creator: 'a\u0007b' }, 400, 'InvalidCreator'],
  ['DeleteSnapshot', { 'SnapshotId.2': '' }, 400, 'InvalidSnapshotId'],
  ['DeleteSnapshot', { 'SnapshotId.2': LINKED }, 400, 'SnapshotUsedByImage'],
  ['DeleteSnapshot', { 'SnapshotId.x': ROOT }, 400, 'InvalidSnapshotId'],
  ['ResetSnapshot', { SnapshotId: 's-unknown' }, 404, 'InvalidSnapshotId.NotFound'],
  ['ResetSnapshot', { SnapshotId: NO_SNAPSHOT }, 404, 'InvalidSnapshotId.NotFound'],
  ['ResetSnapshot', { SnapshotId: ORPHAN }, 404, 'InvalidDesktopId.NotFound'],
  ['ResetSnapshot', { StopDesktop: 'yes' }, 400, 'InvalidStopDesktop'],
  ['CreateImage', { DesktopId: '' }, 400, 'MissingDesktopId'],
  ['CopyImage', { ImageId: 'm-unknown' }, 404, 'InvalidImageId.NotFound'],
  ['CopyImage', { ImageId: `m-${'0'.repeat(17)}` }, 404, 'InvalidImageId.NotFound'],
  ['CopyImage', { ImageId: BASE }, 403, 'SystemImageNotSupported'],
  ['CopyImage', { ImageId: COPYING }, 400, 'IncorrectImageStatus'],
  ['CopyImage', { DestinationRegionId: 'mars' }, 404, 'InvalidDestinationRegionId.NotFound'],
  ['CopyImage', { DestinationRegionId: 'A B' }, 400, 'InvalidDestinationRegionId.Malformed'],
  ['CopyImage', { DestinationRegionId: 'cn-hangzhou' }, 400, 'InvalidDestinationRegionId.Same'],
  ...['x', '1st', 'http://x', 'a b', 'x'.repeat(129)].map(
    (DestinationImageName): Bad => ['CopyImage', { DestinationImageName }, 400, NAME],
  ),
  ...['x', 'https://x', 'x'.repeat(257)].map(
    (DestinationDescription): Bad => ['CopyImage', { DestinationDescription }, 400, DESCRIPTION],
  ),
  ['CancelCopyImage', { ImageId: 'm-unknown' }, 404, 'InvalidImageId.NotFound'],
  ['CancelCopyImage', { ImageId: OWN }, 400, 'ImageCreatedNotFromCopy'],
  ['DescribeImages', { MaxResults: '0' }, 400, 'InvalidMaxResults'],
  ['DescribeImages', { MaxResults: '101' }, 400, 'InvalidMaxResults'],
  ['DescribeImages', { MaxResults: '1e1' }, 400, 'InvalidMaxResults'],
  ['DescribeImages', { NextToken: 'AAAA' }, 400, 'InvalidNextToken'],
  ['DescribeImages', { ImageStatus: 'Ready' }, 400, 'InvalidImageStatus'],
  ['DescribeImages', { ImageType: 'SHARED' }, 400, 'InvalidImageType'],
  ['DescribeImages', { OsType: 'linux' }, 400, 'InvalidOsType'],
  ['DescribeImages', { ProtocolType: 'RDP' }, 400, 'InvalidProtocolType'],
  ['DescribeImages', { SessionType: 'SINGLE' }, 400, 'InvalidSessionType'],
  ['DescribeImages', { GpuCategory: '1' }, 400, 'InvalidGpuCategory'],
  ['DeleteImages', { 'ImageId.2': 'm-unknown' }, 404, 'InvalidImageId.NotFound'],
  ['DeleteImages', { 'ImageId.2': BASE }, 403, 'SystemImageNotSupported'],
  ['DeleteImages', { DeleteCascadedBundle: '2' }, 400, 'InvalidDeleteCascadedBundle'],
  ['DescribeDesktops', { DesktopStatus: 'On' }, 400, 'InvalidDesktopStatus'],
  ['DescribeDesktops', { 'DesktopStatusList.1': 'On' }, 400, 'InvalidDesktopStatusList'],
  ['DescribeDesktops', { ExpiredTime: 'soon' }, 400, 'InvalidExpiredTime'],
  ['DescribeDesktops', { ManagementFlag: 'Flag' }, 400, 'InvalidManagementFlag'],
  ['DescribeDesktops', { SubPayType: 'free' }, 400, 'InvalidSubPayType'],
  ['DescribeDesktops', { 'OsTypes.1': 'BeOS' }, 400, 'InvalidOsTypes'],
  ['DescribeDesktops', { 'Tag.1.Value': 'x' }, 400, 'MissingTag.Key'],
  ['DescribeDesktops', { 'Tag.1.Key': 'acs:x' }, 400, 'InvalidTag.Key.Malformed'],
  ['DescribeDesktops', { 'Tag.1.Key': 'a', 'Tag.2.Key': 'a' }, 400, 'InvalidTag'],
  ['DescribeDesktops', { PageNumber: '0' }, 400, 'InvalidPageNumber'],
  ['DescribeDesktops', { PageSize: '101' }, 400, 'InvalidPageSize'],
  ['DescribeDesktops', { PageNumber: '1', MaxResults: '5' }, 400, 'InvalidPageNumber'],
  ['DescribeDesktops', { NextToken: 'not ours' }, 400, 'InvalidNextToken'],
  ['CreateDesktops', { DesktopAttachment: '' }, 400, 'MissingDesktopAttachment'],
  ['CreateDesktops', { DesktopAttachment: '{' }, 400, 'InvalidDesktopAttachment'],
  ['CreateDesktops', { DesktopAttachment: '[]' }, 400, 'InvalidDesktopAttachment'],
  ['CreateDesktops', { DesktopAttachment: '{"ImageId":{}}' }, 400, 'InvalidDesktopAttachment'],
  ['CreateDesktops', { DesktopAttachment: '{"DesktopType":"a.1c1g"}' }, 400, 'MissingImageId'],
  ['CreateDesktops', { DesktopAttachment: `{"ImageId":"${BASE}"}` }, 400, 'MissingDesktopType'],
  ['CreateDesktops', attachment({ ImageId: 'm-unknown' }), 404, 'InvalidImageId.NotFound'],
  ['CreateDesktops', attachment({ DesktopType: 'large' }), 400, 'InvalidDesktopType'],
  ['CreateDesktops', attachment({ DesktopType: 'eds.0c4g' }), 400, 'InvalidDesktopType'],
  ['CreateDesktops', attachment({ SystemDiskSize: 0 }), 400, 'InvalidSystemDiskSize'],
  ['CreateDesktops', attachment({ SystemDiskSize: 1.5 }), 400, 'InvalidSystemDiskSize'],
  ['CreateDesktops', attachment({ SystemDiskCategory: 'floppy' }), 400, 'InvalidSystemDiskCategory'],
  ['CreateDesktops', attachment({ SystemDiskPerLevel: 'PL9' }), 400, 'InvalidSystemDiskPerLevel'],
  ['CreateDesktops', attachment({ DataDiskSize: -1 }), 400, 'InvalidDataDiskSize'],
  ['CreateDesktops', attachment({ DataDiskCategory: 'x' }), 400, 'InvalidDataDiskCategory'],
  ['CreateDesktops', attachment({ DataDiskPerLevel: 'x' }), 400, 'InvalidDataDiskPerLevel'],
  ['CreateDesktops', attachment({ DefaultLanguage: 'tlh' }), 400, 'InvalidDefaultLanguage'],
  ['CreateDesktops', { BundleId: 'b-1' }, 404, 'InvalidBundleId.NotFound'],
  ['CreateDesktops', { 'BundleModels.1.BundleId': 'b-1' }, 404, 'InvalidBundleId.NotFound'],
  ['CreateDesktops', { 'BundleModels.1.Amount': '0' }, 400, 'InvalidBundleModels.Amount'],
  ['CreateDesktops', { Amount: '301' }, 400, 'InvalidAmount'],
  ['CreateDesktops', { DesktopName: '-x' }, 400, 'InvalidDesktopName.Malformed'],
  ['CreateDesktops', { DesktopName: 'x'.repeat(65) }, 400, 'InvalidDesktopName.Malformed'],
  ['CreateDesktops', { DesktopNameSuffix: 'on' }, 400, 'InvalidDesktopNameSuffix'],
  ['CreateDesktops', { Hostname: 'under_score' }, 400, 'InvalidHostname.Malformed'],
  ['CreateDesktops', { HostName: 'x' }, 400, 'InvalidHostName.Malformed'],
  ['CreateDesktops', { ChargeType: 'Free' }, 400, 'InvalidChargeType'],
  ['CreateDesktops', { ChargeType: 'PrePaid', Period: '4' }, 400, 'InvalidPeriod'],
  ['CreateDesktops', { ChargeType: 'PrePaid', PeriodUnit: 'Year', Period: '6' }, 400, 'InvalidPeriod'],
  ['CreateDesktops', { PeriodUnit: 'Week' }, 400, 'InvalidPeriodUnit'],
  ['CreateDesktops', { UserAssignMode: 'SOME' }, 400, 'InvalidUserAssignMode'],
  [
    'CreateDesktops',
    { UserAssignMode: 'PER_USER', Amount: '3', 'EndUserId.1': 'a', 'EndUserId.2': 'b' },
    400,
    'InvalidAmount',
  ],
  [
    'CreateDesktops',
    { UserAssignMode: 'PER_USER', Amount: '2', 'EndUserId.1': 'a', 'EndUserId.2': 'b' },
    400,
    'InvalidUserAssignMode.Unsupported',
  ],
  ['CreateDesktops', { 'Tag.1.Key': 'a', 'Tag.2.Key': 'a' }, 400, 'InvalidTag'],
  ['CreateDesktops', { 'Tag.1.Key': 'aliyun1' }, 400, 'InvalidTag.Key.Malformed'],
  ['CreateDesktops', { 'Tag.1.Key': 'a', 'Tag.1.Value': 'acs:1' }, 400, 'InvalidTag.Value.Malformed'],
  ['CreateDesktops', { VolumeEncryptionEnabled: 'true' }, 400, 'InvalidVolumeEncryptionEnabled.Unsupported'],
  ['CreateDesktops', { VolumeEncryptionKey: 'k' }, 400, 'InvalidVolumeEncryptionKey.Unsupported'],
  ['CreateDesktops', { 'UserCommands.1.Content': 'ls' }, 400, 'InvalidUserCommands.Unsupported'],
  ['CreateDesktops', { 'UserCommands.1.ContentType': 'Run' }, 400, 'InvalidUserCommands.ContentType'],
  ['CreateDesktops', { 'DesktopTimers.1.Interval': '5' }, 400, 'InvalidDesktopTimers.Unsupported'],
  ['CreateDesktops', { 'DesktopTimers.1.Enforce': '5' }, 400, 'InvalidDesktopTimers.Enforce'],
  ['CreateDesktops', { DesktopMemberIp: '10.0.0.1' }, 400, 'InvalidDesktopMemberIp.Unsupported'],
  ['CreateDesktops', { GroupId: 'dg-1' }, 404, 'InvalidGroupId.NotFound'],
  ['CreateDesktops', { TimerGroupId: 'ccg-1' }, 404, 'InvalidTimerGroupId.NotFound'],
  ['CreateDesktops', { SnapshotPolicyId: 'sp-1' }, 400, 'InvalidSnapshotPolicyId.Unsupported'],
  ['DescribeDesktops', { SnapshotPolicyId: 'sp-1' }, 400, 'InvalidSnapshotPolicyId.Unsupported'],
  ['CreateDesktops', { QosRuleId: 'qos-1' }, 404, 'InvalidQosRuleId.NotFound'],
  ['CreateDesktops', { AutoPay: 'x' }, 400, 'InvalidAutoPay'],
  ['CreateDesktops', { AutoRenew: 'x' }, 400, 'InvalidAutoRenew'],
  ['CreateDesktops', { PurchaseOptions: 'x' }, 400, 'InvalidPurchaseOptions'],
  ['CreateDesktops', { PurchaseOptions: '{"MonthlyCredits":"x"}' }, 400, 'InvalidMonthlyCredits'],
  ['CreateDesktops', { 'MonthDesktopSetting.BuyerId': 'x' }, 400, 'InvalidMonthDesktopSetting.BuyerId'],
  ['CreateDesktops', { ResellerOwnerUid: '-1' }, 400, 'InvalidResellerOwnerUid'],
]

suite('values that are refused', () => {
  for (const [action, parameters, status, code] of BAD) {
    test(`${action} ${JSON.stringify(parameters).slice(0, 90)}`, async () => {
      const bench = benchWithRows()
      const answer = await bench.ask(action, { ...LEAST[action], ...parameters })
      assert.deepEqual(refusalOf(answer), [status, code], String(answer.body))
      assert.deepEqual(bench.bugs, [])
    })
  }

  test('more than 100 ids in one call', async () => {
    const many = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`DesktopId.${i + 1}`, DESKTOP]))
    assert.deepEqual(refusalOf(await benchWithRows().ask('StopDesktops', many)), [400, 'InvalidDesktopId'])
    const snapshots = Object.fromEntries(Object.entries(many).map(([, id], i) => [`SnapshotId.${i + 1}`, id]))
    const answer = await benchWithRows().ask('DeleteSnapshot', snapshots)
    assert.deepEqual(refusalOf(answer), [400, 'InvalidSnapshotId'])
  })
})
