import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  DISK_ID,
  formRequest,
  type Given,
  IMAGE_ID,
  MACHINE_ID,
  machine,
  NEEDED,
  PROJECT_ID,
  SNAPSHOT_ID,
  signed,
  testDoor,
} from './fixture.ts'
import { actionOf } from './operation.ts'
import { OPERATIONS } from './operations/index.ts'
import type { ParameterTable } from './parameter.ts'
import { wireTables } from './tables.ts'

const PASSWORD = Buffer.from('Passw0rd!').toString('base64')

for (const operation of OPERATIONS) {
  const needed = NEEDED[operation.name] ?? assert.fail(operation.name)
  const { name } = operation

  test(`${name} has its name in policies`, () => {
    assert.equal(actionOf(operation)?.split(':')[1], name)
  })

  test(`${name} with what it needs is one call inward, unknown parameters are ignored`, async () => {
    const { ask, calls } = testDoor()
    const body = await ask({ Action: name, ...needed, Whatever: 'x', 'Whatever.2': 'y' })
    assert.equal(body.RetCode, 0, body.Message)
    assert.equal(body.Action, `${name}Response`)
    assert.deepEqual(
      calls.map((call) => call.useCase),
      // Stop and Poweroff are one use case inside, told apart by `how`.
      [operation.useCase.replace('poweroff', 'stop')],
    )
  })

  for (const [parameter, { isRequired }] of Object.entries(operation.parameters)) {
    if (!isRequired) continue
    test(`${name} without ${parameter}`, async () => {
      const { ask, calls } = testDoor()
      const { [parameter]: _, ...rest } = needed
      for (const given of [rest, { ...rest, [parameter]: '' }]) {
        const body = await ask({ Action: name, ...given })
        assert.deepEqual([body.RetCode, body.Message], [220, `Missing params [${parameter}]`])
      }
      assert.deepEqual(calls, [])
    })
  }

  if ('ProjectId' in operation.parameters) {
    test(`${name}: a sub-user names the project, the main account need not`, async () => {
      const { ProjectId, ...rest } = needed
      const { door, ask } = testDoor()
      const sub = async (given: Given) =>
        JSON.parse(
          (await door.handle(formRequest(signed(given, 'sub-key', 'sub-secret')))).body.toString(),
        ) as { RetCode: number; Message?: string }
      assert.equal((await ask({ Action: name, ...rest })).RetCode, 0)
      assert.equal((await sub({ Action: name, ...needed })).RetCode, 0)
      assert.equal((await sub({ Action: name, ...rest })).Message, 'Missing params [ProjectId]')
    })
  }
}

const optionals = (table: ParameterTable, prefix = ''): string[] =>
  Object.entries(table).flatMap(([name, { rule }]) => [
    prefix + name,
    ...optionals(rule.members ?? {}, `${prefix}${name}.`),
  ])

test('every parameter without effect, or refused, says why', () => {
  const check = (table: ParameterTable, at: string): void => {
    for (const [name, { effect, note, rule }] of Object.entries(table)) {
      assert.ok(effect === 'used' || note.length > 4, `${at}.${name}`)
      check(rule.members ?? {}, `${at}.${name}`)
    }
  }
  for (const { name, parameters } of OPERATIONS) check(parameters, name)
})

test('a whole CreateUHostInstance, with all that official clients send', async () => {
  const { ask, calls } = testDoor()
  const body = await ask({
    Action: 'CreateUHostInstance',
    ...NEEDED.CreateUHostInstance,
    LoginMode: 'Password',
    Password: PASSWORD,
    Name: 'web-01',
    CPU: '2',
    Memory: '4096',
    ChargeType: 'Dynamic',
    Quantity: '0',
    MaxCount: '1',
    MinCount: '1',
    MachineType: 'O',
    MinimalCpuPlatform: 'Intel/Cascadelake',
    'Disks.1.IsBoot': 'true',
    'Disks.1.Type': 'CLOUD_RSSD',
    'Disks.1.Size': '40',
    'Disks.1.Encrypted': 'false',
    'Disks.0.IsBoot': 'False',
    'Disks.0.Type': 'CLOUD_SSD',
    'Disks.0.Size': '20',
    'Disks.0.SnapshotId': SNAPSHOT_ID,
    'Disks.2.IsBoot': 'False',
    'Disks.2.Type': 'CLOUD_SSD',
    'Disks.2.Size': '30',
    'Disks.0.BackupType': 'SNAPSHOT',
    'Disks.0.BackupMode': 'Custom',
    'Disks.0.CustomBackup.Journal': '12',
    'Disks.0.CustomBackup.Hour': '24',
    'Disks.0.CustomBackup.Day': '5',
    'Features.UNI': 'true',
    HotplugFeature: 'False',
    'Labels.0.Key': 'env',
    'Labels.0.Value': '测试',
    'Labels.1.Key': 'plain',
    'NetworkInterface.0.CreateCernetIp': 'false',
    'NetworkInterface.0.EIP.Bandwidth': '10',
    'NetworkInterface.0.EIP.OperatorName': 'Bgp',
    'NetworkInterface.0.EIP.PayMode': 'Traffic',
    'NetworkInterface.0.IPv6.Address': 'Auto',
    'PrivateIp.0': '10.9.0.7',
    'SecGroupId.0.Id': 'secgroup-1',
    'SecGroupId.0.Priority': '1',
    SecurityGroupId: 'firewall-1',
    UserData: Buffer.from('#!/bin/sh').toString('base64'),
    GPU: '0',
  })
  assert.equal(body.RetCode, 0, body.Message)
  assert.deepEqual(calls[0]?.input, {
    regionId: 'cn-bj2',
    projectId: PROJECT_ID,
    zone: 'cn-bj2-02',
    imageId: IMAGE_ID.slice('uimage-'.length),
    name: 'web-01',
    numberedNames: false,
    count: 1,
    cpuCount: 2,
    memoryBytes: 4 * 1024 ** 3,
    typeName: 'O',
    systemDiskBytes: 40 * 1024 ** 3,
    systemDiskCategory: 'CLOUD_RSSD',
    dataDisks: [
      { sizeBytes: 20 * 1024 ** 3, category: 'CLOUD_SSD', snapshotId: '50000000000000000' },
      { sizeBytes: 30 * 1024 ** 3, category: 'CLOUD_SSD' },
    ],
    tag: 'Default',
    labels: [
      { key: 'env', value: '测试' },
      { key: 'plain', value: '' },
    ],
    details: {
      uhost: {
        ChargeType: 'Dynamic',
        NetCapability: 'Normal',
        UHostType: '',
        UHostFamily: '',
        MinimalCpuPlatform: 'Intel/Cascadelake',
      },
    },
  })
})

test('CreateCustomImage links data disks by the ids that DescribeUHostInstance shows', async () => {
  const { ask, calls } = testDoor({ machines: [machine()] })
  const shown = await ask({ Action: 'DescribeUHostInstance', Region: 'cn-bj2' })
  const [host] = shown.UHostSet as { DiskSet: { IsBoot: string; DiskId: string }[] }[]
  const disks = (host?.DiskSet ?? []).filter((disk) => disk.IsBoot === 'False').map((disk) => disk.DiskId)
  assert.deepEqual(disks, [DISK_ID])
  const given = { Action: 'CreateCustomImage', ...NEEDED.CreateCustomImage }
  const body = await ask({
    ...given,
    'DataUDiskIds.3': `d-${'2'.repeat(17)}`,
    'DataUDiskIds.1': disks[0] ?? '',
  })
  assert.deepEqual(body.DataSnapshotIds, [SNAPSHOT_ID, SNAPSHOT_ID.replace(/0$/, '1')])
  assert.deepEqual(calls[1]?.input, {
    regionId: 'cn-bj2',
    projectId: PROJECT_ID,
    machineId: 'abcdefg0123456789',
    name: 'a',
    description: undefined,
    tag: 'Default',
    disks: 'system',
    linkedDiskIds: ['d1111111111111111', '2'.repeat(17)],
  })
})

test('the old form of CreateUHostInstance: no Disks, DiskSpace 0; several hosts have no IPs in the answer', async () => {
  const { ask, calls } = testDoor()
  const given = { Action: 'CreateUHostInstance', ...NEEDED.CreateUHostInstance }
  const body = await ask({ ...given, DiskSpace: '0', MaxCount: '2', CPU: '1', Memory: '1024' })
  assert.deepEqual(Object.keys(body), ['RetCode', 'Action', 'UHostIds'])
  await ask({ ...given, DiskSpace: '10', BootDiskSpace: '40' })
  const inputs = calls.map(({ input }) => input as Record<string, unknown>)
  assert.deepEqual(
    inputs.map(({ systemDiskBytes, dataDisks, name, cpuCount }) => [
      systemDiskBytes,
      dataDisks,
      name,
      cpuCount,
    ]),
    [
      [undefined, [], 'UHost', 1],
      [40 * 1024 ** 3, [{ sizeBytes: 10 * 1024 ** 3, category: 'LOCAL_NORMAL' }], 'UHost', 4],
    ],
  )
})

test('CopyCustomImage: one region, the own region, a batch of one, a batch', async () => {
  const { ask, calls } = testDoor()
  const given = { Action: 'CopyCustomImage', ...NEEDED.CopyCustomImage }
  await ask({
    ...given,
    TargetRegion: 'hk',
    TargetImageName: '镜像-1',
    TargetImageDescription: 'x',
    TargetImageTag: 'y',
  })
  await ask({ ...given, TargetRegion: '', TargetImageName: '', TargetProjectId: 'org-dst002' })
  const one = await ask({ ...given, 'TargetRegionList.7': 'hk' })
  assert.deepEqual(Object.keys(one), ['RetCode', 'Action', 'Infos'])
  await ask({
    ...given,
    'TargetRegionList.10': 'hk',
    'TargetRegionList.2': 'cn-sh2',
    'TargetRegionList.3': '',
  })
  const inputs = calls.map(({ input }) => input as Record<string, unknown>)
  assert.deepEqual(
    inputs.map(({ targetRegionIds, targetProjectId, name, description, tag }) => [
      targetRegionIds,
      targetProjectId,
      name,
      description,
      tag,
    ]),
    [
      [['hk'], PROJECT_ID, '镜像-1', 'x', 'y'],
      [['cn-bj2'], 'org-dst002', undefined, undefined, undefined],
      [['hk'], PROJECT_ID, undefined, undefined, undefined],
      [['cn-sh2', 'hk'], PROJECT_ID, undefined, undefined, undefined],
    ],
  )
})

test('Stop presses the button, Poweroff pulls the plug, Terminate wants a stopped host', async () => {
  const { ask, calls } = testDoor()
  const given = NEEDED.StopUHostInstance
  await ask({ Action: 'StopUHostInstance', ...given })
  await ask({ Action: 'PoweroffUHostInstance', ...given })
  await ask({
    Action: 'TerminateUHostInstance',
    ...given,
    ReleaseUDisk: 'true',
    ReleaseEIP: '1',
    Destroy: '1',
  })
  const place = { regionId: 'cn-bj2', projectId: PROJECT_ID, machineIds: ['abcdefg0123456789'] }
  assert.deepEqual(
    calls.map((call) => call.input),
    [
      { ...place, how: 'graceful' },
      { ...place, how: 'power' },
      { ...place, stoppedOnly: true },
    ],
  )
})

test('DescribeImage and DescribeUHostInstance: filters inward, ids of any door, none for what nothing fits', async () => {
  const { ask, calls } = testDoor()
  const images = { Action: 'DescribeImage', Region: 'cn-bj2' }
  await ask(images)
  await ask({
    ...images,
    ImageType: 'Base',
    OsType: 'windows',
    Tag: 'x',
    Offset: '40',
    Limit: '1000',
    FuncType: 'uhost',
  })
  await ask({ ...images, ImageId: IMAGE_ID, 'ImageIds.0': 'm-0123456789abcdefh', 'ImageIds.1': 'no id' })
  await ask({ ...images, ImageId: 'uimage-unknown' })
  await ask({ ...images, ImageType: 'Business' })
  await ask({ ...images, FuncType: 'gpu' })
  const hosts = { Action: 'DescribeUHostInstance', Region: 'cn-bj2' }
  await ask({ ...hosts, Zone: 'cn-bj2-05', Tag: 'x', Offset: '1', Limit: '100', 'UHostIds.0': MACHINE_ID })
  await ask({ ...hosts, 'UHostIds.0': 'uhost-aaaa' })
  for (const name of ['IsolationGroup', 'VPCId', 'SubnetId', 'UDiskIdForAttachment'])
    await ask({ ...hosts, [name]: 'x' })
  const filters = calls.map(({ input }) => {
    const { filter, paging } = input as { filter: Record<string, unknown>; paging: object }
    const { regionId, projectId, ...rest } = filter
    assert.deepEqual([regionId, projectId], ['cn-bj2', undefined])
    return [rest, paging]
  })
  const usual = { offset: 0, limit: 20 }
  assert.deepEqual(filters, [
    [{}, usual],
    [
      { kinds: ['base'], osType: 'Windows', tag: 'x' },
      { offset: 40, limit: 1000 },
    ],
    [{ ids: ['0123456789abcdefg', '0123456789abcdefh'] }, usual],
    [{ ids: [] }, usual],
    [{ ids: [], kinds: ['custom'] }, usual],
    [{ ids: [] }, usual],
    [
      { ids: ['abcdefg0123456789'], zone: 'cn-bj2-05', tag: 'x' },
      { offset: 1, limit: 100 },
    ],
    [{ ids: [] }, usual],
    ...Array.from({ length: 4 }, () => [{ ids: [] }, usual]),
  ])
})

test('docs/wire-uhost.md holds the tables as they are', () => {
  const document = readFileSync(new URL('../../../docs/wire-uhost.md', import.meta.url), 'utf8')
  assert.ok(
    document.endsWith(wireTables()),
    'write the output of wireTables() to the end of docs/wire-uhost.md',
  )
  for (const operation of OPERATIONS) {
    for (const name of optionals(operation.parameters))
      assert.ok(document.includes(name.split('.').at(-1) ?? ''))
  }
})
