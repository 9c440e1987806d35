import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DISK_ID, type Given, MACHINE_ID, NEEDED, SNAPSHOT_ID, testDoor } from './fixture.ts'
import { OPERATIONS } from './operations/index.ts'

const DISK: Given = { 'Disks.0.IsBoot': 'True', 'Disks.0.Type': 'CLOUD_RSSD', 'Disks.0.Size': '40' }

/** Everything that Region, Zone and ProjectId may not be, once for all operations. */
const ANYWHERE: readonly (readonly [string, Given, number])[] = [
  ['Region', { Region: 'cn-nowhere' }, 230],
  ['Region', { 'Region.0': 'cn-bj2' }, 230],
  ['Zone', { Zone: 'hk-02' }, 230],
  ['Project', { ProjectId: 'project-1' }, 292],
]
const BAD: Readonly<Record<string, readonly (readonly [string, Given, number?])[]>> = {
  GetProjectList: [['IsFinance', { IsFinance: 'Maybe' }]],
  DescribeImage: [
    ['ImageType', { ImageType: 'Private' }],
    ['OsType', { OsType: 'Plan9' }],
    ['ImageId', { ImageId: 'x'.repeat(65) }, 240],
    ['ImageIds', { ImageIds: 'x' }],
    ['ImageIds', { 'ImageIds.first': 'x' }],
    ['ImageIds', { 'ImageIds.1': 'x', 'ImageIds.01': 'y' }],
    ['Tag', { Tag: 'a b' }],
    ['Offset', { Offset: '-1' }],
    ['Limit', { Limit: '0' }],
    ['Limit', { Limit: '1001' }, 240],
    ['Limit', { Limit: '1.5' }],
    ['PriceSet', { PriceSet: '2' }, 240],
  ],
  CreateCustomImage: [
    ['ImageName', { ImageName: 'a b' }],
    ['ImageName', { ImageName: 'x'.repeat(64) }, 240],
    ['ImageDescription', { ImageDescription: 'x'.repeat(256) }, 240],
    ['Tag', { Tag: '<>' }],
    ['DataUDiskIds', { DataUDiskIds: DISK_ID }],
    ['DataUDiskIds', { 'DataUDiskIds.first': DISK_ID }],
    ['DataUDiskIds', { 'DataUDiskIds.0': DISK_ID, 'DataUDiskIds.1': DISK_ID }],
    [
      'DataUDiskIds',
      Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`DataUDiskIds.${index}`, DISK_ID])),
      240,
    ],
  ],
  ImportCustomImage: [
    ['ImageName', { ImageName: 'a b' }],
    ['UFileUrl', { UFileUrl: 'ftp://example.com/x' }],
    ['UFileUrl', { UFileUrl: 's3://bucket/x' }],
    ['UFileUrl', { UFileUrl: 'file:///etc/passwd' }],
    ['UFileUrl', { UFileUrl: '/etc/passwd' }],
    ['UFileUrl', { UFileUrl: 'https://example.com/a\nb' }],
    ['UFileUrl', { UFileUrl: `https://example.com/${'x'.repeat(4096)}` }, 240],
    ['UFileUrl', { 'UFileUrl.0': 'https://example.com/x' }],
    ['OsType', { OsType: 'x'.repeat(65) }, 240],
    ['OsName', { OsName: 'x'.repeat(129) }, 240],
    ['Format', { Format: 'VHDX' }],
    ['Auth', { Auth: 'false' }],
    ['Auth', { Auth: 'yes' }],
    ['Tag', { Tag: '<>' }],
    ['ImageDescription', { ImageDescription: 'x'.repeat(256) }, 240],
  ],
  CopyCustomImage: [
    ['Project', { TargetProjectId: 'nobody' }, 292],
    ['TargetRegion', { TargetRegion: 'cn-nowhere' }],
    ['TargetImageName', { TargetImageName: 'a/b' }],
    ['TargetImageDescription', { TargetImageDescription: '镜'.repeat(256) }, 240],
    ['TargetImageTag', { TargetImageTag: 'a b' }],
    ['TargetRegionList.1', { 'TargetRegionList.0': 'hk', 'TargetRegionList.1': 'cn-nowhere' }],
    ['TargetRegionList', { 'TargetRegionList.0': 'hk', 'TargetRegionList.1': 'hk' }],
    ['TargetRegionList', { 'TargetRegionList.0': 'hk', TargetRegion: 'hk' }],
    [
      'TargetRegionList',
      Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`TargetRegionList.${index}`, 'hk'])),
      240,
    ],
  ],
  DescribeUHostInstance: [
    ['Limit', { Limit: '101' }, 240],
    ['Limit', { Limit: 'ten' }],
    ['Offset', { Offset: '9'.repeat(16) }],
    ['UHostIds', { UHostIds: MACHINE_ID }],
    ['Tag', { Tag: 'a b' }],
  ],
  StartUHostInstance: [['DiskPassword', { DiskPassword: 'x'.repeat(129) }, 240]],
  TerminateUHostInstance: [
    ['ReleaseEIP', { ReleaseEIP: 'maybe' }],
    ['ReleaseUDisk', { ReleaseUDisk: 'Yes' }],
    ['Destroy', { Destroy: '2' }, 240],
  ],
  CreateUHostInstance: [
    ['CPU', { CPU: '0' }],
    ['CPU', { CPU: '65' }, 240],
    ['Memory', { Memory: '1025' }],
    ['Memory', { Memory: '263168' }, 240],
    ['MaxCount', { MaxCount: '101' }, 240],
    ['MinCount', { MaxCount: '1', MinCount: '2' }],
    ['Name', { Name: 'a\nb' }],
    ['Tag', { Tag: 'a b' }],
    ['LoginMode', { LoginMode: 'None' }],
    ['Password', { Password: 'Passw0rd!' }],
    ['Password', { Password: Buffer.from('Ab1!').toString('base64') }],
    ['Password', { Password: Buffer.from('x'.repeat(31)).toString('base64') }],
    ['Password', { Password: Buffer.from('x'.repeat(10)).toString('base64') }],
    ['KeyPairId', { LoginMode: 'KeyPair', KeyPairId: 'kp-1' }],
    ['ChargeType', { ChargeType: 'Decade' }],
    ['Quantity', { Quantity: '-1' }],
    ['NetCapability', { NetCapability: 'Warp' }],
    ['GPU', { GPU: '1' }],
    ['GpuType', { GpuType: 'x'.repeat(33) }, 240],
    ['HotplugFeature', { HotplugFeature: 'perhaps' }],
    ['MachineType', { MachineType: '-' }],
    ['UHostFamily', { UHostFamily: 'o 1' }],
    ['UHostType', { UHostType: 'ü' }],
    ['MinimalCpuPlatform', { MinimalCpuPlatform: 'Intel Auto' }],
    ['PrivateIp.0', { 'PrivateIp.0': '10.0.0' }],
    ['PrivateIp', { 'PrivateIp.0': '10.0.0.1', 'PrivateIp.1': '10.0.0.2' }, 240],
    ['SecurityMode', { SecurityMode: 'Wall' }],
    ['SecGroupId.0.Priority', { 'SecGroupId.0.Id': 'x', 'SecGroupId.0.Priority': '6' }, 240],
    ['NetworkInterface.0.EIP.PayMode', { 'NetworkInterface.0.EIP.PayMode': 'Gold' }],
    ['NetworkInterface.0.EIP.OperatorName', { 'NetworkInterface.0.EIP.OperatorName': 'Bgq' }],
    ['NetworkInterface.0.EIP.Bandwidth', { 'NetworkInterface.0.EIP.Bandwidth': 'x' }],
    ['NetworkInterface.0.EIP', { 'NetworkInterface.0.EIP': 'x' }],
    ['NetworkInterface.0.CreateCernetIp', { 'NetworkInterface.0.CreateCernetIp': 'x' }],
    ['UserData', { UserData: Buffer.alloc(16 * 1024 + 1).toString('base64') }, 240],
    ['UserData', { UserData: '#!/bin/sh' }],
    ['AutoDataDiskInit', { AutoDataDiskInit: 'Maybe' }],
    ['Features.UNI', { 'Features.UNI': 'x' }],
    ['DeletionProtection', { DeletionProtection: 'true' }],
    ['HostBinding', { HostBinding: 'x' }],
    ['AlarmTemplateId', { AlarmTemplateId: 'x' }],
    ['TimemachineFeature', { TimemachineFeature: 'x' }],
    ['BootDiskSpace', { BootDiskSpace: '8001' }, 240],
    ['DiskSpace', { ...DISK, DiskSpace: '10' }],
    ['BootDiskSpace', { ...DISK, BootDiskSpace: '40' }],
    ['Disks', { ...DISK, 'Disks.0.IsBoot': 'False' }],
    ['Disks', { ...DISK, 'Disks.1.IsBoot': 'true', 'Disks.1.Type': 'CLOUD_SSD', 'Disks.1.Size': '20' }],
    ['Disks.0.IsBoot', { ...DISK, 'Disks.0.IsBoot': 'x' }],
    ['Disks.0.Type', { ...DISK, 'Disks.0.Type': 'fast' }],
    ['Disks.0.Size', { ...DISK, 'Disks.0.Size': '0' }],
    ['Disks.0.Size', { ...DISK, 'Disks.0.Size': '8001' }, 240],
    ['Disks.0.BackupType', { ...DISK, 'Disks.0.BackupType': 'x' }],
    ['Disks.0.BackupMode', { ...DISK, 'Disks.0.BackupMode': 'x' }],
    ['Disks.0.CustomBackup.Journal', { ...DISK, 'Disks.0.CustomBackup.Journal': '13' }],
    ['Disks.0.CustomBackup.Hour', { ...DISK, 'Disks.0.CustomBackup.Hour': '12' }],
    ['Disks.0.CustomBackup.Day', { ...DISK, 'Disks.0.CustomBackup.Day': '1' }],
    ['Disks.0.Encrypted', { ...DISK, 'Disks.0.Encrypted': 'true' }],
    ['Disks', { ...DISK, 'Disks.0.SnapshotId': SNAPSHOT_ID }],
    ['Disks.0.SnapshotId', { ...DISK, 'Disks.0.SnapshotId.0': SNAPSHOT_ID }],
    ['Labels.0.Key', { 'Labels.0.Key': 'x'.repeat(65) }, 240],
    ['Labels', { Labels: 'env' }],
  ],
}
for (const { name, parameters } of OPERATIONS) {
  const anywhere = 'Region' in parameters ? ANYWHERE : []
  for (const [field, change, retCode = 230] of [...anywhere, ...(BAD[name] ?? [])]) {
    test(`${name} refuses ${JSON.stringify(change).slice(0, 80)}`, async () => {
      const { ask, calls, reports } = testDoor()
      const { [Object.keys(change)[0]?.split('.')[0] ?? '']: _, ...rest } = NEEDED[name] ?? {}
      const body = await ask({ Action: name, ...rest, ...change })
      assert.equal(body.RetCode, retCode, body.Message)
      const form = { 230: `Params [${field}] not available: `, 240: `Params [${field}] too large: ` }[retCode]
      assert.ok(body.Message.startsWith(form ?? 'Project not exists: '), body.Message)
      assert.deepEqual([calls, reports], [[], []])
    })
  }
}

for (const [given, missing] of [
  [{ 'Disks.0.IsBoot': 'True', 'Disks.0.Type': 'CLOUD_SSD' }, 'Disks.0.Size'],
  [{ 'Labels.0.Value': 'x' }, 'Labels.0.Key'],
  [{ 'SecGroupId.3.Priority': '1' }, 'SecGroupId.3.Id'],
  [{ LoginMode: 'Password' }, 'Password'],
  [{ LoginMode: 'KeyPair' }, 'KeyPairId'],
] as const satisfies readonly (readonly [Given, string])[]) {
  test(`CreateUHostInstance misses ${missing}`, async () => {
    const { ask } = testDoor()
    const body = await ask({ Action: 'CreateUHostInstance', ...NEEDED.CreateUHostInstance, ...given })
    assert.deepEqual([body.RetCode, body.Message], [220, `Missing params [${missing}]`])
  })
}

for (const [action, parameter, subject] of [
  ['CreateCustomImage', 'UHostId', 8039],
  ['CreateCustomImage', 'DataUDiskIds.0', 17041],
  ['CopyCustomImage', 'SourceImageId', 8956],
  ['GetImageCopyProgress', 'ImageId', 8971],
  ['TerminateCustomImage', 'ImageId', 8956],
  ['CreateUHostInstance', 'ImageId', 8846],
  ['CreateUHostInstance', 'Disks.1.SnapshotId', 17045],
  ['StartUHostInstance', 'UHostId', 8039],
  ['StopUHostInstance', 'UHostId', 8039],
  ['PoweroffUHostInstance', 'UHostId', 8039],
  ['TerminateUHostInstance', 'UHostId', 8039],
] as const) {
  test(`${action}: an id that nobody could have been given is unknown`, async () => {
    const { ask, calls } = testDoor()
    const disk: Given = { 'Disks.1.IsBoot': 'False', 'Disks.1.Type': 'CLOUD_SSD', 'Disks.1.Size': '20' }
    const given = { ...NEEDED[action], ...(parameter.startsWith('Disks') && { ...DISK, ...disk }) }
    const body = await ask({ Action: action, ...given, [parameter]: 'f43736e1-65a5' })
    assert.equal(body.RetCode, subject)
    assert.deepEqual(calls, [])
  })
}
